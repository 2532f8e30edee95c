//! Nodes whose heartbeats stay away become suspect, then lost. Nothing is rebuilt from a node that was not fenced.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use nemordp_model::HealthPolicy;
use nemordp_store::{Page, Store};
use nemordp_types::node::{NodeAvailability, NodePolicy};
use nemordp_types::{Clock, Failure};
use std::sync::Arc;

use super::{Outcome, Reconciler};

/// Compares each node's last heartbeat with the present.
#[derive(Debug)]
pub struct NodeHealth {
    store: Store,
    clock: Arc<dyn Clock>,
    policy: HealthPolicy,
    period: Duration,
}

impl NodeHealth {
    /// With the operator's patience.
    #[must_use]
    pub fn new(store: Store, clock: Arc<dyn Clock>, policy: HealthPolicy) -> Self {
        let period = (policy.suspect_after / 6).clamp(Duration::from_millis(500), Duration::from_secs(5));
        Self { store, clock, policy, period }
    }

    async fn look(&self) -> Result<Outcome, Failure> {
        let (mut seen, mut changed) = (0, Vec::new());
        let mut page = Page::first(200);
        loop {
            let nodes = self.store.node_list(page).await?;
            for node in nodes.items.iter().filter(|node| node.policy != NodePolicy::Decommissioned) {
                seen += 1;
                let next = self.policy.availability(node.availability, node.last_heartbeat_at, self.clock.now());
                // Only a heartbeat makes a node available again.
                let worse =
                    matches!(next, NodeAvailability::Suspect | NodeAvailability::Lost) && next != node.availability;
                if worse && self.store.node_set_availability(node.id, node.availability, next).await? {
                    tracing::warn!(node_id = %node.id, from = ?node.availability, to = ?next, "heartbeats stay away");
                    changed.push(format!("{} is {next:?}", node.name));
                }
            }
            let Some(next) = nodes.next else { break };
            page = Page::after(next, 200);
        }
        let text =
            if changed.is_empty() { format!("{seen} nodes as before") } else { changed.join(", ").to_lowercase() };
        Ok(text.into())
    }
}

impl Reconciler for NodeHealth {
    fn name(&self) -> &'static str {
        "node_health"
    }

    fn purpose(&self) -> &'static str {
        "a node whose heartbeats stay away becomes suspect, then lost"
    }

    fn period(&self) -> Duration {
        self.period
    }

    fn run(&self) -> BoxFuture<'_, Result<Outcome, Failure>> {
        self.look().boxed()
    }
}
