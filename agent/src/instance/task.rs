//! One task owns one instance: its record, its machine, the one step that runs.

mod prune;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_trace::{TraceParent, span};
use nemordp_types::instance::PowerAction;
use nemordp_types::operation::{Operation, OperationState, Stage};
use nemordp_types::{Failure, Generation, Mutation, OperationId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::Span;

use super::Shared;
use super::admission::{self, Admission};
use super::gate;
use super::machine::{self, Action, Event, State};
use super::plan::{Job, Step, Work};
use super::sight::Observed;
use super::step::{Found, Run};
use crate::host::{Host, HostInstance};
use crate::journal::{Record, Tombstone};

/// How long a look at the domain after a step may take; a host that hangs must not hold the task.
const LOOK: Duration = Duration::from_secs(5);
/// Messages that wait for one instance's task.
pub(super) const MAILBOX: usize = 32;

/// What a task is asked.
#[derive(Debug)]
pub(super) enum Message {
    /// A mutation, and to which trace it belongs.
    Request { work: Work, by: Option<TraceParent>, answer: oneshot::Sender<Result<Operation, Failure>> },
    /// What the hypervisor shows of it now.
    Seen(Option<Box<HostInstance>>),
    /// Start it again after a reboot of the host.
    Resume,
    /// It was moved away or has ended, at this generation; the answer comes when that is written down.
    Withdraw { generation: Generation, answer: oneshot::Sender<()> },
    /// Switch it off at that time, or not any more.
    Schedule { mutation: Mutation, at: Option<Timestamp>, answer: oneshot::Sender<Result<(), Failure>> },
    /// The control plane has heard that a suspension has happened.
    SuspensionReceived(OperationId),
    /// Drop what is too old; answers whether nothing is left to remember.
    Prune { answer: oneshot::Sender<bool> },
    /// End; the answer comes when nothing runs any more.
    Stop { done: oneshot::Sender<()> },
}

pub(super) struct Task<H> {
    pub(super) shared: Arc<Shared<H>>,
    pub(super) record: Record,
    pub(super) state: State,
    mailbox: mpsc::Receiver<Message>,
    pub(super) running: Option<JoinHandle<Result<Found, Failure>>>,
    interrupt: CancellationToken,
    pub(super) seen: Option<Box<HostInstance>>,
    pub(super) observed: Observed,
    pub(super) probe: Option<JoinHandle<Observed>>,
    stopped: Option<oneshot::Sender<()>>,
    /// The spans of operations that are not over; each outlives the call that asked for it.
    spans: HashMap<OperationId, Span>,
}

/// What a task waits for.
enum Woken {
    Message(Option<Message>),
    Step(Box<Result<Found, Failure>>),
    Probe(Observed),
}

impl<H: Host> Task<H> {
    pub(super) fn new(
        shared: Arc<Shared<H>>,
        record: Record,
        seen: Option<Box<HostInstance>>,
        mailbox: mpsc::Receiver<Message>,
    ) -> Self {
        // A domain that a finished delete left can only be one that came back: it may be deleted again.
        let gone = seen.is_none() && record.tombstone.is_some_and(|t| t.finished_at.is_some());
        for operation in &record.operations {
            shared.board.operation_put(operation.clone());
        }
        let state = if gone { State::Deleted } else { State::Idle };
        let task = Self {
            shared,
            record,
            state,
            mailbox,
            running: None,
            interrupt: CancellationToken::new(),
            seen,
            observed: Observed::default(),
            probe: None,
            stopped: None,
            spans: HashMap::new(),
        };
        task.show();
        task.show_suspension();
        task
    }

    pub(super) async fn run(mut self) {
        loop {
            match self.woken().await {
                Woken::Message(None) => break,
                Woken::Message(Some(message)) => {
                    if self.message(message).await {
                        break;
                    }
                }
                Woken::Step(outcome) => self.ended(*outcome).await,
                Woken::Probe(observed) => {
                    self.observed = observed;
                    self.show();
                }
            }
            if matches!(self.state, State::Stopped) && self.running.is_none() {
                if let Some(done) = self.stopped.take() {
                    // Whoever asked may have stopped waiting.
                    done.send(()).ok();
                }
                break;
            }
        }
        if let Some(probe) = self.probe.take() {
            probe.abort();
        }
    }

    async fn woken(&mut self) -> Woken {
        tokio::select! {
            message = self.mailbox.recv() => Woken::Message(message),
            outcome = joined(&mut self.running) => {
                self.running = None;
                let lost = |error| Err(Failure::internal(format!("a step ended unexpectedly: {error}")));
                Woken::Step(Box::new(outcome.unwrap_or_else(lost)))
            }
            outcome = joined(&mut self.probe) => {
                self.probe = None;
                Woken::Probe(outcome.unwrap_or_default())
            }
        }
    }

    /// Whether the task is over.
    async fn message(&mut self, message: Message) -> bool {
        match message {
            Message::Request { work, by, answer } => {
                let result = self.request_within(by, work).await;
                // The caller may have hung up; the operation runs nevertheless.
                drop(answer.send(result));
            }
            Message::Seen(seen) => {
                self.seen(seen);
                self.suspend_when_due().await;
            }
            Message::Schedule { mutation, at, answer } => {
                let result = self.schedule(&mutation, at).await;
                answer.send(result).ok();
            }
            Message::SuspensionReceived(operation) => self.suspension_received(operation).await,
            Message::Resume => self.by_itself(PowerAction::Start, "the host was rebooted").await,
            Message::Withdraw { generation, answer } => {
                self.withdraw(generation).await;
                answer.send(()).ok();
            }
            Message::Prune { answer } => {
                let over = self.prune().await;
                answer.send(over).ok();
                return over;
            }
            Message::Stop { done } => {
                self.stopped = Some(done);
                self.advance(Event::Stop).await;
            }
        }
        false
    }

    /// Takes work that nobody's trace asks for.
    pub(super) async fn request(&mut self, work: Work) -> Result<Operation, Failure> {
        self.request_within(None, work).await
    }

    async fn request_within(&mut self, by: Option<TraceParent>, work: Work) -> Result<Operation, Failure> {
        let kind = work.job.kind();
        let admission = admission::admit(&self.record, &work.mutation, kind)?;
        let mut record = self.record.clone();
        record.pair = record.pair.max(work.mutation.pair);
        if let Admission::Recorded(operation) = admission {
            if record.pair != self.record.pair {
                self.shared.journal.save(&record).await?;
                self.record = record;
            }
            return Ok(self.shared.board.operation(operation.mutation.operation_id).unwrap_or(*operation));
        }
        machine::accepts(&self.state, &work.job)?;
        if gate::starts(&work.job) {
            self.shared.gate.admit(&work.job)?;
            admission::require_wanted_here(&record, &work.mutation)?;
            record.withdrawn = None;
        }
        let now = self.shared.clock.now();
        let operation = Operation {
            mutation: work.mutation,
            kind,
            stage: Stage::Queued,
            percent: None,
            state: OperationState::Running,
            accepted_at: now,
            finished_at: None,
        };
        record.put(operation.clone());
        if matches!(work.job, Job::Delete) {
            record.tombstone.get_or_insert(Tombstone { accepted_at: now, finished_at: None });
        }
        self.drop_old(&mut record);
        self.shared.journal.save(&record).await?;
        self.record = record;
        self.shared.board.operation_put(operation.clone());
        tracing::info!(
            instance = %work.mutation.instance_id, operation = %work.mutation.operation_id, kind = kind.word(),
            generation = work.mutation.pair.generation.0, fence = work.mutation.pair.fence.0, "accepted"
        );
        self.spans.insert(work.mutation.operation_id, operation_span(&work, by));
        self.advance(Event::Requested(work)).await;
        Ok(self.shared.board.operation(operation.mutation.operation_id).unwrap_or(operation))
    }

    async fn advance(&mut self, event: Event) {
        let (state, actions) = machine::apply(std::mem::replace(&mut self.state, State::Stopped), event);
        self.state = state;
        for action in actions {
            match action {
                Action::Run(step) => self.begin(step),
                Action::Interrupt => self.interrupt.cancel(),
                Action::Finish(id, outcome) => self.finish(id, outcome).await,
            }
        }
        self.show();
    }

    fn begin(&mut self, step: Step) {
        let State::Busy(busy) = &self.state else { return };
        let work = busy.work.clone();
        tracing::debug!(instance = %self.record.instance_id, operation = %work.mutation.operation_id, ?step, "step");
        self.shared.board.operation_change(work.mutation.operation_id, |shown| {
            shown.stage = step.stage();
            shown.percent = None;
        });
        let span = self.spans.get(&work.mutation.operation_id).map_or_else(
            Span::none,
            |operation| span!(parent: operation, "step", otel.name = ?step, stage = step.stage().word()),
        );
        self.interrupt = CancellationToken::new();
        let run = Run {
            shared: Arc::clone(&self.shared),
            work,
            step,
            personalised: self.record.personalised.clone().map(|guest| (guest, self.record.personalised_disk)),
            interrupt: self.interrupt.clone(),
        };
        self.running = Some(tokio::spawn(nemordp_trace::record(span, Box::pin(run.run()))));
    }

    async fn ended(&mut self, outcome: Result<Found, Failure>) {
        let event = match outcome {
            Ok(Found::Looked(facts, seen)) => {
                self.see(seen);
                Event::Looked(facts)
            }
            Ok(found) => match self.learn(found).await {
                Ok(()) => Event::StepDone,
                Err(failure) => Event::StepFailed(failure),
            },
            Err(failure) => Event::StepFailed(failure),
        };
        self.advance(event).await;
    }

    /// Keeps what a step found out.
    async fn learn(&mut self, found: Found) -> Result<(), Failure> {
        match found {
            Found::Done | Found::Looked(..) => {
                let found = self.shared.host.instance_find(self.record.instance_id);
                if let Ok(Ok(seen)) = tokio::time::timeout(LOOK, found).await {
                    self.see(seen.map(Box::new));
                }
            }
            Found::Agent => self.observed.agent = true,
            Found::Address(ipv4) => self.observed.ipv4 = Some(ipv4),
            Found::Certificate(certificate) => self.observed.certificate = Some(certificate),
            Found::Personalised(guest, personalised_disk) => {
                let record = Record { personalised: Some(guest), personalised_disk, ..self.record.clone() };
                self.shared.journal.save(&record).await?;
                self.record = record;
            }
        }
        Ok(())
    }

    async fn finish(&mut self, id: OperationId, outcome: Result<(), Failure>) {
        if let (Some(span), Err(failure)) = (self.spans.remove(&id), &outcome) {
            nemordp_trace::fail(&span, failure.reason);
        }
        let now = self.shared.clock.now();
        let Some(mut operation) = self.record.operation(id).cloned() else { return };
        if operation.state != OperationState::Running {
            return;
        }
        operation.finished_at = Some(now);
        operation.percent = None;
        // A failed operation keeps the stage that failed: that tells the operator where to look.
        if let Some(shown) = self.shared.board.operation(id) {
            operation.stage = shown.stage;
        }
        let took = Duration::try_from(now.duration_since(operation.accepted_at)).unwrap_or_default();
        self.shared.telemetry.operation_ended(operation.kind, outcome.as_ref().err().map(|f| f.reason), took);
        match outcome {
            Ok(()) => {
                tracing::info!(instance = %self.record.instance_id, operation = %id, kind = operation.kind.word(), "succeeded");
                operation.stage = Stage::Finished;
                operation.state = OperationState::Succeeded;
                if operation.kind == nemordp_types::operation::OperationKind::DeleteInstance
                    && let Some(tombstone) = &mut self.record.tombstone
                {
                    tombstone.finished_at.get_or_insert(now);
                    self.record.personalised = None;
                    self.seen = None;
                }
            }
            Err(failure) => {
                tracing::warn!(
                    instance = %self.record.instance_id, operation = %id, kind = operation.kind.word(),
                    stage = operation.stage.word(), ?failure, "failed"
                );
                operation.state = OperationState::Failed(failure);
            }
        }
        self.record.put(operation.clone());
        // Not durable, the outcome is unknown after a restart, and the same operation runs again: safe, only slower.
        if let Err(failure) = self.shared.journal.save(&self.record).await {
            tracing::error!(instance = %self.record.instance_id, ?failure, "the outcome was not written down");
        }
        let succeeded = operation.state == OperationState::Succeeded;
        self.shared.board.operation_put(operation);
        if succeeded {
            self.suspended(id).await;
        }
    }
}

/// An operation in the trace of whoever asked for it; one that the agent begins by itself, in a trace of its own.
fn operation_span(work: &Work, by: Option<TraceParent>) -> Span {
    let (mutation, kind) = (&work.mutation, work.job.kind().word());
    let span = span!(
        parent: None,
        "operation",
        otel.name = %format_args!("operation {kind}"),
        operation_id = %mutation.operation_id,
        instance_id = %mutation.instance_id
    );
    nemordp_trace::follow(&span, by);
    span
}

/// Waits for a task that may not be there.
async fn joined<T>(handle: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match handle {
        Some(handle) => handle.await,
        None => std::future::pending().await,
    }
}
