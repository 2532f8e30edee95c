//! Suspensions at their time: kept in the journal, carried out with nobody's help, told until they were received.
//!
//! What is done is what an `ensure` with `suspended` does: forwarding and isolation go, the definition says that it is
//! suspended, the guest is shut down. So neither a restart of the agent nor a reboot of the host brings it back.

use jiff::Timestamp;
use nemordp_types::instance::{InstanceSpec, ObservedPower};
use nemordp_types::suspension::{ScheduledSuspension, SuspensionReport};
use nemordp_types::{Failure, Mutation, OperationId, Reason};

use super::admission;
use super::machine::State;
use super::plan::{Job, Work};
use super::task::Task;
use crate::host::{Host, HostInstance};
use crate::journal::Record;

impl<H: Host> Task<H> {
    /// Keeps when the instance is to be suspended, or that it is not any more. Again it is the same. What has happened
    /// cannot be called off: it is told first, and taken back as any suspension is.
    pub(super) async fn schedule(&mut self, mutation: &Mutation, at: Option<Timestamp>) -> Result<(), Failure> {
        admission::admit_plan(&self.record, mutation)?;
        let known = self.record.suspension.filter(|known| known.mutation.operation_id == mutation.operation_id);
        if known.is_some() && at.is_some() {
            return Ok(());
        }
        if self.record.suspension.is_some_and(|known| known.done_at.is_some()) {
            let happened = "the suspension has happened: the node's next heartbeat tells of it";
            return Err(Failure::new(Reason::Conflict, happened).with_field("suspend_at"));
        }
        let suspension = at.map(|at| ScheduledSuspension { mutation: *mutation, at, done_at: None });
        let pair = self.record.pair.max(mutation.pair);
        self.keep(Record { suspension, pair, ..self.record.clone() }).await?;
        tracing::info!(instance = %self.record.instance_id, at = ?at, "suspension scheduled");
        Ok(())
    }

    /// Suspends the instance when its time has come. A failure is tried again at the next look.
    pub(super) async fn suspend_when_due(&mut self) {
        let Some(due) = self.record.suspension.filter(|s| s.done_at.is_none() && s.at <= self.shared.clock.now())
        else {
            return;
        };
        if !matches!(self.state, State::Idle) {
            return;
        }
        let Some(spec) = self.seen.as_ref().and_then(|seen| to_be_suspended(seen)) else {
            self.suspended(due.mutation.operation_id).await;
            return;
        };
        tracing::warn!(instance = %self.record.instance_id, "its scheduled suspension is due: off the network and off power");
        let mutation = Mutation { pair: self.record.pair, ..due.mutation };
        if let Err(failure) = self.request(Work { mutation, job: Job::Reconfigure(Box::new(spec)) }).await {
            tracing::warn!(instance = %self.record.instance_id, ?failure, "not suspended yet");
        }
    }

    /// An operation ended well: perhaps it was the suspension's.
    pub(super) async fn suspended(&mut self, operation: OperationId) {
        let now = self.shared.clock.now();
        let Some(suspension) = self.record.suspension.filter(|s| s.mutation.operation_id == operation) else { return };
        let done = ScheduledSuspension { done_at: suspension.done_at.or(Some(now)), ..suspension };
        if let Err(failure) = self.keep(Record { suspension: Some(done), ..self.record.clone() }).await {
            tracing::error!(instance = %self.record.instance_id, ?failure, "the suspension was not written down");
        }
    }

    /// The control plane has heard of it.
    pub(super) async fn suspension_received(&mut self, operation: OperationId) {
        let received =
            self.record.suspension.is_some_and(|s| s.mutation.operation_id == operation && s.done_at.is_some());
        if received && let Err(failure) = self.keep(Record { suspension: None, ..self.record.clone() }).await {
            tracing::warn!(instance = %self.record.instance_id, ?failure, "the suspension is told again");
        }
    }

    async fn keep(&mut self, record: Record) -> Result<(), Failure> {
        self.shared.journal.save(&record).await?;
        self.record = record;
        self.show_suspension();
        Ok(())
    }

    pub(super) fn show_suspension(&self) {
        let report = self.record.suspension.and_then(|suspension| {
            suspension.done_at.map(|done_at| SuspensionReport {
                instance_id: self.record.instance_id,
                operation_id: suspension.mutation.operation_id,
                done_at,
            })
        });
        self.shared.board.suspension_put(self.record.instance_id, report);
    }
}

/// What the instance is to be brought to; none when it is suspended in every sense.
fn to_be_suspended(seen: &HostInstance) -> Option<InstanceSpec> {
    let done = seen.spec.suspended && seen.power == ObservedPower::Off;
    (!done).then(|| InstanceSpec { suspended: true, ..seen.spec.clone() })
}
