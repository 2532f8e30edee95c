//! Sagas and reconcilers as the use cases see them.

use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use nemordp_api::{AuditFinding, AuditReport, Fault, Reconciler};
use nemordp_model::SagaKind;
use nemordp_model::audit::Finding;
use nemordp_store::NewSaga;
use nemordp_types::{Clock, Entropy, Failure};
use tokio::sync::Notify;

use crate::app::{LongWork, Subject};
use crate::reconcile::{Auditor, Reconcilers, Report, Status};
use crate::saga::{Engine, plan};

/// Begins sagas and tells the engine.
#[derive(Debug)]
pub(crate) struct Work {
    /// Who carries sagas on.
    pub(crate) engine: Engine,
    /// Who looks after the rest.
    pub(crate) reconcilers: Reconcilers,
    /// Who compares.
    pub(crate) auditor: Auditor,
    /// That other replicas should be told of a saga.
    pub(crate) announce: Arc<Notify>,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// For ids.
    pub(crate) entropy: Arc<dyn Entropy>,
}

impl LongWork for Work {
    fn begin(&self, kind: SagaKind, _subject: Subject) -> Result<NewSaga, Failure> {
        plan::begin(kind, self.clock.as_ref(), self.entropy.as_ref())
    }

    fn poke(&self) {
        self.engine.poke();
        self.announce.notify_one();
    }

    fn reconcilers(&self) -> BoxFuture<'_, Result<Vec<Reconciler>, Failure>> {
        async { Ok(self.reconcilers.statuses().await?.into_iter().map(shown).collect()) }.boxed()
    }

    fn reconciler_want<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        self.reconcilers.want(name).boxed()
    }

    fn audit(&self) -> BoxFuture<'_, Result<AuditReport, Failure>> {
        async { self.auditor.audit().await.map(reported) }.boxed()
    }

    fn last_audit(&self) -> Option<AuditReport> {
        self.auditor.last().map(reported)
    }
}

fn reported(report: Report) -> AuditReport {
    AuditReport {
        audited_at: report.at,
        orders: report.orders as u64,
        instances: report.instances as u64,
        nodes: report.nodes as u64,
        findings: report.findings.into_iter().map(found).collect(),
    }
}

fn found(finding: Finding) -> AuditFinding {
    AuditFinding {
        finding: finding.kind.word().to_owned(),
        order_id: finding.order_id,
        instance_id: finding.instance_id,
        node_id: finding.node_id,
        operation_id: finding.saga_id,
        detail: finding.detail,
        fix: finding.kind.fix().to_owned(),
    }
}

fn shown(status: Status) -> Reconciler {
    let Status { name, purpose, period, last } = status;
    let mut shown = Reconciler {
        name: name.to_owned(),
        purpose: purpose.to_owned(),
        period_seconds: period.as_secs().max(1),
        runs: 0,
        last_run_at: None,
        last_run_milliseconds: None,
        last_outcome: None,
        details: None,
        failure: None,
    };
    if let Some(run) = last {
        shown.runs = run.runs;
        shown.last_run_at = Some(run.at);
        shown.last_run_milliseconds = u64::try_from(run.took.as_millis()).ok();
        shown.details = run.details;
        match run.outcome {
            Ok(outcome) => shown.last_outcome = Some(outcome),
            Err(failure) => shown.failure = Some(Fault::from(&failure)),
        }
    }
    shown
}
