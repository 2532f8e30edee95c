//! Carries one leased saga on, until it ends, has to wait, or the lease is lost.
//!
//! Forward is here; `back` undoes, `elsewhere` begins again on another node, `guard` keeps the lease beside a step, `trace`
//! says to which trace it all belongs.

mod back;
mod elsewhere;
mod guard;
mod trace;

use std::time::Duration;

use nemordp_model::{OrderChange, Saga, SagaKind, SagaStatus, SagaStep, StepState};
use nemordp_store::{Effect, Hold, Lease, LeasedSaga, SagaWrite, StoreError, TenantScope};
use nemordp_types::template::RdpSecurity;
use nemordp_types::{Failure, Reason};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::Tools;
use super::plan::{Step, steps};
use super::retry::{BEGUN_MAX, Next, StepFailure, after_failure};
use super::state::State;
use super::step::{self, without_node};

/// How long the store may take to answer at least.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// Why the saga is not worked on any more here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// It is over.
    Ended,
    /// It waits for its next attempt.
    Later,
    /// Somebody else has it now, or deletion won.
    Lost,
    /// This process ends; another one carries on.
    Stopped,
}

/// Why a step was left.
enum Left {
    Failed(StepFailure),
    Cancelled,
    Rest(Rest),
}

impl From<StepFailure> for Left {
    fn from(failure: StepFailure) -> Self {
        Self::Failed(failure)
    }
}

struct Carrier<'a> {
    tools: &'a Tools,
    lease: Lease,
    saga: Saga,
    /// The steps as the store has them: only those that differ are written.
    stored: Vec<SagaStep>,
    state: State,
    /// How the guest secures RDP, once the instance was read.
    security: Option<RdpSecurity>,
    lease_for: Duration,
    stop: &'a CancellationToken,
    /// The step whose intent this lease has written.
    intended: Option<u32>,
    cancel: bool,
}

/// Carries a saga on to its next rest.
pub async fn carry(tools: &Tools, leased: LeasedSaga, lease_for: Duration, stop: &CancellationToken) -> Rest {
    let saga_id = leased.saga.id;
    let state = match State::from_text(&leased.state) {
        Ok(state) => state,
        Err(failure) => {
            tracing::error!(%saga_id, ?failure, "a saga is left alone");
            return Rest::Later;
        }
    };
    let cancel = leased.saga.cancel_requested_at.is_some();
    let (lease, saga, stored) = (leased.lease, leased.saga.clone(), leased.saga.steps);
    let (security, intended) = (None, None);
    let mut carrier = Carrier { tools, lease, saga, stored, state, security, lease_for, stop, intended, cancel };
    carrier.join_trace();
    loop {
        let outcome = match carrier.saga.status {
            SagaStatus::Running => carrier.forward().await,
            SagaStatus::Unwinding => carrier.backward().await,
            SagaStatus::Done | SagaStatus::Unwound | SagaStatus::Cancelled | SagaStatus::Stuck => return Rest::Ended,
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(Rest::Stopped)) => return carrier.let_go().await,
            Ok(Some(rest)) => return rest,
            Err(StoreError::StaleFence) => return Rest::Lost,
            // What was called off meanwhile takes no further effect; a write that says so is refused.
            Err(StoreError::Refused(_)) if !carrier.cancel && carrier.called_off().await => {}
            Err(error) => {
                tracing::warn!(%saga_id, %error, "the store refused; the saga is taken up again when its lease ends");
                return Rest::Later;
            }
        }
    }
}

type Carried = Result<Option<Rest>, StoreError>;

impl Carrier<'_> {
    fn step(&self) -> Option<Step> {
        usize::try_from(self.saga.step).ok().and_then(|index| steps(self.saga.kind).get(index).copied())
    }

    fn row(&mut self, position: u32) -> Option<&mut SagaStep> {
        self.saga.steps.iter_mut().find(|row| row.position == position)
    }

    async fn forward(&mut self) -> Carried {
        let cancellable = self.saga.kind == SagaKind::Provision;
        if self.cancel && cancellable {
            return self.turn_back(cancelled()).await;
        }
        let Some(step) = self.step() else {
            return self.turn_back(Failure::internal("the saga has fewer steps than its state says")).await;
        };
        if let Some(leaving) = self.state.leaving.clone() {
            return self.move_on(leaving).await;
        }
        let begun = self.row(self.saga.step).map_or(0, |row| row.attempts);
        if begun >= BEGUN_MAX && !step.is_patient(self.saga.kind) {
            return self.turn_back(never_ends(step, begun)).await;
        }
        if self.intended != Some(self.saga.step) {
            let mut effects = self.intend();
            effects.extend(self.first_effects());
            self.write(Hold::Keep(self.lease_for), &effects).await?;
        }
        let began = Instant::now();
        let span = self.step_span(step);
        let outcome = self.guarded(step, cancellable).instrument(span.clone()).await;
        trace::note(&span, &outcome);
        let (kind, name) = (self.saga.kind.word(), step.name());
        metrics::histogram!("nemordp_step_seconds", "saga" => kind, "step" => name)
            .record(began.elapsed().as_secs_f64());
        match outcome {
            Ok(effects) => self.succeed(effects).await,
            Err(Left::Cancelled) => {
                self.cancel = true;
                self.turn_back(cancelled()).await
            }
            Err(Left::Rest(rest)) => Ok(Some(rest)),
            Err(Left::Failed(failed)) => self.fail(failed).await,
        }
    }

    /// The present step's row and its change, before anything is done; gives what is to be stored with them.
    fn intend(&mut self) -> Vec<Effect> {
        self.begin_row();
        self.intended = Some(self.saga.step);
        let instance = self.saga.instance_id.filter(|_| self.step() == Some(Step::SetPassword));
        let Some(instance_id) = instance.filter(|_| !self.state.password_made) else { return Vec::new() };
        match step::sealed_password(self.tools, instance_id) {
            Ok(seal) => {
                self.state.password_made = true;
                vec![seal]
            }
            // The step tries it again, and says what is wrong.
            Err(_) => Vec::new(),
        }
    }

    fn begin_row(&mut self) {
        let (position, now) = (self.saga.step, self.tools.clock.now());
        self.state.change(position, self.tools.clock.as_ref(), self.tools.entropy.as_ref());
        if let Some(row) = self.row(position) {
            row.state = StepState::Running;
            row.attempts += 1;
            row.started_at.get_or_insert(now);
            row.failure = None;
        }
    }

    fn end_row(&mut self) {
        let (position, now) = (self.saga.step, self.tools.clock.now());
        if let Some(row) = self.row(position) {
            row.state = StepState::Done;
            row.finished_at = Some(now);
            (row.percent, row.detail) = (None, None);
        }
        self.state.tries = 0;
    }

    fn first_effects(&self) -> Vec<Effect> {
        let begins = self.saga.kind == SagaKind::Provision && self.saga.step == 0;
        let order = self.saga.order_id.filter(|_| begins);
        order.map(|order_id| Effect::Order { order_id, change: OrderChange::Provision }).into_iter().collect()
    }

    /// The step's result and the next one's intent, in one write. Steps that touch nothing but the store are part of it: they
    /// have nothing that an intent could be needed for.
    async fn succeed(&mut self, mut effects: Vec<Effect>) -> Carried {
        self.end_row();
        let kind = self.saga.kind;
        loop {
            if usize::try_from(self.saga.step + 1).is_ok_and(|next| next >= steps(kind).len()) {
                self.saga.status = SagaStatus::Done;
                break;
            }
            self.saga.step += 1;
            let instance_id = self.saga.instance_id;
            let alone = self.step().zip(instance_id).and_then(|(step, instance_id)| {
                let effects = step::in_store(step, self.security, instance_id, self.saga.order_id)?;
                Some((step, effects))
            });
            let Some((step, more)) = alone else {
                effects.extend(self.intend());
                break;
            };
            self.begin_row();
            trace::note(&self.step_span(step), &Ok(()));
            self.end_row();
            metrics::histogram!("nemordp_step_seconds", "saga" => kind.word(), "step" => step.name()).record(0.0);
            effects.extend(more);
        }
        self.write(Hold::Keep(self.lease_for), &effects).await?;
        Ok(None)
    }

    async fn fail(&mut self, StepFailure { failure, retry }: StepFailure) -> Carried {
        if self.frozen(&failure).await? {
            return Ok(Some(Rest::Lost));
        }
        if failure.reason == Reason::NodeFenced
            && let Some(done) = self.done_without_node()
        {
            tracing::warn!(saga_id = %self.saga.id, step = self.saga.step, "done without its node, which is fenced");
            return self.succeed(done).await;
        }
        self.state.tries += 1;
        let nodes = self.state.given_up.len();
        let (kind, entropy) = (self.saga.kind, self.tools.entropy.as_ref());
        let patient = self.step().is_some_and(|step| step.is_patient(kind));
        let next = after_failure(kind, patient, retry, self.state.tries, nodes, entropy);
        tracing::warn!(
            saga_id = %self.saga.id, step = self.saga.step, tries = self.state.tries, ?failure, ?next, "step failed"
        );
        let position = self.saga.step;
        let step = self.step().map_or("none", Step::name);
        let labels = [("saga", self.saga.kind.word()), ("step", step), ("reason", failure.reason.word())];
        metrics::counter!("nemordp_step_failures_total", &labels).increment(1);
        if let Some(row) = self.row(position) {
            row.failure = Some(failure.clone());
        }
        match next {
            Next::Again(pause) => self.wait(pause).await,
            Next::OtherNode => self.leave(failure).await,
            Next::Unwind => self.turn_back(failure).await,
            Next::Stuck => self.stick(failure).await,
        }
    }

    /// What the present step brings about without its node, if it may not wait and is never taken back.
    fn done_without_node(&self) -> Option<Vec<Effect>> {
        let step = self.step().filter(|step| step.is_patient(self.saga.kind))?;
        Some(without_node(step, self.saga.instance_id?))
    }

    /// The node has seen higher numbers than those of the newest lease: the store was restored from a backup. Trying on
    /// would raise them until the node believes a wish of yesterday.
    async fn frozen(&self, failure: &Failure) -> Result<bool, StoreError> {
        if !matches!(failure.reason, Reason::StaleGeneration | Reason::StoreBehindNode) {
            return Ok(false);
        }
        let frozen = self.tools.store.instance_freeze_behind(&self.lease).await?;
        if frozen {
            tracing::error!(saga_id = %self.saga.id, ?failure, "the store is behind the node: frozen until the operator settles it");
        }
        Ok(frozen)
    }

    async fn wait(&mut self, pause: Duration) -> Carried {
        let at = self.tools.clock.now().checked_add(pause).unwrap_or(jiff::Timestamp::MAX);
        self.write(Hold::Until(at), &[]).await?;
        Ok(Some(Rest::Later))
    }

    async fn stick(&mut self, failure: Failure) -> Carried {
        tracing::error!(saga_id = %self.saga.id, ?failure, "stuck: a human must look");
        self.saga.status = SagaStatus::Stuck;
        self.saga.failure = Some(failure);
        self.state.tries = 0;
        self.write(Hold::Keep(self.lease_for), &[]).await?;
        Ok(None)
    }

    /// Everything back, from the present step on.
    async fn turn_back(&mut self, failure: Failure) -> Carried {
        let (position, now) = (self.saga.step, self.tools.clock.now());
        if let Some(row) = self.row(position) {
            row.state = StepState::Failed;
            row.finished_at = Some(now);
            row.failure = Some(failure.clone());
        }
        self.saga.status = SagaStatus::Unwinding;
        self.saga.failure = Some(failure.clone());
        self.state.cause = Some(failure);
        self.state.tries = 0;
        self.write(Hold::Keep(self.lease_for), &[]).await?;
        Ok(None)
    }

    /// Whether somebody asked to stop since the saga was leased; if so, it goes on from what is stored.
    async fn called_off(&mut self) -> bool {
        let store = &self.tools.store;
        let Ok(stored) = store.saga_fetch(TenantScope::All, self.saga.id).await else { return false };
        let Ok(text) = store.saga_state(self.saga.id).await else { return false };
        let Ok(state) = State::from_text(&text) else { return false };
        self.cancel = stored.cancel_requested_at.is_some() && stored.fence == self.lease.fence;
        if self.cancel {
            self.stored.clone_from(&stored.steps);
            (self.saga, self.state, self.intended) = (stored, state, None);
        }
        self.cancel
    }

    /// Gives the lease back, so that another process carries on at once.
    async fn let_go(&mut self) -> Rest {
        if let Err(error) = self.write(Hold::Until(self.tools.clock.now()), &[]).await {
            tracing::debug!(saga_id = %self.saga.id, %error, "a lease was not given back; it ends by itself");
        }
        Rest::Stopped
    }

    /// How long the store may take to answer: after the lease nothing that it says counts, but a busy one gets its time.
    fn patience(&self) -> Duration {
        self.lease_for.max(PATIENCE)
    }

    async fn write(&mut self, hold: Hold, effects: &[Effect]) -> Result<(), StoreError> {
        // What was shown of the present step meanwhile is not in our copy.
        let present = self.saga.step;
        let differs = |row: &&SagaStep| row.position == present || !self.stored.contains(row);
        let changed: Vec<SagaStep> = self.saga.steps.iter().filter(differs).cloned().collect();
        let write = SagaWrite {
            state: &self.state.to_text()?,
            status: self.saga.status,
            step: present,
            failure: self.saga.failure.as_ref(),
            hold,
            steps: &changed,
            effects,
        };
        let written = timeout(self.patience(), self.tools.store.saga_write(&self.lease, &write)).await;
        written.unwrap_or_else(|_| Err(StoreError::Unreachable("no answer for too long".to_owned())))?;
        self.stored.clone_from(&self.saga.steps);
        if !self.saga.status.is_open() {
            let labels = [("saga", self.saga.kind.word()), ("status", self.saga.status.word())];
            metrics::counter!("nemordp_saga_ended_total", &labels).increment(1);
        }
        Ok(())
    }
}

/// A step that takes its replica with it each time it runs never fails by itself.
fn never_ends(step: Step, begun: u32) -> Failure {
    let message = format!("the step {} was begun {begun} times and never ended", step.name());
    Failure::new(Reason::DeadlineExceeded, message)
}

fn cancelled() -> Failure {
    Failure::new(Reason::Cancelled, "the order was cancelled")
}
