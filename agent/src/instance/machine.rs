//! What is done next with one instance: `(state, event) → (state, actions)`, without doing anything.
//!
//! ```text
//!                    Requested                        Looked: the plan follows
//!        ┌──────┐ ───────────────► ┌──────────────┐ ────────────────────────┐
//!        │ Idle │                  │ Busy         │ ◄───────────────────────┘
//!        └──────┘ ◄─────────────── │ work, steps, │ ◄─┐ StepDone: next step
//!            ▲   last step, failed │ queue        │ ──┘
//!            │                     └──────────────┘
//!            │                       │    │    Requested(delete), Requested(newer ensure): Interrupt,
//!   a failed │                       │    │    the work ends at this step's end as cancelled, then the next one begins
//!   delete   └───────────────────────┘    │
//!                                         │ delete done            Stop: Interrupt, all ends as unavailable
//!                                         ▼                          │
//!                                   ┌─────────┐                ┌─────────┐
//!                                   │ Deleted │                │ Stopped │
//!                                   └─────────┘                └─────────┘
//! ```
//!
//! One step runs at a time, so an instance never has two owners. A delete wins: what runs ends at the step's end, what
//! waits is cancelled, and nothing but deletes is accepted any more. A newer `ensure` replaces an older one, because its
//! wish is out of date. Everything else waits its turn.

use std::collections::VecDeque;

use nemordp_types::{Failure, OperationId, Reason};

pub use super::plan::{Existing, Facts, Job, Step, Work};
use State::Busy as InBusy;

use super::plan;

/// Requests that wait for one instance.
pub const QUEUE: usize = 8;

/// Where an instance's work stands.
#[derive(Debug)]
pub enum State {
    /// Nothing is under way.
    Idle,
    /// One step runs.
    Busy(Box<Busy>),
    /// Everything is gone.
    Deleted,
    /// The agent ends; nothing is done any more.
    Stopped,
}

/// Work under way.
#[derive(Debug)]
pub struct Busy {
    /// Whose turn it is.
    pub work: Work,
    /// The step that runs.
    pub step: Step,
    /// The steps after it.
    steps: VecDeque<Step>,
    /// Why the work ends when the step does.
    ends: Option<Failure>,
    /// Work that waits.
    queue: VecDeque<Work>,
    /// Whether the agent ends.
    stopping: bool,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Work was admitted and journalled.
    Requested(Work),
    /// [`Step::Look`] ended.
    Looked(Box<Facts>),
    /// Another step ended.
    StepDone,
    /// The step failed.
    StepFailed(Failure),
    /// The agent ends.
    Stop,
}

/// What is to be done.
#[derive(Debug)]
pub enum Action {
    /// Run this step of this work.
    Run(Step),
    /// Whatever the running step waits for, stop waiting.
    Interrupt,
    /// The operation is over.
    Finish(OperationId, Result<(), Failure>),
}

/// Whether work would be taken up or queued.
///
/// # Errors
/// `instance_deleted`, `conflict` when too much waits already, `unavailable` when the agent ends.
pub fn accepts(state: &State, job: &Job) -> Result<(), Failure> {
    match state {
        State::Idle => Ok(()),
        State::Stopped => Err(stopping()),
        State::Deleted => match job {
            Job::Delete => Ok(()),
            Job::Ensure(_)
            | Job::Reconfigure(_)
            | Job::Power(_)
            | Job::SetPassword { .. }
            | Job::EndSessions { .. } => Err(deleted()),
        },
        InBusy(busy) if busy.stopping => Err(stopping()),
        InBusy(busy) => match job {
            Job::Delete => Ok(()),
            Job::Ensure(_)
            | Job::Reconfigure(_)
            | Job::Power(_)
            | Job::SetPassword { .. }
            | Job::EndSessions { .. } => {
                if busy.deletes() {
                    return Err(deleted());
                }
                if busy.queue.len() >= QUEUE {
                    return Err(Failure::new(
                        Reason::Conflict,
                        "too many requests wait for this instance: wait until one has ended",
                    ));
                }
                Ok(())
            }
        },
    }
}

/// One step of the machine. Events that the state cannot have are ignored: a late answer changes nothing.
#[must_use]
pub fn apply(state: State, event: Event) -> (State, Vec<Action>) {
    match (state, event) {
        (State::Idle, Event::Requested(work)) => begin(VecDeque::from([work])),
        (State::Deleted, Event::Requested(work)) => {
            let outcome = match work.job {
                Job::Delete => Ok(()),
                Job::Ensure(_)
                | Job::Reconfigure(_)
                | Job::Power(_)
                | Job::SetPassword { .. }
                | Job::EndSessions { .. } => Err(deleted()),
            };
            (State::Deleted, vec![Action::Finish(work.mutation.operation_id, outcome)])
        }
        (State::Stopped, Event::Requested(work)) => {
            (State::Stopped, vec![Action::Finish(work.mutation.operation_id, Err(stopping()))])
        }
        (InBusy(busy), Event::Requested(work)) => requested(busy, work),
        (InBusy(mut busy), Event::Looked(facts)) => match plan::steps(&busy.work.job, &facts) {
            Ok(steps) => {
                busy.steps = steps;
                next(busy)
            }
            Err(failure) => finish(busy, Err(failure)),
        },
        (InBusy(busy), Event::StepDone) => next(busy),
        (InBusy(mut busy), Event::StepFailed(failure)) => {
            let failure = busy.ends.take().unwrap_or(failure);
            finish(busy, Err(failure))
        }
        (InBusy(busy), Event::Stop) => stop(busy),
        (State::Idle | State::Deleted | State::Stopped, Event::Stop) => (State::Stopped, Vec::new()),
        (
            state @ (State::Idle | State::Deleted | State::Stopped),
            Event::Looked(_) | Event::StepDone | Event::StepFailed(_),
        ) => (state, Vec::new()),
    }
}

fn requested(mut busy: Box<Busy>, work: Work) -> (State, Vec<Action>) {
    let mut actions = Vec::new();
    let replaces = match (&work.job, &busy.work.job) {
        (Job::Delete, running) => !matches!(running, Job::Delete),
        (Job::Ensure(_) | Job::Reconfigure(_), Job::Ensure(_) | Job::Reconfigure(_)) => true,
        _ => false,
    };
    if matches!(work.job, Job::Delete) {
        // What waits would act on an instance that is about to go; other deletes keep waiting and find it gone.
        let (kept, dropped): (VecDeque<Work>, VecDeque<Work>) =
            std::mem::take(&mut busy.queue).into_iter().partition(|other| matches!(other.job, Job::Delete));
        busy.queue = kept;
        actions.extend(
            dropped.into_iter().map(|other| {
                Action::Finish(other.mutation.operation_id, Err(cancelled("the instance is being deleted")))
            }),
        );
    }
    if replaces && busy.ends.is_none() {
        let why = if matches!(work.job, Job::Delete) { "the instance is being deleted" } else { "a newer wish came" };
        busy.ends = Some(cancelled(why));
        actions.push(Action::Interrupt);
    }
    busy.queue.push_back(work);
    (InBusy(busy), actions)
}

fn stop(mut busy: Box<Busy>) -> (State, Vec<Action>) {
    let waiting = std::mem::take(&mut busy.queue);
    let mut actions: Vec<Action> =
        waiting.into_iter().map(|work| Action::Finish(work.mutation.operation_id, Err(stopping()))).collect();
    busy.stopping = true;
    busy.ends.get_or_insert_with(stopping);
    actions.push(Action::Interrupt);
    (InBusy(busy), actions)
}

/// A step has ended well.
fn next(mut busy: Box<Busy>) -> (State, Vec<Action>) {
    if let Some(failure) = busy.ends.take() {
        // The last step's effect is there: the work is done, whoever wanted it to end.
        let outcome = if busy.steps.is_empty() && busy.step != Step::Look { Ok(()) } else { Err(failure) };
        return finish(busy, outcome);
    }
    match busy.steps.pop_front() {
        Some(step) => {
            busy.step = step;
            (InBusy(busy), vec![Action::Run(step)])
        }
        None => finish(busy, Ok(())),
    }
}

fn finish(busy: Box<Busy>, outcome: Result<(), Failure>) -> (State, Vec<Action>) {
    let Busy { work, queue, stopping: ends, .. } = *busy;
    let gone = outcome.is_ok() && matches!(work.job, Job::Delete);
    let mut actions = vec![Action::Finish(work.mutation.operation_id, outcome)];
    if ends {
        return (State::Stopped, actions);
    }
    if gone {
        // Only deletes can wait behind a delete.
        actions.extend(queue.into_iter().map(|other| Action::Finish(other.mutation.operation_id, Ok(()))));
        return (State::Deleted, actions);
    }
    let (state, more) = begin(queue);
    actions.extend(more);
    (state, actions)
}

fn begin(mut queue: VecDeque<Work>) -> (State, Vec<Action>) {
    match queue.pop_front() {
        None => (State::Idle, Vec::new()),
        Some(work) => {
            let busy = Busy { work, step: Step::Look, steps: VecDeque::new(), ends: None, queue, stopping: false };
            (InBusy(Box::new(busy)), vec![Action::Run(Step::Look)])
        }
    }
}

impl Busy {
    fn deletes(&self) -> bool {
        matches!(self.work.job, Job::Delete) || self.queue.iter().any(|work| matches!(work.job, Job::Delete))
    }
}

fn cancelled(why: &str) -> Failure {
    Failure::new(Reason::Cancelled, format!("ended early: {why}"))
}

fn deleted() -> Failure {
    Failure::new(Reason::InstanceDeleted, "the instance is being deleted on this node: order a new one")
}

fn stopping() -> Failure {
    Failure::new(Reason::Unavailable, "the agent is stopping: ask for the same operation again")
}

#[cfg(test)]
mod tests;
