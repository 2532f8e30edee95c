//! One instance's counters, added up over its starts, in numbered stretches of time.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nemordp_types::usage::{UsageEntry, UsageReceipt};
use nemordp_types::{Clock, Entropy, InstanceId, MeterId};
use serde::{Deserialize, Serialize};

/// What the hypervisor shows of a running instance; its counters begin anew with each start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sample {
    /// When it was read.
    pub at: Timestamp,
    /// When the instance started.
    pub started_at: Timestamp,
    /// Received since then, bytes.
    pub received: u64,
    /// Sent since then, bytes.
    pub sent: u64,
}

/// A stretch of time that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    from: Timestamp,
    until: Timestamp,
    received: u64,
    sent: u64,
    running_ms: u64,
}

/// Adds up what one instance uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meter {
    /// Whose.
    pub instance_id: InstanceId,
    /// Which memory this is: a journal that was lost begins another series of numbers.
    meter_id: MeterId,
    /// The number of the next entry.
    next: u64,
    /// When the hypervisor was last read, whether the instance ran or not.
    seen_at: Option<Timestamp>,
    /// What it showed, if the instance ran.
    last: Option<Sample>,
    open: Option<Open>,
    closed: VecDeque<UsageEntry>,
}

impl Meter {
    /// Nothing was counted yet.
    #[must_use]
    pub fn new(instance_id: InstanceId, clock: &dyn Clock, entropy: &dyn Entropy) -> Self {
        Self {
            instance_id,
            meter_id: MeterId::new(clock, entropy),
            next: 1,
            seen_at: None,
            last: None,
            open: None,
            closed: VecDeque::new(),
        }
    }

    /// The instance runs. What it used before anybody looked for the first time is not known to be unreported, and does
    /// not count. Says whether an entry was closed.
    pub fn runs(&mut self, sample: Sample, stretch: Duration) -> bool {
        let used = self.seen_at.map(|seen_at| {
            let same_run = self.last.filter(|last| {
                last.started_at == sample.started_at && last.received <= sample.received && last.sent <= sample.sent
            });
            let since = same_run.map_or_else(|| seen_at.max(sample.started_at), |last| last.at);
            let (received, sent) = same_run.map_or((0, 0), |last| (last.received, last.sent));
            let running = sample.at.duration_since(since).max(SignedDuration::ZERO);
            let running_ms = u64::try_from(running.as_millis()).unwrap_or(0);
            (seen_at, sample.received - received, sample.sent - sent, running_ms)
        });
        self.seen_at = Some(sample.at);
        self.last = Some(sample);
        let Some((from, received, sent, running_ms)) = used else { return false };
        let fresh = Open { from, until: sample.at, received: 0, sent: 0, running_ms: 0 };
        let open = self.open.get_or_insert(fresh);
        // A clock that was set back makes no time run backwards.
        open.until = open.until.max(sample.at);
        open.received = open.received.saturating_add(received);
        open.sent = open.sent.saturating_add(sent);
        open.running_ms = open.running_ms.saturating_add(running_ms);
        self.close_if_over(sample.at, stretch)
    }

    /// The instance does not run. Says whether an entry was closed.
    pub fn rests(&mut self, at: Timestamp, stretch: Duration) -> bool {
        self.seen_at = Some(at);
        self.last = None;
        self.close_if_over(at, stretch)
    }

    /// Stretches end on the same instants for all instances: an hour's use can be told when `stretch` divides an hour.
    fn close_if_over(&mut self, at: Timestamp, stretch: Duration) -> bool {
        let length = i64::try_from(stretch.as_secs()).unwrap_or(i64::MAX).max(1);
        let over = self.open.is_some_and(|open| open.from.as_second() / length != at.as_second() / length);
        over && self.close()
    }

    /// Ends the stretch that is under way; false when there is none.
    pub fn close(&mut self) -> bool {
        let Some(open) = self.open.take() else { return false };
        self.closed.push_back(UsageEntry {
            instance_id: self.instance_id,
            meter_id: self.meter_id,
            sequence: self.next,
            from: open.from,
            until: open.until,
            received_bytes: open.received,
            sent_bytes: open.sent,
            running_ms: open.running_ms,
        });
        self.next += 1;
        true
    }

    /// Ended stretches that were not received, the oldest first.
    pub fn entries(&self) -> impl Iterator<Item = UsageEntry> {
        self.closed.iter().copied()
    }

    /// Forgets what was received; false when that was nothing.
    pub fn received(&mut self, receipt: &UsageReceipt) -> bool {
        let before = self.closed.len();
        if receipt.meter_id == self.meter_id {
            self.closed.retain(|entry| entry.sequence > receipt.sequence);
        }
        self.closed.len() != before
    }

    /// Whether nothing waits to be reported.
    #[must_use]
    pub fn is_reported(&self) -> bool {
        self.open.is_none() && self.closed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nemordp_types::{ManualClock, SeededEntropy};

    const STRETCH: Duration = Duration::from_secs(900);
    const NOON: i64 = 1_700_006_400;

    fn meter() -> Meter {
        let (clock, entropy) = (ManualClock::at_second(NOON), SeededEntropy::new(7));
        Meter::new(InstanceId::new(&clock, &entropy), &clock, &entropy)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(NOON + second).unwrap()
    }

    fn sample(second: i64, started: i64, received: u64) -> Sample {
        Sample { at: at(second), started_at: at(started), received, sent: received / 2 }
    }

    fn total(meter: &Meter) -> (u64, u64, u64) {
        let mut copy = meter.clone();
        copy.close();
        copy.entries().fold((0, 0, 0), |(received, sent, ms), entry| {
            (received + entry.received_bytes, sent + entry.sent_bytes, ms + entry.running_ms)
        })
    }

    #[test]
    fn counters_are_added_up_over_starts_and_a_rest_counts_nothing() {
        let mut meter = meter();
        meter.rests(at(0), STRETCH);
        meter.runs(sample(10, 4, 100), STRETCH);
        assert_eq!(total(&meter), (100, 50, 6_000), "six seconds since its start");
        meter.runs(sample(20, 4, 300), STRETCH);
        meter.rests(at(30), STRETCH);
        meter.runs(sample(60, 50, 40), STRETCH);
        assert_eq!(total(&meter), (340, 170, 26_000));
        // Restarted between two looks: its counters began anew.
        meter.runs(sample(70, 65, 10), STRETCH);
        assert_eq!(total(&meter), (350, 175, 31_000));
    }

    #[test]
    fn what_was_used_before_the_first_look_does_not_count() {
        let mut meter = meter();
        meter.runs(sample(0, -5_000, 1_000_000), STRETCH);
        assert!(meter.is_reported());
        meter.runs(sample(5, -5_000, 1_000_100), STRETCH);
        assert_eq!(total(&meter), (100, 50, 5_000));
    }

    #[test]
    fn an_agent_that_was_away_counts_what_went_on_meanwhile() {
        let mut meter = meter();
        meter.runs(sample(0, -10, 100), STRETCH);
        let kept = serde_json::to_string(&meter).unwrap();
        let mut meter: Meter = serde_json::from_str(&kept).unwrap();
        meter.runs(sample(600, -10, 5_100), STRETCH);
        assert_eq!(total(&meter), (5_000, 2_500, 600_000));
    }

    #[test]
    fn stretches_end_on_the_quarter_hour_and_are_numbered_until_they_are_received() {
        let mut meter = meter();
        meter.runs(sample(890, 0, 0), STRETCH);
        assert!(!meter.runs(sample(895, 0, 10), STRETCH));
        assert!(meter.runs(sample(905, 0, 30), STRETCH));
        assert!(!meter.runs(sample(910, 0, 40), STRETCH));
        assert!(meter.runs(sample(1_805, 0, 50), STRETCH));
        let entries: Vec<UsageEntry> = meter.entries().collect();
        assert_eq!(entries.iter().map(|entry| entry.sequence).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(entries[0].until, entries[1].from, "no gap between two");
        let receipt = |sequence| UsageReceipt { instance_id: meter.instance_id, meter_id: meter.meter_id, sequence };
        let (first, all) = (receipt(1), receipt(2));
        assert!(meter.received(&first));
        assert!(!meter.received(&first), "twice is once");
        assert_eq!(meter.entries().next().unwrap().sequence, 2);
        assert!(meter.received(&all));
        assert!(meter.is_reported());
        meter.runs(sample(1_810, 0, 60), STRETCH);
        meter.close();
        assert_eq!(meter.entries().next().unwrap().sequence, 3, "numbers go on");
    }

    #[test]
    fn a_clock_that_is_set_back_takes_nothing_away() {
        let mut meter = meter();
        meter.runs(sample(100, 0, 10), STRETCH);
        meter.runs(sample(110, 0, 20), STRETCH);
        meter.runs(sample(50, 0, 30), STRETCH);
        assert_eq!(total(&meter), (20, 10, 10_000));
    }

    #[test]
    fn a_receipt_for_another_memory_is_none() {
        let mut meter = meter();
        meter.runs(sample(0, -1, 0), STRETCH);
        meter.runs(sample(1, -1, 5), STRETCH);
        meter.close();
        let other = UsageReceipt {
            instance_id: meter.instance_id,
            meter_id: MeterId::new(&ManualClock::at_second(1), &SeededEntropy::new(9)),
            sequence: 9,
        };
        assert!(!meter.received(&other));
    }
}
