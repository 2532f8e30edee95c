//! Undos that failed because a node was away go on when it is back; all other stuck sagas wait for a human.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use nemordp_model::{Saga, SagaStatus};
use nemordp_store::{Page, SagaFilter, Store, StoreError, TenantScope};
use nemordp_types::node::NodeAvailability;
use nemordp_types::{Clock, Failure, Retry};

use super::{Outcome, Reconciler};
use crate::saga::Engine;

/// How long a saga stays stuck at least: each new try calls the operator again when it fails.
const REST: Duration = Duration::from_secs(300);

/// Takes stuck sagas up again whose node answers again.
#[derive(Debug)]
pub struct SecondChance {
    store: Store,
    clock: Arc<dyn Clock>,
    engine: Engine,
}

impl SecondChance {
    /// Over this store; the engine is told when there is work.
    #[must_use]
    pub const fn new(store: Store, clock: Arc<dyn Clock>, engine: Engine) -> Self {
        Self { store, clock, engine }
    }

    async fn look(&self) -> Result<Outcome, Failure> {
        let (mut stuck, mut resumed) = (0, 0);
        let filter = SagaFilter { status: Some(SagaStatus::Stuck), ..SagaFilter::default() };
        let mut page = Page::first(200);
        loop {
            let sagas = self.store.saga_list(TenantScope::All, filter, page).await?;
            for saga in &sagas.items {
                stuck += 1;
                if self.may_go_on(saga).await? && self.resume(saga).await? {
                    resumed += 1;
                }
            }
            let Some(next) = sagas.next else { break };
            page = Page::after(next, 200);
        }
        metrics::gauge!("nemordp_saga_stuck").set(f64::from(stuck - resumed));
        if resumed > 0 {
            self.engine.poke();
        }
        Ok(format!("{stuck} stuck sagas, {resumed} taken up again").into())
    }

    /// Only what failed for want of an answer, from a node that answers now.
    async fn may_go_on(&self, saga: &Saga) -> Result<bool, Failure> {
        let rested = saga.updated_at.checked_add(REST).is_ok_and(|until| until <= self.clock.now());
        let passing = saga.failure.as_ref().is_some_and(|failure| failure.reason.retry() == Retry::Transient);
        let Some(instance_id) = saga.instance_id.filter(|_| rested && passing) else { return Ok(false) };
        let instance = self.store.instance_fetch(TenantScope::All, instance_id).await?;
        Ok(self.store.node_fetch(instance.node_id).await?.availability == NodeAvailability::Available)
    }

    async fn resume(&self, saga: &Saga) -> Result<bool, Failure> {
        match self.store.saga_resume(TenantScope::All, saga.id, None, None).await {
            Ok(_) => {
                tracing::info!(saga_id = %saga.id, kind = %saga.kind, "its node is back: a stuck saga goes on");
                Ok(true)
            }
            // Somebody else was quicker, or newer work is under way on the instance.
            Err(StoreError::Refused(refusal)) => {
                tracing::debug!(saga_id = %saga.id, %refusal, "a stuck saga is left alone");
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Reconciler for SecondChance {
    fn name(&self) -> &'static str {
        "second_chance"
    }

    fn purpose(&self) -> &'static str {
        "an undo that failed because its node was away goes on when the node is back"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn run(&self) -> BoxFuture<'_, Result<Outcome, Failure>> {
        self.look().boxed()
    }
}
