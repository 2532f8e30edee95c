//! Nodes are told ahead when an instance is to be suspended, so that it happens whoever can be reached then.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use nemordp_model::Suspension;
use nemordp_providers::{Place, Provider};
use nemordp_store::{Store, TenantScope};
use nemordp_types::{Failure, Mutation, Reason};

use super::{Outcome, Reconciler};

/// Tells nodes what is scheduled, and what is not any more.
#[derive(Debug)]
pub struct SuspensionsAhead {
    store: Store,
    provider: Arc<dyn Provider>,
}

impl SuspensionsAhead {
    /// Over this store and these nodes.
    #[must_use]
    pub fn new(store: Store, provider: Arc<dyn Provider>) -> Self {
        Self { store, provider }
    }

    async fn look(&self) -> Result<Outcome, Failure> {
        let (mut told, mut waiting) = (0, Vec::new());
        for suspension in self.store.suspension_untold().await? {
            match self.tell(&suspension).await {
                Ok(()) => told += 1,
                Err(failure) => waiting.push(format!("{}: {}", suspension.instance_id, failure.message)),
            }
        }
        if waiting.is_empty() {
            return Ok(format!("{told} told").into());
        }
        waiting.truncate(5);
        Ok(format!("{told} told, the next run tries again: {}", waiting.join("; ")).into())
    }

    async fn tell(&self, suspension: &Suspension) -> Result<(), Failure> {
        let instance = self.store.instance_fetch(TenantScope::All, suspension.instance_id).await?;
        if !instance.lifecycle.is_live() {
            self.store.suspension_forget(suspension.instance_id, suspension.operation_id).await?;
            return Ok(());
        }
        // After a restore its node may know better.
        instance.require_thawed()?;
        let node = self.store.node_fetch(instance.node_id).await?;
        let place = Place { node: node.id, address: node.agent_address };
        let mutation =
            Mutation { operation_id: suspension.operation_id, instance_id: instance.id, pair: instance.pair() };
        let cancelled = suspension.state == nemordp_model::SuspensionState::Cancelling;
        let at = (!cancelled).then_some(suspension.at);
        match self.provider.suspend_at(&place, mutation, at).await {
            Ok(()) => {}
            // Nothing of it is there, so there is nothing to take back either.
            Err(failure) if cancelled && matches!(failure.reason, Reason::NotFound | Reason::InstanceDeleted) => {}
            Err(failure) => return Err(failure),
        }
        Ok(self.store.suspension_told(suspension, node.id).await?)
    }
}

impl Reconciler for SuspensionsAhead {
    fn name(&self) -> &'static str {
        "suspensions"
    }

    fn purpose(&self) -> &'static str {
        "nodes know ahead when an instance is to be suspended, and do it whoever can be reached then"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(10)
    }

    fn run(&self) -> BoxFuture<'_, Result<Outcome, Failure>> {
        self.look().boxed()
    }
}
