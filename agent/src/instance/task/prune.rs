//! Forgets what is too old.

use nemordp_types::OperationId;

use super::super::machine::State;
use super::Task;
use crate::host::Host;
use crate::journal::Record;

impl<H: Host> Task<H> {
    pub(super) fn drop_old(&self, record: &mut Record) -> bool {
        let before: Vec<OperationId> = record.operations.iter().map(|o| o.mutation.operation_id).collect();
        let dropped = record.prune(self.shared.clock.now());
        for id in before.into_iter().filter(|id| record.operation(*id).is_none()) {
            self.shared.board.operation_forget(id);
        }
        dropped
    }

    pub(super) async fn prune(&mut self) -> bool {
        let mut record = self.record.clone();
        if matches!(self.state, State::Deleted) && record.expired(self.shared.clock.now()) {
            if self.shared.journal.forget(record.instance_id).await.is_err() {
                return false;
            }
            record.operations.iter().for_each(|o| self.shared.board.operation_forget(o.mutation.operation_id));
            return true;
        }
        if matches!(self.state, State::Idle) && self.seen.is_none() && record == Record::new(record.instance_id) {
            return true;
        }
        if self.drop_old(&mut record) && self.shared.journal.save(&record).await.is_ok() {
            self.record = record;
        }
        false
    }
}
