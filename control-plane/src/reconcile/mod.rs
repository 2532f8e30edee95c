//! What keeps the long-lived truth: periodic and poked, without input, idempotent, visible to the operator.
//!
//! A reconciler reads everything it needs by itself, so that a run after a crash does what a run before it would have done.
//! Several replicas may run the same one: each change is guarded in the store, so the second one finds nothing to do.

mod drift;
mod node_health;
mod reservation_reaper;
mod second_chance;
mod suspensions;
mod template_presence;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use jiff::Timestamp;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use nemordp_types::{Clock, Failure};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

pub use drift::{Drift, Finding};
pub use node_health::NodeHealth;
pub use reservation_reaper::ReservationReaper;
pub use second_chance::SecondChance;
pub use suspensions::SuspensionsAhead;
pub use template_presence::TemplatesAhead;

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
    fn run(&self) -> BoxFuture<'_, Result<String, Failure>>;
}

/// How a reconciler fared on this replica.
#[derive(Debug, Clone)]
pub struct Status {
    /// Its name.
    pub name: &'static str,
    /// What it looks after.
    pub purpose: &'static str,
    /// Between two runs.
    pub period: Duration,
    /// Runs since the start.
    pub runs: u64,
    /// When the last one began.
    pub last_run_at: Option<Timestamp>,
    /// How long it took.
    pub took: Option<Duration>,
    /// What it found and did, or why not.
    pub outcome: Option<Result<String, Failure>>,
}

#[derive(Debug)]
struct Entry {
    reconciler: Box<dyn Reconciler>,
    status: Mutex<Status>,
    poke: Notify,
}

/// All reconcilers of a replica.
#[derive(Debug, Clone)]
pub struct Reconcilers {
    entries: Arc<Vec<Entry>>,
    clock: Arc<dyn Clock>,
}

impl Reconcilers {
    /// With these; nothing runs yet.
    #[must_use]
    pub fn new(reconcilers: Vec<Box<dyn Reconciler>>, clock: Arc<dyn Clock>) -> Self {
        let entry = |reconciler: Box<dyn Reconciler>| Entry {
            status: Mutex::new(Status {
                name: reconciler.name(),
                purpose: reconciler.purpose(),
                period: reconciler.period(),
                runs: 0,
                last_run_at: None,
                took: None,
                outcome: None,
            }),
            reconciler,
            poke: Notify::new(),
        };
        Self { entries: Arc::new(reconcilers.into_iter().map(entry).collect()), clock }
    }

    /// How each fared.
    #[must_use]
    pub fn statuses(&self) -> Vec<Status> {
        self.entries.iter().map(|entry| entry.status.lock().unwrap_or_else(PoisonError::into_inner).clone()).collect()
    }

    /// Has all of them look soon.
    pub fn poke(&self) {
        for entry in self.entries.iter() {
            entry.poke.notify_one();
        }
    }

    /// Runs each at its own pace until it is told to stop.
    pub async fn run(self, stop: CancellationToken) {
        describe();
        let mut tasks = JoinSet::new();
        for index in 0..self.entries.len() {
            let (all, stop) = (self.clone(), stop.clone());
            tasks.spawn(async move { all.keep_running(index, stop).await });
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn keep_running(&self, index: usize, stop: CancellationToken) {
        let Some(entry) = self.entries.get(index) else { return };
        let mut ticks = interval(entry.reconciler.period());
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = entry.poke.notified() => {}
                () = stop.cancelled() => return,
            }
            self.run_once(entry).await;
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
        let mut status = entry.status.lock().unwrap_or_else(PoisonError::into_inner);
        status.runs += 1;
        status.last_run_at = Some(at);
        status.took = Some(took);
        status.outcome = Some(outcome);
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
    describe_gauge!("nemordp_saga_stuck", Unit::Count, "Stuck sagas: each waits for its node or for a human.");
    describe_histogram!("nemordp_reconciler_run_seconds", Unit::Seconds, "Time that a reconciler's run took.");
}
