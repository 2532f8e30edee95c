//! Waiting for something in a guest: short intervals, one deadline that really holds, an end when somebody interrupts.

use std::future::Future;
use std::time::Duration;

use nemordp_types::{Failure, Reason, Retry};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The first pause between two attempts; customers wait.
const FIRST: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST: Duration = Duration::from_millis(250);
/// How long one attempt may take.
pub(super) const ATTEMPT: Duration = Duration::from_secs(10);

/// Why waiting ended without what was waited for.
#[derive(Debug)]
pub(super) enum Ended {
    /// The deadline passed; the last attempt's failure, if it failed.
    TimedOut(Option<Failure>),
    /// Somebody interrupted, or an attempt failed in a way that trying again cannot change.
    Failed(Failure),
}

impl Ended {
    /// As a failure; a passed deadline becomes `timed_out`, with the last attempt's failure as its context.
    pub(super) fn into_failure(self, timed_out: Failure) -> Failure {
        match self {
            Self::TimedOut(Some(last)) => timed_out.with_context(format!("{last:?}")),
            Self::TimedOut(None) => timed_out,
            Self::Failed(failure) => failure,
        }
    }
}

/// Repeats an attempt until it gives something.
pub(super) async fn until<T, F, A>(interrupt: &CancellationToken, limit: Duration, mut attempt: F) -> Result<T, Ended>
where
    F: FnMut() -> A,
    A: Future<Output = Result<Option<T>, Failure>>,
{
    let deadline = Instant::now() + limit;
    let mut pause = FIRST;
    let mut last = None;
    loop {
        let cut = deadline.min(Instant::now() + ATTEMPT);
        tokio::select! {
            () = interrupt.cancelled() => return Err(Ended::Failed(interrupted())),
            answer = tokio::time::timeout_at(cut, attempt()) => match answer {
                Ok(Ok(Some(found))) => return Ok(found),
                Ok(Ok(None)) => {}
                Ok(Err(failure)) if failure.reason.retry() == Retry::Permanent => return Err(Ended::Failed(failure)),
                Ok(Err(failure)) => last = Some(failure),
                Err(_) => last = Some(Failure::new(Reason::DeadlineExceeded, "the host did not answer in time")),
            },
        }
        if Instant::now() + pause >= deadline {
            return Err(Ended::TimedOut(last));
        }
        tokio::select! {
            () = interrupt.cancelled() => return Err(Ended::Failed(interrupted())),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 5 / 4).min(LONGEST);
    }
}

/// The deadline of a call that does something: long enough for a slow host, short enough that nothing waits for ever.
pub(super) async fn within<T>(
    limit: Duration,
    what: &'static str,
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| {
        Err(Failure::new(
            Reason::DeadlineExceeded,
            format!("{what} took longer than {} s: look at the node's hypervisor and disks", limit.as_secs()),
        ))
    })
}

/// Somebody asked to stop waiting.
pub(super) fn interrupted() -> Failure {
    Failure::new(Reason::Cancelled, "interrupted while it waited")
}
