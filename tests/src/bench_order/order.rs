//! Orders through the product, from the call of the API to the proven login.

use std::time::Duration;

use jiff::Timestamp;
use nemordp_api::{Operation, Order};
use nemordp_types::{Clock as _, SystemClock};

use super::guest::answer;
use super::{Batch, Sample, qemu_seconds};
use crate::lab::{Host, poll_every};
use crate::trial::{Cli, Result, TrialError};

const PATIENCE: Duration = Duration::from_secs(900);
const PROOF: &str = "prove_login";

/// Who places them, and where they come to life.
pub(super) struct Orders<'a> {
    pub(super) cli: &'a Cli,
    pub(super) node: &'a Host,
}

impl Orders<'_> {
    /// So many at once, each to its proof; removes what was made. `alive` is told when all run.
    pub(super) fn batch(&self, count: usize, alive: &mut dyn FnMut(bool) -> Result<()>) -> Result<Batch> {
        let began = SystemClock.now();
        let placed: Vec<Result<(Order, Timestamp)>> = std::thread::scope(|scope| {
            let running: Vec<_> = (0..count).map(|_| scope.spawn(|| self.place())).collect();
            let panicked = || Err(answer("a thread", &"it panicked"));
            running.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).collect()
        });
        let placed: Vec<(Order, Timestamp)> = placed.into_iter().collect::<Result<_>>()?;
        let mut samples = Vec::new();
        let mut last = began;
        for (order, posted) in &placed {
            let (sample, proven) = self.follow(order, *posted)?;
            last = last.max(proven);
            samples.push(sample);
        }
        alive(true)?;
        for (order, _) in &placed {
            self.cli.json(&["instance", "delete", &order.instance_id.to_string(), "--watch"])?;
        }
        Ok(Batch { samples, makespan: between(began, last) })
    }

    fn place(&self) -> Result<(Order, Timestamp)> {
        let posted = SystemClock.now();
        let order = ["order", "create", "--plan", "small", "--template", "debian-12-xrdp", "--region", "lab"];
        let order = serde_json::from_value(self.cli.json(&order)?).map_err(|error| answer("the order", &error))?;
        Ok((order, posted))
    }

    /// Waits for the proof; the times are the control plane's, on the same machine's clock.
    fn follow(&self, order: &Order, posted: Timestamp) -> Result<(Sample, Timestamp)> {
        let operation_id = order.operation_id.to_string();
        // Waiting costs the guests processor time: the pause is long, the times are the operation's own.
        let operation = poll_every(Duration::from_secs(1), PATIENCE, || Ok(self.proven(&operation_id).transpose()))?;
        let operation = operation.ok_or_else(|| TrialError::Deadline {
            what: format!("the login of order {}", order.id),
            seconds: PATIENCE.as_secs(),
            hint: "see control-plane.log".to_owned(),
        })??;
        let mut steps = Vec::new();
        let mut proven = posted;
        for step in &operation.steps {
            if let (Some(started), Some(finished)) = (step.started_at, step.finished_at) {
                steps.push((step.name.clone(), between(started, finished)));
                if step.name == PROOF {
                    proven = finished;
                }
            }
        }
        let qemu = qemu_seconds(self.node, &format!("nemordp-{}", order.instance_id))?.unwrap_or_default();
        Ok((Sample { steps, total: between(posted, proven), qemu: Duration::from_secs_f64(qemu) }, proven))
    }

    fn proven(&self, operation_id: &str) -> Result<Option<Operation>> {
        let operation = self.cli.json(&["operation", "show", operation_id])?;
        let operation: Operation =
            serde_json::from_value(operation).map_err(|error| answer("the operation", &error))?;
        if let Some(failure) = &operation.failure {
            return Err(answer("the order", &format!("{failure:?}")));
        }
        let proven = operation.steps.iter().any(|step| step.name == PROOF && step.finished_at.is_some());
        // The whole order, so that the session's end does not fall into the next measurement.
        Ok((proven && operation.status.is_final()).then_some(operation))
    }
}

fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}
