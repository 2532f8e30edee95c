//! Sends a change and follows the operation to its outcome.

use std::time::Duration;

use nemordp_types::operation::{Operation, OperationState};
use nemordp_types::{Failure, Mutation, Reason};
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::{Change, Place, Provider};

/// Told about each state of an operation that was read.
pub trait Progress: Send + Sync {
    /// The operation as it is now.
    fn seen(&self, operation: &Operation);
}

impl<F: Fn(&Operation) + Send + Sync> Progress for F {
    fn seen(&self, operation: &Operation) {
        self(operation);
    }
}

/// How often the truth is asked, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// How long one answer may wait for the outcome: progress is seen as often as that.
    pub wait: Duration,
    /// The least time between two questions, where a place does not wait.
    pub poll: Duration,
    /// For everything, from sending to the outcome.
    pub deadline: Duration,
}

impl Pace {
    /// The usual pace with a deadline of its own.
    #[must_use]
    pub const fn within(deadline: Duration) -> Self {
        Self { wait: Duration::from_secs(1), poll: Duration::from_millis(200), deadline }
    }
}

/// Sends a change and follows it to its outcome: the operation as it ended, or why it did not.
///
/// Safe to repeat with the same operation id: what was accepted before is followed, what succeeded is returned.
///
/// # Errors
/// The failure that the place recorded; `deadline_exceeded` when it is still running by then; what
/// [`Provider::send`] and [`Provider::operation`] return.
pub async fn apply(
    provider: &dyn Provider,
    place: &Place,
    mutation: Mutation,
    change: &Change,
    pace: Pace,
    progress: &dyn Progress,
) -> Result<Operation, Failure> {
    let until = Instant::now() + pace.deadline;
    let work = async {
        let mut asked = Instant::now();
        let mut operation = provider.send(place, mutation, change, pace.wait).await?;
        loop {
            progress.seen(&operation);
            if let Some(outcome) = outcome(&operation) {
                return outcome.map(|()| operation);
            }
            sleep_until(asked + pace.poll).await;
            asked = Instant::now();
            operation = provider.operation(place, mutation.operation_id, pace.wait).await?;
        }
    };
    timeout_at(until, work).await.unwrap_or_else(|_| {
        Err(Failure::new(
            Reason::DeadlineExceeded,
            format!("{} did not finish within {} s", change.kind().word(), pace.deadline.as_secs()),
        )
        .with_context(place))
    })
}

fn outcome(operation: &Operation) -> Option<Result<(), Failure>> {
    match &operation.state {
        OperationState::Running => None,
        OperationState::Succeeded => Some(Ok(())),
        OperationState::Failed(failure) => Some(Err(failure.clone())),
    }
}
