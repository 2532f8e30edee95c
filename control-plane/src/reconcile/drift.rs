//! Compares what nodes run with what orders own. It only tells: an instance that no order owns may be a customer's whom a
//! restored store has forgotten, so removing one is an operator's decision.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use nemordp_model::{Instance, Lifecycle, Node};
use nemordp_providers::{Place, Provider};
use nemordp_store::{InstanceFilter, Page, Store, StoreError, TenantScope};
use nemordp_types::instance::InstanceStatus;
use nemordp_types::node::{NodeAvailability, NodePolicy};
use nemordp_types::{Failure, InstanceId, NodeId};

use super::Reconciler;

/// What is wrong with an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finding {
    /// A node runs an instance with our mark that the store does not know.
    Unknown,
    /// A node still has an instance that ended, or was moved elsewhere.
    Leftover,
    /// An instance that was handed over is not on its node.
    Missing,
    /// A node has seen higher numbers than the store knows: the store was restored from a backup.
    StoreBehind,
}

impl Finding {
    /// Every kind, for metrics.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Leftover, Self::Missing, Self::StoreBehind];

    /// Its word in metrics and messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Leftover => "leftover",
            Self::Missing => "missing",
            Self::StoreBehind => "store_behind",
        }
    }
}

/// Looks at every node that answers.
#[derive(Debug)]
pub struct Drift {
    store: Store,
    provider: Arc<dyn Provider>,
}

impl Drift {
    /// Over this store and these nodes.
    #[must_use]
    pub fn new(store: Store, provider: Arc<dyn Provider>) -> Self {
        Self { store, provider }
    }

    /// All findings at present, and the nodes that could not be asked.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn audit(&self) -> Result<(BTreeMap<Finding, Vec<InstanceId>>, Vec<NodeId>), Failure> {
        let (mut findings, mut silent) = (BTreeMap::<Finding, Vec<InstanceId>>::new(), Vec::new());
        let mut page = Page::first(200);
        loop {
            let nodes = self.store.node_list(page).await?;
            for node in nodes.items.iter().filter(|node| is_asked(node)) {
                // Read before the node is asked: what is made in between is not missing.
                let expected = self.expected(node.id).await?;
                let place = Place { node: node.id, address: node.agent_address };
                match self.provider.instances(&place).await {
                    Ok(seen) => self.compare(node.id, &expected, &seen, &mut findings).await?,
                    Err(failure) => {
                        tracing::debug!(node_id = %node.id, %failure, "a node was not asked about its instances");
                        silent.push(node.id);
                    }
                }
            }
            let Some(next) = nodes.next else { break };
            page = Page::after(next, 200);
        }
        Ok((findings, silent))
    }

    /// The instances that were handed over and live on a node.
    async fn expected(&self, node: NodeId) -> Result<Vec<InstanceId>, Failure> {
        let filter = InstanceFilter { node_id: Some(node), lifecycle: Some(Lifecycle::Active) };
        let (mut found, mut page) = (Vec::new(), Page::first(500));
        loop {
            let instances = self.store.instance_list(TenantScope::All, filter, page).await?;
            found.extend(instances.items.iter().map(|instance| instance.id));
            let Some(next) = instances.next else { return Ok(found) };
            page = Page::after(next, 500);
        }
    }

    async fn known(&self, id: InstanceId) -> Result<Option<Instance>, Failure> {
        match self.store.instance_fetch(TenantScope::All, id).await {
            Ok(instance) => Ok(Some(instance)),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn compare(
        &self,
        node: NodeId,
        expected: &[InstanceId],
        seen: &[InstanceStatus],
        findings: &mut BTreeMap<Finding, Vec<InstanceId>>,
    ) -> Result<(), Failure> {
        let mut note = |finding: Finding, id: InstanceId| {
            tracing::warn!(node_id = %node, instance_id = %id, finding = finding.word(), "node and store disagree");
            findings.entry(finding).or_default().push(id);
        };
        for status in seen {
            match self.known(status.instance_id).await? {
                None => note(Finding::Unknown, status.instance_id),
                Some(known) if known.is_behind(status) => note(Finding::StoreBehind, known.id),
                Some(known) if known.node_id != node || !known.lifecycle.is_live() => note(Finding::Leftover, known.id),
                Some(_) => {}
            }
        }
        for id in expected.iter().filter(|id| seen.iter().all(|status| status.instance_id != **id)) {
            // Deleted or moved while the node was asked is no finding.
            let still = self.known(*id).await?;
            if still.is_some_and(|now| now.lifecycle == Lifecycle::Active && now.node_id == node) {
                note(Finding::Missing, *id);
            }
        }
        Ok(())
    }

    async fn look(&self) -> Result<String, Failure> {
        let (findings, silent) = self.audit().await?;
        for finding in Finding::ALL {
            let count = findings.get(&finding).map_or(0, Vec::len);
            let count = u32::try_from(count).map_or(f64::MAX, f64::from);
            metrics::gauge!("nemordp_drift_findings", "finding" => finding.word()).set(count);
        }
        let mut words: Vec<String> =
            findings.iter().map(|(finding, ids)| format!("{} {}", ids.len(), finding.word())).collect();
        if words.is_empty() {
            words.push("nodes and store agree".to_owned());
        }
        if !silent.is_empty() {
            words.push(format!("{} nodes did not answer", silent.len()));
        }
        Ok(words.join(", "))
    }
}

fn is_asked(node: &Node) -> bool {
    node.policy != NodePolicy::Decommissioned
        && matches!(node.availability, NodeAvailability::Available | NodeAvailability::Suspect)
}

impl Reconciler for Drift {
    fn name(&self) -> &'static str {
        "drift"
    }

    fn purpose(&self) -> &'static str {
        "what nodes run is compared with what orders own; differences are told, nothing is removed"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(60)
    }

    fn run(&self) -> BoxFuture<'_, Result<String, Failure>> {
        self.look().boxed()
    }
}
