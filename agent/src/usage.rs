//! What instances used: counted here, kept while the control plane is away, reported once and in order.
//!
//! [`meter`] adds up one instance's counters, purely · [`Meters`] reads the host, keeps the meters in the journal, says
//! what is to be reported and forgets what was received. The hypervisor's counters outlive the agent, so a meter that
//! was written down a minute ago misses nothing when the agent starts again.

pub mod meter;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use nemordp_types::usage::{UsageEntry, UsageReceipt};
use nemordp_types::{Failure, InstanceId};
use tokio::time::Instant;

use crate::host::Host;
use crate::instance::Shared;
use crate::usage::meter::{Meter, Sample};

/// How often meters are written down although nothing of them is to be reported.
const SAVE: Duration = Duration::from_secs(60);
/// Entries of one report.
const REPORT_MAX: usize = 500;

/// All meters of an agent.
#[derive(Debug)]
pub struct Meters<H> {
    shared: Arc<Shared<H>>,
    /// How long an entry is at most.
    stretch: Duration,
    state: Mutex<State>,
    /// One writer at a time, so that an older state never replaces a newer one.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct State {
    meters: BTreeMap<InstanceId, Meter>,
    saved_at: Instant,
    /// How often entries were closed, and how often when the meters were last written down: only then they have a number.
    closes: u64,
    saved_closes: u64,
}

impl<H: Host> Meters<H> {
    /// Goes on where the journal ends; entries are at most `stretch` long.
    pub fn new(shared: Arc<Shared<H>>, stretch: Duration) -> Self {
        let meters = shared.journal.take_meters().into_iter().map(|meter| (meter.instance_id, meter)).collect();
        let state = Mutex::new(State { meters, saved_at: Instant::now(), closes: 0, saved_closes: 0 });
        Self { shared, stretch, state, writing: tokio::sync::Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the counters of all instances, and writes the meters down when it is time.
    ///
    /// # Errors
    /// The host does not answer, or the journal cannot be written: nothing is lost as long as the instances run.
    pub async fn observe(&self) -> Result<(), Failure> {
        let counters: HashMap<_, _> = self.shared.host.counters().await?.into_iter().collect();
        let now = self.shared.clock.now();
        let mut closed = false;
        let due = {
            let mut state = self.lock();
            for status in self.shared.board.statuses() {
                let id = status.instance_id;
                let meter = state
                    .meters
                    .entry(id)
                    .or_insert_with(|| Meter::new(id, self.shared.clock.as_ref(), self.shared.entropy.as_ref()));
                let sample = counters.get(&id).zip(status.started_at).map(|(counters, started_at)| Sample {
                    at: now,
                    started_at,
                    received: counters.network_received_bytes,
                    sent: counters.network_sent_bytes,
                });
                closed |= match sample {
                    Some(sample) => meter.runs(sample, self.stretch),
                    None => meter.rests(now, self.stretch),
                };
            }
            state.closes += u64::from(closed);
            closed || state.saved_at.elapsed() >= SAVE
        };
        if due { self.save().await } else { Ok(()) }
    }

    /// Writes every meter down, and forgets those of instances that are gone and reported.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub async fn save(&self) -> Result<(), Failure> {
        let _writing = self.writing.lock().await;
        let present: Vec<InstanceId> = self.shared.board.statuses().iter().map(|status| status.instance_id).collect();
        let (kept, gone, closes) = {
            let mut state = self.lock();
            let gone: Vec<InstanceId> = state
                .meters
                .iter()
                .filter(|(id, meter)| meter.is_reported() && !present.contains(id))
                .map(|(id, _)| *id)
                .collect();
            state.meters.retain(|id, _| !gone.contains(id));
            state.saved_at = Instant::now();
            (state.meters.values().cloned().collect::<Vec<_>>(), gone, state.closes)
        };
        let forgotten = gone.iter().map(|id| self.shared.journal.forget_meter(*id));
        futures::future::try_join_all(forgotten).await?;
        let saved = kept.iter().map(|meter| self.shared.journal.save_meter(meter));
        futures::future::try_join_all(saved).await?;
        self.lock().saved_closes = closes;
        Ok(())
    }

    /// What is to be reported next, the oldest first, each under its number. An instance that is gone gives up what was
    /// begun. All of it was written down before: the same number never stands for two amounts.
    ///
    /// # Errors
    /// The journal cannot be written: nothing is reported.
    pub async fn report(&self) -> Result<Vec<UsageEntry>, Failure> {
        let present: Vec<InstanceId> = self.shared.board.statuses().iter().map(|status| status.instance_id).collect();
        let forgettable = {
            let mut state = self.lock();
            let gone = state.meters.iter_mut().filter(|(id, _)| !present.contains(id));
            let (mut closed, mut reported) = (false, false);
            for (_, meter) in gone {
                closed |= meter.close();
                reported |= meter.is_reported();
            }
            state.closes += u64::from(closed);
            reported
        };
        let is_saved = || {
            let state = self.lock();
            state.closes == state.saved_closes
        };
        if forgettable || !is_saved() {
            self.save().await?;
        }
        let state = self.lock();
        if state.closes != state.saved_closes {
            // More was closed meanwhile: it is written down and reported with the next heartbeat.
            return Ok(Vec::new());
        }
        let mut entries: Vec<UsageEntry> = state.meters.values().flat_map(Meter::entries).collect();
        entries.sort_by_key(|entry| (entry.until, entry.instance_id, entry.sequence));
        entries.truncate(REPORT_MAX);
        Ok(entries)
    }

    /// The control plane has written down everything up to these numbers.
    ///
    /// # Errors
    /// The journal cannot be written: the same entries are reported again, under the same numbers.
    pub async fn received(&self, receipts: &[UsageReceipt]) -> Result<(), Failure> {
        let changed = {
            let mut state = self.lock();
            let mut changed = false;
            for receipt in receipts {
                if let Some(meter) = state.meters.get_mut(&receipt.instance_id) {
                    changed |= meter.received(receipt);
                }
            }
            changed
        };
        if changed { self.save().await } else { Ok(()) }
    }

    /// Entries that wait for the control plane, and since when the oldest does.
    #[must_use]
    pub fn unreported(&self) -> (usize, Option<Timestamp>) {
        let state = self.lock();
        let mut oldest = None;
        let mut count = 0;
        for entry in state.meters.values().flat_map(Meter::entries) {
            count += 1;
            oldest = Some(oldest.map_or(entry.from, |at: Timestamp| at.min(entry.from)));
        }
        (count, oldest)
    }
}
