//! Leases sagas that are due and carries them on, a bounded number at a time; any number of these share one store.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use nemordp_store::StoreError;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Tools;
use super::carry::{PATIENCE, Rest, carry};

/// Sagas that are leased in one commit at most: few enough that other replicas get their share.
const CLAIMS: usize = 16;

/// How often the store is asked when the next saga is due. A replica that is poked more often than this looks for due ones
/// each time, and again after this.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// How this replica works.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its name in leases; unique among replicas and restarts.
    pub owner: String,
    /// How long a lease is held without a sign of life; the time until a dead replica's work is adopted.
    pub lease: Duration,
    /// Sagas at the same time.
    pub at_once: usize,
    /// The longest sleep between two looks at the store.
    pub look_every: Duration,
}

impl Settings {
    /// The usual ones under this name.
    #[must_use]
    pub const fn named(owner: String) -> Self {
        Self { owner, lease: Duration::from_secs(6), at_once: 256, look_every: Duration::from_secs(1) }
    }
}

/// The way to wake an executor; a poke is only a hint, the store is the truth.
#[derive(Debug, Clone, Default)]
pub struct Engine {
    due: Arc<Notify>,
}

impl Engine {
    /// An engine that nobody runs yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says that something was stored.
    pub fn poke(&self) {
        self.due.notify_one();
    }

    /// Works until it is told to stop; steps under way are left where another replica can carry on.
    pub async fn run(self, tools: Tools, settings: Settings, stop: CancellationToken) {
        describe();
        tracing::info!(lease_owner = settings.owner, lease = ?settings.lease, "sagas are carried on");
        let (tools, places) = (Arc::new(tools), Arc::new(Semaphore::new(settings.at_once.max(1))));
        let mut under_way = JoinSet::new();
        let mut asked = None;
        while !stop.is_cancelled() {
            while under_way.try_join_next().is_some() {}
            let place = tokio::select! {
                place = Arc::clone(&places).acquire_owned() => place,
                () = stop.cancelled() => break,
            };
            let Ok(place) = place else { break };
            let mut free = vec![place];
            while free.len() < CLAIMS
                && let Ok(place) = Arc::clone(&places).try_acquire_owned()
            {
                free.push(place);
            }
            // A store that never answers must not keep this replica from trying again.
            let most = u32::try_from(free.len()).unwrap_or(1);
            let claim = tools.store.saga_claim_many(&settings.owner, settings.lease, most);
            let claim = timeout(PATIENCE, claim).await;
            match claim.unwrap_or_else(|_| Err(StoreError::Unreachable("no answer for too long".to_owned()))) {
                Ok(leased) if leased.is_empty() => {
                    drop(free);
                    self.sleep(&tools, &settings, &mut asked, &stop).await;
                }
                Ok(leased) => {
                    for (leased, place) in leased.into_iter().zip(free) {
                        let (tools, stop, due, lease) =
                            (Arc::clone(&tools), stop.clone(), Arc::clone(&self.due), settings.lease);
                        under_way.spawn(async move {
                            let _place = place;
                            let _counted = UnderWay::count();
                            let saga_id = leased.saga.id;
                            let rest = carry(&tools, leased, lease, &stop).await;
                            tracing::debug!(%saga_id, ?rest, "saga rests");
                            if rest == Rest::Later {
                                due.notify_one();
                            }
                        });
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "no saga could be leased");
                    drop(free);
                    self.sleep(&tools, &settings, &mut asked, &stop).await;
                }
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Until a poke, until the next saga is due, or for a while; `asked` is when the store was last asked for that.
    async fn sleep(&self, tools: &Tools, settings: &Settings, asked: &mut Option<Instant>, stop: &CancellationToken) {
        let wait = match asked.map(|at| at.elapsed()).filter(|age| *age < ASK_EVERY) {
            Some(age) => ASK_EVERY - age,
            None => {
                *asked = Some(Instant::now());
                let due = timeout(PATIENCE, tools.store.saga_next_due()).await;
                let due = due.ok().and_then(Result::ok).flatten();
                let wait = due.and_then(|due| Duration::try_from(due.duration_since(tools.clock.now())).ok());
                wait.unwrap_or(settings.look_every)
            }
        };
        let wait = wait.clamp(Duration::from_millis(5), settings.look_every.max(Duration::from_millis(5)));
        tokio::select! {
            () = self.due.notified() => {}
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// One saga under way, as long as it lives.
struct UnderWay;

impl UnderWay {
    fn count() -> Self {
        metrics::gauge!("nemordp_saga_under_way").increment(1.0);
        Self
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        metrics::gauge!("nemordp_saga_under_way").decrement(1.0);
    }
}

fn describe() {
    describe_histogram!("nemordp_step_seconds", Unit::Seconds, "Time that a saga's step took, by saga and step.");
    describe_counter!(
        "nemordp_step_failures_total",
        Unit::Count,
        "Failed tries of a saga's step, by saga, step and reason."
    );
    describe_counter!(
        "nemordp_saga_ended_total",
        Unit::Count,
        "Sagas that ended, by saga and status; stuck ones call a human."
    );
    describe_counter!("nemordp_proof_verdict_total", Unit::Count, "Login proofs by their verdict.");
    describe_gauge!("nemordp_saga_under_way", Unit::Count, "Sagas that this replica works on now.");
}
