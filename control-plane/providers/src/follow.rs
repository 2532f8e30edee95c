//! Sends a change and follows the operation to its outcome.

use std::time::Duration;

use futures::StreamExt;
use futures::stream::{BoxStream, Fuse};
use nemordp_types::operation::{Operation, OperationState};
use nemordp_types::{Failure, Mutation, Reason};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

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
    /// Between two questions while nothing hints at a change.
    pub poll: Duration,
    /// The least time between two questions, however many hints come.
    pub quickest: Duration,
    /// For everything, from sending to the outcome.
    pub deadline: Duration,
}

impl Pace {
    /// The usual pace with a deadline of its own.
    #[must_use]
    pub const fn within(deadline: Duration) -> Self {
        Self { poll: Duration::from_millis(200), quickest: Duration::from_millis(20), deadline }
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
        let sent = provider.send(place, mutation, change).await?;
        follow(provider, place, sent, pace, progress).await
    };
    timeout_at(until, work).await.unwrap_or_else(|_| {
        Err(Failure::new(
            Reason::DeadlineExceeded,
            format!("{} did not finish within {} s", change.kind().word(), pace.deadline.as_secs()),
        )
        .with_context(place))
    })
}

async fn follow(
    provider: &dyn Provider,
    place: &Place,
    mut operation: Operation,
    pace: Pace,
    progress: &dyn Progress,
) -> Result<Operation, Failure> {
    progress.seen(&operation);
    if let Some(outcome) = outcome(&operation) {
        return outcome.map(|()| operation);
    }
    let id = operation.mutation.operation_id;
    // Most changes are short: hints are only worth their call when the first question finds it still running.
    let mut hints = None;
    loop {
        let next = Instant::now() + pace.poll;
        sleep(pace.quickest).await;
        if let Some(hints) = &mut hints {
            wait(hints, next).await;
        }
        operation = provider.operation(place, id).await?;
        progress.seen(&operation);
        if let Some(outcome) = outcome(&operation) {
            return outcome.map(|()| operation);
        }
        if hints.is_none() {
            hints = Some(provider.hints(place, id).await.fuse());
        }
    }
}

/// Until a hint, or until then.
async fn wait(hints: &mut Fuse<BoxStream<'static, ()>>, next: Instant) {
    tokio::select! {
        () = sleep_until(next) => {}
        Some(()) = hints.next() => {}
    }
}

fn outcome(operation: &Operation) -> Option<Result<(), Failure>> {
    match &operation.state {
        OperationState::Running => None,
        OperationState::Succeeded => Some(Ok(())),
        OperationState::Failed(failure) => Some(Err(failure.clone())),
    }
}
