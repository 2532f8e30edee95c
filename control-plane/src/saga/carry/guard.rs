//! What goes on beside a step: the lease is kept, progress is shown, and somebody may ask to stop.

use std::time::Duration;

use nemordp_store::{Effect, Lease, StoreError, kept_at_least};
use nemordp_types::{Failure, OperationId, Reason, Retry};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{Carrier, Left, Rest};
use crate::saga::Tools;
use crate::saga::plan::Step;
use crate::saga::retry::StepFailure;
use crate::saga::step::{Shown, Work, subject};

/// Progress is written at most this often: it is for people who watch.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// A step that is over by then shows none.
const PROGRESS_AFTER: Duration = Duration::from_millis(400);

impl Carrier<'_> {
    /// Does a step, guarded.
    pub(super) async fn guarded(&mut self, step: Step, cancellable: bool) -> Result<Vec<Effect>, Left> {
        let deadline = self.tools.limits.of(step);
        let (shown, watched) = watch::channel(Shown::default());
        let needs_node = step.needs_node();
        let (mut work, guard) = self.prepare(&shown, cancellable, needs_node).await?;
        tokio::select! {
            // A step that ended counts, even when the lease is lost in the same instant: its write will say so.
            biased;
            outcome = timeout(deadline, Box::pin(work.run(step))) => Ok(outcome.map_err(|_| hung(step.name()))??),
            left = guard.watch(watched) => Err(left),
        }
    }

    /// Has the instance removed from its node, guarded as a step is.
    pub(super) async fn removed(&mut self, id: OperationId) -> Result<(), Left> {
        let deadline = self.tools.limits.of(Step::DeleteInstance);
        let (shown, watched) = watch::channel(Shown::default());
        let (work, guard) = self.prepare(&shown, false, true).await?;
        tokio::select! {
            biased;
            outcome = timeout(deadline, Box::pin(work.remove(id))) => {
                Ok(outcome.map_err(|_| hung("undo"))?.map_err(StepFailure::from)?)
            }
            left = guard.watch(watched) => Err(left),
        }
    }

    /// Takes back what this saga changed of what is wanted of the instance, and has the node follow, guarded as a step is.
    /// The room of a disk is given back last: only when the node has said that the disk did not grow.
    pub(super) async fn taken_back(&mut self, id: OperationId) -> Result<(), Left> {
        self.want_former(true).await?;
        let former = self.tools.store.saga_former(self.saga.id).await.map_err(StepFailure::from)?;
        let keeps_disk = self.state.keeps_disk;
        let deadline = self.tools.limits.of(Step::Reconfigure);
        let (shown, watched) = watch::channel(Shown::default());
        let (work, guard) = self.prepare(&shown, false, true).await?;
        let mut spec = work.instance.spec.clone();
        if !keeps_disk {
            spec.disk = former.spec.disk;
        }
        let brought = timeout(deadline, Box::pin(work.bring_to(spec, id)));
        let outcome = tokio::select! {
            biased;
            outcome = brought => outcome.unwrap_or_else(|_| Err(hung("undo").failure)),
            left = guard.watch(watched) => return Err(left),
        };
        match outcome {
            Ok(()) if keeps_disk => Ok(()),
            Ok(()) => self.want_former(false).await,
            // No disk ever shrinks: what it has grown to is kept, and everything else is taken back.
            Err(failure) if failure.reason == Reason::DiskTooSmall && !keeps_disk => {
                self.state.keeps_disk = true;
                Err(Left::Failed(StepFailure { failure, retry: Retry::Transient }))
            }
            Err(failure) => Err(Left::Failed(failure.into())),
        }
    }

    async fn want_former(&mut self, keeps_disk: bool) -> Result<(), Left> {
        let taken = self.tools.store.instance_take_back(&self.lease, keeps_disk);
        self.lease = match timeout(self.patience(), taken).await {
            Ok(Ok(lease)) => lease,
            Ok(Err(StoreError::StaleFence)) => return Err(Left::Rest(Rest::Lost)),
            Ok(Err(error)) => return Err(Left::Failed(error.into())),
            Err(_) => return Err(Left::Failed(hung("taking back"))),
        };
        Ok(())
    }

    async fn prepare<'s>(
        &'s mut self,
        shown: &'s watch::Sender<Shown>,
        cancellable: bool,
        needs_node: bool,
    ) -> Result<(Work<'s>, Guard<'s>), StepFailure> {
        let found = timeout(self.patience(), subject(self.tools, &self.lease)).await;
        let (instance, place, fenced) = found.map_err(|_| hung("reading the instance"))??;
        if fenced && needs_node {
            return Err(fenced_node().into());
        }
        self.security = Some(instance.spec.template.rdp_security);
        let work = Work {
            tools: self.tools,
            lease: &self.lease,
            lease_for: self.lease_for,
            position: self.saga.step,
            state: &mut self.state,
            order_id: self.saga.order_id,
            instance,
            place,
            shown,
        };
        let guard = Guard {
            tools: self.tools,
            lease: &self.lease,
            lease_for: self.lease_for,
            stop: self.stop,
            position: self.saga.step,
            cancellable,
        };
        Ok((work, guard))
    }
}

fn fenced_node() -> Failure {
    Failure::new(
        Reason::NodeFenced,
        "an operator stated that the instance's node is off: nothing can be done there until it is back",
    )
}

fn hung(what: &str) -> StepFailure {
    Failure::new(Reason::DeadlineExceeded, format!("{what} did not end in time")).into()
}

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
        // The lease was kept by the write before the step, so this is the earliest instant at which it ends.
        let mut lost_at = Instant::now() + kept_at_least(self.lease_for);
        let mut quiet_until = Instant::now() + PROGRESS_AFTER;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return Left::Rest(Rest::Stopped),
                _ = renewals.tick() => {
                    let asked_at = Instant::now();
                    match self.renew().await {
                        Ok(()) => lost_at = asked_at + self.lease_for,
                        Err(Some(left)) => return left,
                        Err(None) if Instant::now() >= lost_at => return Left::Rest(Rest::Lost),
                        Err(None) => {}
                    }
                }
                now = next(&mut shown, quiet_until) => {
                    let asked_at = Instant::now();
                    quiet_until = asked_at + PROGRESS_EVERY;
                    match self.show(&now).await {
                        // It kept the lease too.
                        Ok(true) => {
                            lost_at = asked_at + self.lease_for;
                            renewals.reset();
                        }
                        Ok(false) => {}
                        Err(left) => return left,
                    }
                }
            }
        }
    }

    /// Writes progress and keeps the lease; whether the store did.
    async fn show(&self, now: &Shown) -> Result<bool, Left> {
        let shown = (now.percent, now.detail.as_deref());
        let written = self.tools.store.saga_progress(self.lease, self.lease_for, self.position, shown);
        match timeout(self.lease_for, written).await {
            Ok(Ok(true)) if self.cancellable => Err(Left::Cancelled),
            Ok(Ok(_)) => Ok(true),
            Ok(Err(StoreError::StaleFence)) => Err(Left::Rest(Rest::Lost)),
            Ok(Err(error)) => {
                tracing::debug!(%error, "progress was not shown");
                Ok(false)
            }
            Err(_) => Ok(false),
        }
    }

    /// Keeps the lease. None: the store did not answer, and the lease may still be ours.
    async fn renew(&self) -> Result<(), Option<Left>> {
        match timeout(self.lease_for, self.tools.store.saga_renew(self.lease, self.lease_for)).await {
            Ok(Ok(true)) if self.cancellable => Err(Some(Left::Cancelled)),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(StoreError::StaleFence)) => Err(Some(Left::Rest(Rest::Lost))),
            Ok(Err(error)) => {
                tracing::warn!(saga_id = %self.lease.saga_id, %error, "a lease was not renewed");
                Err(None)
            }
            Err(_) => Err(None),
        }
    }
}

/// The next thing to show, not before this instant; never when the step says no more.
async fn next(shown: &mut watch::Receiver<Shown>, not_before: Instant) -> Shown {
    sleep_until(not_before).await;
    if shown.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    shown.borrow_and_update().clone()
}
