//! Carries one leased saga on, until it ends, has to wait, or the lease is lost.

use std::time::Duration;

use nemordp_model::{OrderChange, Saga, SagaKind, SagaStatus, SagaStep, StepState, place};
use nemordp_store::{Effect, Hold, Lease, LeasedSaga, SagaWrite, StoreError, TenantScope};
use nemordp_types::{Failure, Reason, ReservationId};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_util::sync::CancellationToken;

use super::Tools;
use super::plan::{Step, steps};
use super::retry::{Next, StepFailure, after_failed_undo, after_failure};
use super::state::State;
use super::step::{Shown, Work, subject};

/// Progress is written at most this often.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);
/// Placements of one order anew, while others are quicker.
const PLACEMENTS_MAX: u32 = 8;

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
    state: State,
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
    let mut carrier =
        Carrier { tools, lease: leased.lease, saga: leased.saga, state, lease_for, stop, intended: None, cancel };
    loop {
        let outcome = match carrier.saga.status {
            SagaStatus::Running => carrier.forward().await,
            SagaStatus::Unwinding => carrier.backward().await,
            SagaStatus::Done | SagaStatus::Unwound | SagaStatus::Cancelled | SagaStatus::Stuck => return Rest::Ended,
        };
        match outcome {
            Ok(None) => {}
            Ok(Some(rest)) => return rest,
            Err(StoreError::StaleFence) => return Rest::Lost,
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
        if self.intended != Some(self.saga.step) {
            self.intend();
            let effects = self.first_effects();
            self.write(Hold::Keep(self.lease_for), &effects).await?;
        }
        let began = Instant::now();
        let outcome = self.guarded(step, cancellable).await;
        let (kind, name) = (self.saga.kind.word(), step.name());
        metrics::histogram!("nemordp_step_seconds", "saga" => kind, "step" => name)
            .record(began.elapsed().as_secs_f64());
        match outcome {
            Ok(effects) => self.succeed(effects).await,
            Err(Left::Cancelled) => {
                self.cancel = true;
                self.turn_back(cancelled()).await
            }
            Err(Left::Rest(Rest::Stopped)) => {
                let now = self.tools.clock.now();
                self.write(Hold::Until(now), &[]).await?;
                Ok(Some(Rest::Stopped))
            }
            Err(Left::Rest(rest)) => Ok(Some(rest)),
            Err(Left::Failed(failed)) => self.fail(failed).await,
        }
    }

    /// The present step's row and its change, before anything is done.
    fn intend(&mut self) {
        let (position, now) = (self.saga.step, self.tools.clock.now());
        self.state.change(position, self.tools.clock.as_ref(), self.tools.entropy.as_ref());
        if let Some(row) = self.row(position) {
            row.state = StepState::Running;
            row.attempts += 1;
            row.started_at.get_or_insert(now);
            row.failure = None;
        }
        self.intended = Some(position);
    }

    fn first_effects(&self) -> Vec<Effect> {
        let begins = self.saga.kind == SagaKind::Provision && self.saga.step == 0;
        let order = self.saga.order_id.filter(|_| begins);
        order.map(|order_id| Effect::Order { order_id, change: OrderChange::Provision }).into_iter().collect()
    }

    async fn succeed(&mut self, effects: Vec<Effect>) -> Carried {
        let (position, now) = (self.saga.step, self.tools.clock.now());
        if let Some(row) = self.row(position) {
            row.state = StepState::Done;
            row.finished_at = Some(now);
            (row.percent, row.detail) = (None, None);
        }
        self.state.tries = 0;
        if usize::try_from(position + 1).is_ok_and(|next| next < steps(self.saga.kind).len()) {
            self.saga.step = position + 1;
            self.intend();
        } else {
            self.saga.status = SagaStatus::Done;
        }
        self.write(Hold::Keep(self.lease_for), &effects).await?;
        Ok(None)
    }

    async fn fail(&mut self, StepFailure { failure, retry }: StepFailure) -> Carried {
        self.state.tries += 1;
        let nodes = self.state.given_up.len();
        let next = after_failure(self.saga.kind, retry, self.state.tries, nodes, self.tools.entropy.as_ref());
        tracing::warn!(
            saga_id = %self.saga.id, step = self.saga.step, tries = self.state.tries, ?failure, ?next, "step failed"
        );
        let position = self.saga.step;
        if let Some(row) = self.row(position) {
            row.failure = Some(failure.clone());
        }
        match next {
            Next::Again(pause) => self.wait(pause).await,
            Next::OtherNode => self.move_on(failure).await,
            Next::Unwind => self.turn_back(failure).await,
            Next::Stuck => self.stick(failure).await,
        }
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
        self.saga.failure = Some(failure);
        self.state.tries = 0;
        self.write(Hold::Keep(self.lease_for), &[]).await?;
        Ok(None)
    }

    /// Undoes from the present step down; what needs no undo is only noted.
    async fn backward(&mut self) -> Carried {
        loop {
            let position = self.saga.step;
            // A step that never began has nothing to undo.
            let began = self.state.changes.contains_key(&position);
            if began && self.step().is_some_and(Step::has_undo) {
                let (id, fresh) = self.state.undo(position, self.tools.clock.as_ref(), self.tools.entropy.as_ref());
                if let Some(row) = self.row(position) {
                    row.state = StepState::Undoing;
                }
                if fresh {
                    self.write(Hold::Keep(self.lease_for), &[]).await?;
                }
                match self.removed(id).await {
                    Ok(()) => {}
                    Err(Left::Rest(rest)) => return Ok(Some(rest)),
                    Err(Left::Cancelled) => return Ok(Some(Rest::Later)),
                    Err(Left::Failed(failed)) => return self.fail_undo(failed).await,
                }
            }
            if let Some(row) = self.row(position) {
                row.state = if began { StepState::Undone } else { StepState::Skipped };
            }
            self.state.tries = 0;
            if position == 0 {
                return self.unwound().await;
            }
            self.saga.step = position - 1;
        }
    }

    async fn fail_undo(&mut self, StepFailure { failure, retry }: StepFailure) -> Carried {
        self.state.tries += 1;
        let next = after_failed_undo(retry, self.state.tries, self.tools.entropy.as_ref());
        tracing::warn!(saga_id = %self.saga.id, tries = self.state.tries, ?failure, ?next, "undo failed");
        match next {
            Next::Again(pause) => self.wait(pause).await,
            Next::OtherNode | Next::Unwind | Next::Stuck => self.stick(failure).await,
        }
    }

    async fn unwound(&mut self) -> Carried {
        let failure = self.saga.failure.clone().unwrap_or_else(|| Failure::internal("unwound without a cause"));
        let asked_for = failure.reason == Reason::Cancelled;
        self.saga.status = if asked_for { SagaStatus::Cancelled } else { SagaStatus::Unwound };
        let mut effects = Vec::new();
        if self.saga.kind == SagaKind::Provision {
            effects.extend(self.saga.instance_id.map(|instance_id| Effect::InstanceFailed { instance_id }));
            let change = if asked_for { OrderChange::Cancel } else { OrderChange::Fail(failure) };
            effects.extend(self.saga.order_id.map(|order_id| Effect::Order { order_id, change }));
        }
        self.write(Hold::Keep(self.lease_for), &effects).await?;
        Ok(None)
    }

    /// Undoes what was made on this node, and begins on another; without another, everything back.
    async fn move_on(&mut self, failure: Failure) -> Carried {
        let (id, fresh) = self.state.undo(0, self.tools.clock.as_ref(), self.tools.entropy.as_ref());
        if fresh {
            self.write(Hold::Keep(self.lease_for), &[]).await?;
        }
        match self.removed(id).await {
            Ok(()) => {}
            Err(Left::Rest(rest)) => return Ok(Some(rest)),
            Err(Left::Cancelled | Left::Failed(_)) => return self.turn_back(failure).await,
        }
        if !self.placed_again().await? {
            return self.turn_back(failure).await;
        }
        for row in &mut self.saga.steps {
            row.state = StepState::Pending;
            (row.started_at, row.finished_at) = (None, None);
        }
        self.saga.step = 0;
        self.intended = None;
        self.write(Hold::Keep(self.lease_for), &[]).await?;
        Ok(None)
    }

    /// Places on a node that was not tried yet; false when there is none.
    async fn placed_again(&mut self) -> Result<bool, StoreError> {
        let (Some(order_id), Some(instance_id)) = (self.saga.order_id, self.saga.instance_id) else { return Ok(false) };
        let store = &self.tools.store;
        let region = store.order_fetch(TenantScope::All, order_id).await?.region;
        let instance = store.instance_fetch(TenantScope::All, instance_id).await?;
        let (spec, left) = (&instance.spec, instance.node_id);
        let mut exclude: std::collections::BTreeSet<_> = self.state.given_up.iter().copied().collect();
        exclude.insert(left);
        let request = nemordp_model::PlacementRequest {
            region: region.clone(),
            vcpu: spec.vcpu,
            memory: spec.memory,
            disk: spec.disk,
            storage_class: spec.storage_class.clone(),
            template: spec.template.digest,
            template_size: spec.template.file_size,
            exclude,
        };
        for _ in 0..PLACEMENTS_MAX {
            let snapshot = store.fleet_snapshot(Some(&region)).await?;
            let Ok(placement) = place(&request, &snapshot) else { return Ok(false) };
            let reservation = ReservationId::new(self.tools.clock.as_ref(), self.tools.entropy.as_ref());
            match store.instance_place_again(&self.lease, instance_id, placement.node_id, reservation).await {
                Ok((_, lease)) => {
                    self.lease = lease;
                    self.state.start_over(left);
                    return Ok(true);
                }
                Err(StoreError::Raced) => {}
                Err(StoreError::PortPoolExhausted | StoreError::AddressPoolExhausted) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    async fn write(&self, hold: Hold, effects: &[Effect]) -> Result<(), StoreError> {
        let write = SagaWrite {
            state: &self.state.to_text()?,
            status: self.saga.status,
            step: self.saga.step,
            failure: self.saga.failure.as_ref(),
            hold,
            steps: &self.saga.steps,
            effects,
        };
        self.tools.store.saga_write(&self.lease, &write).await
    }

    /// Does a step while the lease is renewed, progress is shown, and somebody may ask to stop.
    async fn guarded(&mut self, step: Step, cancellable: bool) -> Result<Vec<Effect>, Left> {
        let (shown, watched) = watch::channel(Shown::default());
        let (instance, place) = subject(self.tools, &self.lease).await.map_err(StepFailure::from)?;
        let mut work = Work {
            tools: self.tools,
            lease: &self.lease,
            lease_for: self.lease_for,
            position: self.saga.step,
            state: &mut self.state,
            order_id: self.saga.order_id,
            instance,
            place,
            shown: &shown,
        };
        let guard = Guard {
            tools: self.tools,
            lease: &self.lease,
            lease_for: self.lease_for,
            stop: self.stop,
            position: self.saga.step,
            cancellable,
        };
        tokio::select! {
            // A step that ended counts, even when the lease is lost in the same instant: its write will say so.
            biased;
            outcome = Box::pin(work.run(step)) => Ok(outcome?),
            left = guard.watch(watched) => Err(left),
        }
    }

    /// Has the instance removed from its node, guarded as a step is.
    async fn removed(&mut self, id: nemordp_types::OperationId) -> Result<(), Left> {
        let (shown, watched) = watch::channel(Shown::default());
        let (instance, place) = subject(self.tools, &self.lease).await.map_err(StepFailure::from)?;
        let work = Work {
            tools: self.tools,
            lease: &self.lease,
            lease_for: self.lease_for,
            position: self.saga.step,
            state: &mut self.state,
            order_id: self.saga.order_id,
            instance,
            place,
            shown: &shown,
        };
        let guard = Guard {
            tools: self.tools,
            lease: &self.lease,
            lease_for: self.lease_for,
            stop: self.stop,
            position: self.saga.step,
            cancellable: false,
        };
        tokio::select! {
            biased;
            outcome = Box::pin(work.remove(id)) => Ok(outcome.map_err(StepFailure::from)?),
            left = guard.watch(watched) => Err(left),
        }
    }
}

fn cancelled() -> Failure {
    Failure::new(Reason::Cancelled, "the order was cancelled")
}

/// What goes on beside a step.
struct Guard<'a> {
    tools: &'a Tools,
    lease: &'a Lease,
    lease_for: Duration,
    stop: &'a CancellationToken,
    position: u32,
    cancellable: bool,
}

impl Guard<'_> {
    /// Returns when the step has to be left.
    async fn watch(&self, mut shown: watch::Receiver<Shown>) -> Left {
        let every = (self.lease_for / 3).max(Duration::from_millis(10));
        let mut renewals = interval_at(Instant::now() + every, every);
        renewals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_shown: Option<Instant> = None;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Left::Rest(Rest::Stopped),
                _ = renewals.tick() => match self.tools.store.saga_renew(self.lease, self.lease_for).await {
                    Ok(true) if self.cancellable => return Left::Cancelled,
                    Ok(_) => {}
                    Err(StoreError::StaleFence) => return Left::Rest(Rest::Lost),
                    Err(error) => tracing::warn!(%error, "a lease was not renewed"),
                },
                changed = shown.changed() => {
                    if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                    if let Some(last) = last_shown {
                        tokio::time::sleep_until(last + PROGRESS_EVERY).await;
                    }
                    last_shown = Some(Instant::now());
                    let now = shown.borrow_and_update().clone();
                    let outcome =
                        self.tools.store.saga_progress(self.lease, self.position, now.percent, now.detail.as_deref()).await;
                    if matches!(outcome, Err(StoreError::StaleFence)) {
                        return Left::Rest(Rest::Lost);
                    }
                }
            }
        }
    }
}
