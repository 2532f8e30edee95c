//! The money-leak check: orders, what is held for them, and what nodes run, at one instant.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt as _};
use jiff::Timestamp;
use nemordp_model::audit::{Facts, Finding, FindingKind, NodeWord, audit, drift};
use nemordp_model::{Freeze, Node};
use nemordp_providers::{Place, Provider};
use nemordp_store::{Page, Store};
use nemordp_types::node::{NodeAvailability, NodePolicy};
use nemordp_types::{Clock, Failure, InstanceId, NodeId};

use super::{Outcome, Reconciler};

/// Nodes that are asked at the same time.
const NODES_AT_ONCE: usize = 32;

/// What a check saw.
#[derive(Debug, Clone)]
pub struct Report {
    /// When the nodes were asked.
    pub at: Timestamp,
    /// Orders that were compared.
    pub orders: usize,
    /// Instances that were compared.
    pub instances: usize,
    /// Nodes that were asked.
    pub nodes: usize,
    /// What does not fit.
    pub findings: Vec<Finding>,
}

/// Collects the facts and has them compared.
#[derive(Debug, Clone)]
pub struct Auditor {
    store: Store,
    provider: Arc<dyn Provider>,
    clock: Arc<dyn Clock>,
    last: Arc<Mutex<Option<Report>>>,
}

impl Auditor {
    /// Over this store and these nodes.
    #[must_use]
    pub fn new(store: Store, provider: Arc<dyn Provider>, clock: Arc<dyn Clock>) -> Self {
        Self { store, provider, clock, last: Arc::default() }
    }

    /// Compares everything with everything.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn audit(&self) -> Result<Report, Failure> {
        let (at, words) = self.words().await?;
        let facts = self.store.audit_facts(&reported(&words)).await?;
        let facts = Facts { words, ..facts };
        let report = report(at, &facts, audit(&facts));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.clone());
        Ok(report)
    }

    /// The last check of this process, if there was one.
    #[must_use]
    pub fn last(&self) -> Option<Report> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Compares what nodes run with what is wanted of them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn drift(&self) -> Result<Report, Failure> {
        let (at, words) = self.words().await?;
        let facts = self.store.drift_facts(&reported(&words)).await?;
        let facts = Facts { words, ..facts };
        Ok(report(at, &facts, drift(&facts)))
    }

    /// The gauge of frozen instances.
    pub(super) async fn tell_frozen(&self) -> Result<(), Failure> {
        let frozen: BTreeMap<Freeze, u64> = self.store.instance_frozen_count().await?.into_iter().collect();
        for why in Freeze::ALL {
            let count = frozen.get(why).copied().unwrap_or_default();
            metrics::gauge!("nemordp_instance_frozen", "reason" => why.word()).set(count as f64);
        }
        Ok(())
    }

    /// What every node says that can be asked; the store is read after the last of them.
    async fn words(&self) -> Result<(Timestamp, BTreeMap<NodeId, NodeWord>), Failure> {
        let (at, mut nodes, mut page) = (self.clock.now(), Vec::new(), Page::first(200));
        loop {
            let paged = self.store.node_list(page).await?;
            nodes.extend(paged.items.into_iter().filter(is_asked));
            let Some(next) = paged.next else { break };
            page = Page::after(next, 200);
        }
        let words = stream::iter(nodes).map(|node| async move { Some((node.id, self.word(&node).await?)) });
        Ok((at, words.buffer_unordered(NODES_AT_ONCE).filter_map(std::future::ready).collect().await))
    }

    async fn word(&self, node: &Node) -> Option<NodeWord> {
        let (asked_at, place) = (self.clock.now(), Place { node: node.id, address: node.agent_address });
        match self.provider.instances(&place).await {
            Ok(instances) => Some(NodeWord { asked_at, instances }),
            Err(failure) => {
                tracing::debug!(node_id = %node.id, %failure, "a node was not asked about its instances");
                None
            }
        }
    }
}

fn is_asked(node: &Node) -> bool {
    match node.availability {
        NodeAvailability::Available | NodeAvailability::Suspect | NodeAvailability::Unknown => {
            node.policy != NodePolicy::Decommissioned
        }
        NodeAvailability::Lost | NodeAvailability::Fenced => false,
    }
}

fn reported(words: &BTreeMap<NodeId, NodeWord>) -> Vec<InstanceId> {
    words.values().flat_map(|word| word.instances.iter().map(|status| status.instance_id)).collect()
}

fn report(at: Timestamp, facts: &Facts, findings: Vec<Finding>) -> Report {
    for finding in &findings {
        tracing::warn!(
            finding = finding.kind.word(), node_id = ?finding.node_id, instance_id = ?finding.instance_id,
            order_id = ?finding.order_id, detail = finding.detail, "does not fit"
        );
    }
    Report { at, orders: facts.orders.len(), instances: facts.instances.len(), nodes: facts.nodes.len(), findings }
}

/// One line, and the gauge of each kind.
pub(super) fn told(gauge: &'static str, findings: &[Finding], fine: &str) -> String {
    let mut words = Vec::new();
    for kind in FindingKind::ALL {
        let count = findings.iter().filter(|finding| finding.kind == *kind).count();
        metrics::gauge!(gauge, "finding" => kind.word()).set(count as f64);
        if count > 0 {
            words.push(format!("{count} {kind}"));
        }
    }
    if words.is_empty() { fine.to_owned() } else { words.join(", ") }
}

/// Runs the check now and then.
#[derive(Debug)]
pub struct Audit {
    auditor: Auditor,
}

impl Audit {
    /// With what collects the facts.
    #[must_use]
    pub const fn new(auditor: Auditor) -> Self {
        Self { auditor }
    }

    async fn look(&self) -> Result<Outcome, Failure> {
        let report = self.auditor.audit().await?;
        let text = told("nemordp_audit_findings", &report.findings, "everything fits together");
        let details = report.findings.iter().map(|finding| {
            serde_json::json!({
                "finding": finding.kind, "instance_id": finding.instance_id, "node_id": finding.node_id,
                "detail": finding.detail,
            })
        });
        Ok(Outcome { text, details: (!report.findings.is_empty()).then(|| details.take(100).collect()) })
    }
}

impl Reconciler for Audit {
    fn name(&self) -> &'static str {
        "audit"
    }

    fn purpose(&self) -> &'static str {
        "orders, capacity, ports, addresses, credentials, events and what nodes run are compared; nothing is changed"
    }

    fn period(&self) -> Duration {
        Duration::from_secs(600)
    }

    fn run(&self) -> BoxFuture<'_, Result<Outcome, Failure>> {
        self.look().boxed()
    }
}
