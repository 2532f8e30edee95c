//! What the rest of the agent sees of operations and instances, without asking an instance's task.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nemordp_types::instance::{InstanceStatus, ObservedPower};
use nemordp_types::operation::Operation;
use nemordp_types::suspension::SuspensionReport;
use nemordp_types::{InstanceId, OperationId};
use tokio::sync::{broadcast, watch};

/// Changes that a slow watcher may be behind before it gets everything anew.
const CHANGES: usize = 1_024;

/// The present state of everything, and its changes.
#[derive(Debug)]
pub struct Board {
    operations: Mutex<HashMap<OperationId, watch::Sender<Operation>>>,
    statuses: Mutex<HashMap<InstanceId, InstanceStatus>>,
    suspensions: Mutex<HashMap<InstanceId, SuspensionReport>>,
    changes: broadcast::Sender<InstanceStatus>,
}

impl Default for Board {
    fn default() -> Self {
        Self {
            operations: Mutex::default(),
            statuses: Mutex::default(),
            suspensions: Mutex::default(),
            changes: broadcast::Sender::new(CHANGES),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Board {
    /// Shows an operation, new or changed.
    pub fn operation_put(&self, operation: Operation) {
        let mut operations = lock(&self.operations);
        match operations.get(&operation.mutation.operation_id) {
            Some(shown) => drop(shown.send_replace(operation)),
            None => {
                operations.insert(operation.mutation.operation_id, watch::Sender::new(operation));
            }
        }
    }

    /// Changes an operation that is shown.
    pub fn operation_change(&self, id: OperationId, change: impl FnOnce(&mut Operation)) {
        if let Some(shown) = lock(&self.operations).get(&id) {
            shown.send_modify(change);
        }
    }

    /// The present state of an operation.
    pub fn operation(&self, id: OperationId) -> Option<Operation> {
        lock(&self.operations).get(&id).map(|shown| shown.borrow().clone())
    }

    /// The present state of an operation and each later one.
    pub fn operation_watch(&self, id: OperationId) -> Option<watch::Receiver<Operation>> {
        lock(&self.operations).get(&id).map(watch::Sender::subscribe)
    }

    /// Stops showing an operation.
    pub fn operation_forget(&self, id: OperationId) {
        lock(&self.operations).remove(&id);
    }

    /// Shows a suspension that has happened, until it was received; none takes it away.
    pub fn suspension_put(&self, id: InstanceId, report: Option<SuspensionReport>) {
        let mut suspensions = lock(&self.suspensions);
        match report {
            Some(report) => drop(suspensions.insert(id, report)),
            None => drop(suspensions.remove(&id)),
        }
    }

    /// Suspensions that have happened and were not received, the oldest first.
    pub fn suspensions(&self) -> Vec<SuspensionReport> {
        let mut all: Vec<_> = lock(&self.suspensions).values().copied().collect();
        all.sort_unstable_by_key(|report| (report.done_at, report.instance_id));
        all
    }

    /// Shows an instance; whoever watches learns it when something changed.
    pub fn status_put(&self, status: InstanceStatus) {
        let before = lock(&self.statuses).insert(status.instance_id, status.clone());
        if before.as_ref() != Some(&status) {
            // Nobody may be watching.
            drop(self.changes.send(status));
        }
    }

    /// Stops showing an instance; whoever watches learns that it is absent.
    pub fn status_forget(&self, id: InstanceId) {
        let last = lock(&self.statuses).remove(&id);
        if let Some(last) = last {
            let gone = InstanceStatus {
                power: ObservedPower::Absent,
                guest_agent: false,
                confirmed_ipv4: None,
                rdp_certificate_sha256: None,
                started_at: None,
                ..last
            };
            drop(self.changes.send(gone));
        }
    }

    /// One instance.
    pub fn status(&self, id: InstanceId) -> Option<InstanceStatus> {
        lock(&self.statuses).get(&id).cloned()
    }

    /// Every instance.
    pub fn statuses(&self) -> Vec<InstanceStatus> {
        let mut all: Vec<_> = lock(&self.statuses).values().cloned().collect();
        all.sort_unstable_by_key(|status| status.instance_id);
        all
    }

    /// Changes from now on; take it before [`Board::statuses`], so that none is missed.
    pub fn status_watch(&self) -> broadcast::Receiver<InstanceStatus> {
        self.changes.subscribe()
    }
}
