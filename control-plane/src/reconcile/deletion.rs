//! Instances whose time of grace is over are deleted.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use nemordp_model::{SagaKind, Wish};
use nemordp_store::{Store, StoreError, TenantScope};
use nemordp_types::{Clock, Entropy, Failure};

use super::{Outcome, Reconciler};
use crate::saga::{Engine, plan};

/// Deletions that one run begins; the next run goes on.
const AT_ONCE: u32 = 200;

/// Begins the deletion of what is overdue.
#[derive(Debug)]
pub struct Deletion {
    store: Store,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    engine: Engine,
}

impl Deletion {
    /// Over this store; the engine is told when there is work.
    #[must_use]
    pub const fn new(store: Store, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>, engine: Engine) -> Self {
        Self { store, clock, entropy, engine }
    }

    async fn look(&self) -> Result<Outcome, Failure> {
        let overdue = self.store.instance_list_overdue(self.clock.now(), AT_ONCE).await?;
        let (found, mut begun) = (overdue.len(), 0);
        for id in overdue {
            let saga = plan::begin(SagaKind::Delete, self.clock.as_ref(), self.entropy.as_ref())?;
            match self.store.instance_change(TenantScope::All, id, &Wish::Delete, &saga, None).await {
                Ok(_) => {
                    tracing::info!(instance_id = %id, "its time of grace is over: it is deleted");
                    begun += 1;
                }
                // Restored, or deleted by somebody who did not want to wait, since it was listed.
                Err(StoreError::Refused(refusal)) => tracing::debug!(instance_id = %id, %refusal, "not deleted"),
                Err(error) => return Err(error.into()),
            }
        }
        if begun > 0 {
            self.engine.poke();
        }
        Ok(format!("{found} instances overdue, {begun} deletions begun").into())
    }
}

impl Reconciler for Deletion {
    fn name(&self) -> &'static str {
        "deletion"
    }

    fn purpose(&self) -> &'static str {
        "instances whose time of grace is over are deleted"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(15)
    }

    fn run(&self) -> BoxFuture<'_, Result<Outcome, Failure>> {
        self.look().boxed()
    }
}
