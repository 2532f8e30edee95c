//! Instances whose node missed a change while it was fenced are brought in line when it is back, before they may start.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use nemordp_model::{SagaKind, Wish};
use nemordp_store::{Store, StoreError, TenantScope};
use nemordp_types::{Clock, Entropy, Failure};

use super::{Outcome, Reconciler};
use crate::saga::{Engine, plan};

/// Instances that one run begins with; the next run goes on.
const AT_ONCE: u32 = 200;

/// Begins what brings them in line.
#[derive(Debug)]
pub struct Realignment {
    store: Store,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    engine: Engine,
}

impl Realignment {
    /// Over this store; the engine is told when there is work.
    #[must_use]
    pub const fn new(store: Store, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, engine: Engine) -> Self {
        Self { store, clock, entropy, engine }
    }

    async fn look(&self) -> Result<Outcome, Failure> {
        let misaligned = self.store.instance_list_misaligned(AT_ONCE).await?;
        let (found, mut begun) = (misaligned.len(), 0);
        for id in misaligned {
            let saga = plan::begin(SagaKind::Realign, self.clock.as_ref(), self.entropy.as_ref())?;
            match self.store.instance_change(TenantScope::All, id, &Wish::Realign, &saga, None).await {
                Ok(_) => {
                    tracing::info!(instance_id = %id, "its node is back: it is brought in line");
                    begun += 1;
                }
                // Deleted, or other work began on it, since it was listed.
                Err(StoreError::Refused(refusal)) => {
                    tracing::debug!(instance_id = %id, %refusal, "not brought in line")
                }
                Err(error) => return Err(error.into()),
            }
        }
        if begun > 0 {
            self.engine.poke();
        }
        Ok(format!("{found} instances out of line on nodes that are back, {begun} begun").into())
    }
}

impl Reconciler for Realignment {
    fn name(&self) -> &'static str {
        "realignment"
    }

    fn purpose(&self) -> &'static str {
        "what a node missed while it was fenced is done when it is back, before its instances start"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn run(&self) -> BoxFuture<'_, Result<Outcome, Failure>> {
        self.look().boxed()
    }
}
