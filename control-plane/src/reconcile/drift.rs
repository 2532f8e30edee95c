//! Compares what nodes run with what is wanted of them. It only tells: an instance that no order owns may be a customer's
//! whom a restored store has forgotten, so removing one is an operator's decision.

use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use nemordp_types::Failure;

use super::audit::{Auditor, told};
use super::{Outcome, Reconciler};

/// Looks at every node that answers.
#[derive(Debug)]
pub struct Drift {
    auditor: Auditor,
}

impl Drift {
    /// With what collects the facts.
    #[must_use]
    pub const fn new(auditor: Auditor) -> Self {
        Self { auditor }
    }

    async fn look(&self) -> Result<Outcome, Failure> {
        self.auditor.tell_frozen().await?;
        let report = self.auditor.drift().await?;
        let text = told("nemordp_drift_findings", &report.findings, "nodes and store agree");
        let details = report.findings.iter().map(|finding| {
            serde_json::json!({
                "finding": finding.kind, "instance_id": finding.instance_id, "node_id": finding.node_id,
                "detail": finding.detail,
            })
        });
        Ok(Outcome { text, details: (!report.findings.is_empty()).then(|| details.take(100).collect()) })
    }
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

    fn run(&self) -> BoxFuture<'_, Result<Outcome, Failure>> {
        self.look().boxed()
    }
}
