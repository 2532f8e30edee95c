//! What a task does with nobody's request: it starts what ran before a reboot, and gives up what is wanted elsewhere.

use nemordp_types::instance::{ObservedPower, PowerAction};
use nemordp_types::{Generation, Mutation, OperationId};

use super::machine::State;
use super::plan::{Job, Work};
use super::task::Task;
use crate::host::Host;
use crate::journal::Record;

impl<H: Host> Task<H> {
    /// Work that the agent itself begins, under the highest numbers it has seen.
    pub(super) async fn by_itself(&mut self, action: PowerAction, why: &'static str) {
        let mutation = Mutation {
            operation_id: OperationId::new(self.shared.clock.as_ref(), self.shared.entropy.as_ref()),
            instance_id: self.record.instance_id,
            pair: self.record.pair,
        };
        if let Err(failure) = self.request(Work { mutation, job: Job::Power(action) }).await {
            tracing::warn!(instance = %self.record.instance_id, ?action, why, ?failure, "not done");
        }
    }

    /// Gives up an instance that is wanted elsewhere, or nowhere: it keeps its disk, and does not run.
    pub(super) async fn withdraw(&mut self, generation: Generation) {
        if generation < self.record.pair.generation || self.record.tombstone.is_some() {
            return;
        }
        if self.record.withdrawn < Some(generation) {
            tracing::error!(
                instance = %self.record.instance_id, generation = generation.0,
                "moved away or ended while this node was not heard: it does not run here any more"
            );
            let record = Record { withdrawn: Some(generation), ..self.record.clone() };
            if let Err(failure) = self.shared.journal.save(&record).await {
                tracing::error!(instance = %self.record.instance_id, ?failure, "the withdrawal was not written down");
            }
            // In force even so: the control plane says it again with each heartbeat.
            self.record = record;
        }
        let runs = self.seen.as_ref().is_some_and(|seen| seen.power == ObservedPower::Running);
        if runs && matches!(self.state, State::Idle) {
            self.by_itself(PowerAction::Stop, "it was moved away or has ended").await;
        }
    }
}
