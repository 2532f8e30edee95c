//! Sagas and reconcilers as the use cases see them.

use std::sync::Arc;

use nemordp_api::{Fault, Reconciler};
use nemordp_model::SagaKind;
use nemordp_store::NewSaga;
use nemordp_types::{Clock, Entropy, Failure};

use crate::app::{LongWork, Subject};
use crate::reconcile::{Reconcilers, Status};
use crate::saga::{Engine, plan};

/// Begins sagas and tells the engine.
#[derive(Debug)]
pub(crate) struct Work {
    /// Who carries sagas on.
    pub(crate) engine: Engine,
    /// Who looks after the rest.
    pub(crate) reconcilers: Reconcilers,
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
    }

    fn reconcilers(&self) -> Vec<Reconciler> {
        self.reconcilers.statuses().iter().map(shown).collect()
    }
}

fn shown(status: &Status) -> Reconciler {
    let (outcome, failure) = match &status.outcome {
        None => (None, None),
        Some(Ok(outcome)) => (Some(outcome.clone()), None),
        Some(Err(failure)) => (None, Some(Fault::from(failure))),
    };
    Reconciler {
        name: status.name.to_owned(),
        purpose: status.purpose.to_owned(),
        period_seconds: status.period.as_secs().max(1),
        runs: status.runs,
        last_run_at: status.last_run_at,
        last_run_milliseconds: status.took.and_then(|took| u64::try_from(took.as_millis()).ok()),
        last_outcome: outcome,
        failure,
    }
}
