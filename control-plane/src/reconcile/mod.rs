//! What keeps the long-lived truth: periodic and poked, without input, idempotent, visible to the operator.
//!
//! A reconciler reads everything it needs by itself, so that a run after a crash does what a run before it would have done.
//! One replica runs them all, by a lease in the store (`leader`); another takes over within seconds when it dies. Should
//! two believe to hold it for a moment, each change is guarded in the store, and the second one finds nothing to do.
//! What each found and did is written down, so that every replica can show it.

mod audit;
mod deletion;
mod drift;
mod expiry;
mod leader;
mod node_health;
mod outbox;
mod realignment;
mod reservation_reaper;
mod second_chance;
mod suspensions;
mod template_presence;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use nemordp_store::{ReconcilerRun, Store, Wake};
use nemordp_types::{Clock, Failure, Reason};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

pub use audit::{Audit, Auditor, Report};
pub use deletion::Deletion;
pub use drift::Drift;
pub use expiry::{Ending, Expiry};
pub use leader::ROLE;
pub use node_health::NodeHealth;
pub use outbox::Outbox;
pub use realignment::Realignment;
pub use reservation_reaper::ReservationReaper;
pub use second_chance::SecondChance;
pub use suspensions::SuspensionsAhead;
pub use template_presence::TemplatesAhead;

/// A run that found what the one before found is written down this often.
const REPEAT: Duration = Duration::from_secs(60);

/// What a run found and did.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// In one line.
    pub text: String,
    /// Piece by piece, where that helps.
    pub details: Option<serde_json::Value>,
}

impl From<String> for Outcome {
    fn from(text: String) -> Self {
        Self { text, details: None }
    }
}

/// Compares and acts.
pub trait Reconciler: Send + Sync + std::fmt::Debug {
    /// Its name in API, metrics and logs.
    fn name(&self) -> &'static str;
    /// What it looks after, for operators.
    fn purpose(&self) -> &'static str;
    /// Between two runs when nothing pokes it.
    fn period(&self) -> Duration;
    /// Looks and acts once; says what it found and did.
    ///
    /// # Errors
    /// What kept it from finishing; the next run begins anew.
    fn run(&self) -> BoxFuture<'_, Result<Outcome, Failure>>;
}

/// A reconciler and its last run, on whichever replica.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its name.
    pub name: &'static str,
    /// What it looks after.
    pub purpose: &'static str,
    /// Between two runs.
    pub period: Duration,
    /// Its last run, if it ever ran.
    pub last: Option<ReconcilerRun>,
}

#[derive(Debug)]
struct Entry {
    reconciler: Box<dyn Reconciler>,
    poke: Notify,
    runs: AtomicU64,
    /// The last run that was written down.
    written: Mutex<Option<ReconcilerRun>>,
}

/// All reconcilers of a replica.
#[derive(Debug, Clone)]
pub struct Reconcilers {
    entries: Arc<Vec<Entry>>,
    store: Store,
    clock: Arc<dyn Clock>,
    owner: Arc<str>,
    /// A hint that somebody wants one to run.
    wanted: Arc<Notify>,
}

impl Reconcilers {
    /// With these; nothing runs yet. `owner` names this replica, uniquely among replicas and restarts.
    #[must_use]
    pub fn new(reconcilers: Vec<Box<dyn Reconciler>>, store: Store, clock: Arc<dyn Clock>, owner: &str) -> Self {
        let entry = |reconciler: Box<dyn Reconciler>| Entry {
            reconciler,
            poke: Notify::new(),
            runs: AtomicU64::new(0),
            written: Mutex::new(None),
        };
        let entries = Arc::new(reconcilers.into_iter().map(entry).collect());
        Self { entries, store, clock, owner: owner.into(), wanted: Arc::default() }
    }

    /// How each fared, on whichever replica.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn statuses(&self) -> Result<Vec<Status>, Failure> {
        let mut runs = self.store.reconciler_list().await?;
        let status = |entry: &Entry| {
            let name = entry.reconciler.name();
            let last = runs.iter().position(|run| run.name == name).map(|index| runs.swap_remove(index));
            Status { name, purpose: entry.reconciler.purpose(), period: entry.reconciler.period(), last }
        };
        Ok(self.entries.iter().map(status).collect())
    }

    /// Wants one to run now, on whichever replica runs them.
    ///
    /// # Errors
    /// `not_found` when there is none of this name.
    pub async fn want(&self, name: &str) -> Result<(), Failure> {
        if !self.entries.iter().any(|entry| entry.reconciler.name() == name) {
            return Err(Failure::new(Reason::NotFound, "no such reconciler: look at `nemordp reconciler list`"));
        }
        self.store.reconciler_want(name).await?;
        self.look_for_wishes();
        if let Err(error) = self.store.wake(Wake::Reconciler).await {
            tracing::debug!(%error, "other replicas see the wish a little later");
        }
        Ok(())
    }

    /// Looks soon whether somebody wants one to run.
    pub fn look_for_wishes(&self) {
        self.wanted.notify_one();
    }

    /// Runs each at its own pace while this replica is the one that does, until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        describe();
        let (leads, leading) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for index in 0..self.entries.len() {
            let (all, stop, leading) = (self.clone(), stop.clone(), leading.clone());
            tasks.spawn(async move { all.keep_running(index, leading, stop).await });
        }
        self.lead(leads, &stop).await;
        while tasks.join_next().await.is_some() {}
    }

    async fn keep_running(&self, index: usize, mut leading: watch::Receiver<bool>, stop: CancellationToken) {
        let Some(entry) = self.entries.get(index) else { return };
        let mut ticks = interval(entry.reconciler.period());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = entry.poke.notified() => {}
                // Whoever takes over looks at once.
                Ok(()) = leading.changed() => {}
                () = stop.cancelled() => return,
            }
            if *leading.borrow_and_update() {
                tokio::select! {
                    () = self.run_once(entry) => {}
                    () = stop.cancelled() => return,
                }
            }
        }
    }

    async fn run_once(&self, entry: &Entry) {
        let (began, at) = (Instant::now(), self.clock.now());
        let outcome = entry.reconciler.run().await;
        let took = began.elapsed();
        let name = entry.reconciler.name();
        if let Err(failure) = &outcome {
            tracing::warn!(reconciler = name, ?failure, "a reconciler's run ended early");
        }
        let word = if outcome.is_ok() { "ok" } else { "failed" };
        metrics::counter!("nemordp_reconciler_runs_total", "reconciler" => name, "outcome" => word).increment(1);
        metrics::histogram!("nemordp_reconciler_run_seconds", "reconciler" => name).record(took.as_secs_f64());
        let runs = entry.runs.fetch_add(1, Ordering::Relaxed) + 1;
        let (outcome, details) = match outcome {
            Ok(outcome) => (Ok(outcome.text), outcome.details),
            Err(failure) => (Err(failure), None),
        };
        self.write_down(entry, ReconcilerRun { name: name.to_owned(), runs, at, took, outcome, details }).await;
    }

    /// Writes a run down unless it says nothing new: a store at rest is not written to all the time.
    async fn write_down(&self, entry: &Entry, run: ReconcilerRun) {
        let wanted = self.store.reconciler_wanted().await.is_ok_and(|names| names.contains(&run.name));
        let says_nothing_new = {
            let written = entry.written.lock().unwrap_or_else(PoisonError::into_inner);
            written.as_ref().is_some_and(|before| {
                let recent = before.at.checked_add(REPEAT).is_ok_and(|until| run.at < until);
                recent && before.outcome == run.outcome && before.details == run.details
            })
        };
        if says_nothing_new && !wanted {
            return;
        }
        match self.store.reconciler_record(&run).await {
            Ok(()) => *entry.written.lock().unwrap_or_else(PoisonError::into_inner) = Some(run),
            Err(error) => tracing::warn!(reconciler = run.name, %error, "a reconciler's run was not written down"),
        }
    }
}

fn describe() {
    describe_counter!("nemordp_reconciler_runs_total", Unit::Count, "Runs of each reconciler by their outcome.");
    describe_gauge!(
        "nemordp_drift_findings",
        Unit::Count,
        "Instances about which nodes and store disagree, by finding."
    );
    describe_gauge!(
        "nemordp_template_presence",
        Unit::Count,
        "Registered templates on nodes that take new instances, by state."
    );
    describe_gauge!("nemordp_audit_findings", Unit::Count, "What does not fit together anywhere, by finding.");
    describe_gauge!(
        "nemordp_instance_frozen",
        Unit::Count,
        "Instances that wait for the operator after a restore, by reason; above zero is an alarm."
    );
    describe_gauge!("nemordp_expiring", Unit::Count, "Things whose end is near or was found, by kind.");
    describe_gauge!("nemordp_ports", Unit::Count, "Ports of public addresses that somebody has or had, by state.");
    describe_gauge!("nemordp_events_undelivered", Unit::Count, "Events that wait for a receiver.");
    describe_gauge!("nemordp_reconciler_leader", Unit::Count, "1 on the replica that runs the reconcilers.");
    describe_gauge!("nemordp_saga_stuck", Unit::Count, "Stuck sagas: each waits for its node or for a human.");
    describe_histogram!("nemordp_reconciler_run_seconds", Unit::Seconds, "Time that a reconciler's run took.");
}
