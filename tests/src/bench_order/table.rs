//! Medians with their spread, as Markdown.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::resident::{Agent, Machine};
use super::{Batch, Kind};

/// Everything that was measured.
#[derive(Debug, Clone)]
pub struct Table {
    acceleration: &'static str,
    machine: Machine,
    batches: BTreeMap<Kind, Vec<Batch>>,
    at_rest: Option<Agent>,
    with_guests: Option<Agent>,
}

/// Smallest, middle, largest.
#[derive(Debug, Clone, Copy)]
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Spread {
    fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            *values.get(middle)?
        } else {
            f64::midpoint(*values.get(middle.checked_sub(1)?)?, *values.get(middle)?)
        };
        Some(Self { low: *values.first()?, median, high: *values.last()? })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} ({:.2} to {:.2})", self.median, self.low, self.high)
    }
}

impl Table {
    pub(super) const fn new(acceleration: &'static str, machine: Machine) -> Self {
        Self { acceleration, machine, batches: BTreeMap::new(), at_rest: None, with_guests: None }
    }

    pub(super) fn add(&mut self, kind: Kind, batch: Batch) {
        self.batches.entry(kind).or_default().push(batch);
    }

    pub(super) const fn agent_at_rest(&mut self, agent: Agent) {
        self.at_rest = Some(agent);
    }

    pub(super) const fn agent_with_guests(&mut self, agent: Agent) {
        self.with_guests = Some(agent);
    }

    fn of(&self, kind: Kind) -> &[Batch] {
        self.batches.get(&kind).map_or(&[], Vec::as_slice)
    }

    /// The ratios of the makespans of two kinds, round by round.
    fn ratios(&self, of: Kind, to: Kind, value: impl Fn(&Batch) -> Duration) -> Option<Spread> {
        let pairs = self.of(of).iter().zip(self.of(to));
        Spread::of(pairs.map(|(of, to)| value(of).as_secs_f64() / value(to).as_secs_f64().max(0.001)))
    }

    fn ratio_row(&self, f: &mut fmt::Formatter<'_>, what: &str, of: Kind, to: Kind, goal: &str) -> fmt::Result {
        let (wall, qemu) = (self.ratios(of, to, |b| b.makespan), self.ratios(of, to, Batch::qemu));
        if let (Some(wall), Some(qemu)) = (wall, qemu) {
            writeln!(f, "| {what} | {wall} | {qemu} | {goal} |")?;
        }
        Ok(())
    }

    fn steps(&self, f: &mut fmt::Formatter<'_>, kind: Kind) -> fmt::Result {
        let samples = || self.of(kind).iter().flat_map(|batch| &batch.samples);
        let Some(first) = samples().next() else { return Ok(()) };
        for (name, _) in &first.steps {
            let took = samples().flat_map(|sample| &sample.steps).filter(|(step, _)| step == name);
            if let Some(spread) = Spread::of(took.map(|(_, took)| took.as_secs_f64())) {
                writeln!(f, "| {} | {name} | {spread} |", kind.words())?;
            }
        }
        Ok(())
    }

    fn agent(f: &mut fmt::Formatter<'_>, when: &str, agent: Option<Agent>) -> fmt::Result {
        let Some(agent) = agent else { return Ok(()) };
        let mib = agent.resident_kib / 1024;
        let (wall, processor) = (agent.scrape.as_secs_f64() * 1e3, agent.scrape_processor.as_secs_f64() * 1e3);
        writeln!(f, "| {when} | {mib} MiB | {wall:.1} ms | {processor:.1} ms | {} |", agent.scrape_bytes)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounds = self.of(Kind::Order).len();
        writeln!(
            f,
            "Machine: {} × {}. Guests: {}. Medians of {rounds} interleaved rounds, smallest and largest in brackets.\n",
            self.machine.processors, self.machine.processor, self.acceleration
        )?;
        writeln!(f, "| what | seconds to the last proven login | QEMU's processor seconds |\n|---|---|---|")?;
        for (kind, batches) in &self.batches {
            let wall = Spread::of(batches.iter().map(|batch| batch.makespan.as_secs_f64()));
            let qemu = Spread::of(batches.iter().map(|batch| batch.qemu().as_secs_f64()));
            if let (Some(wall), Some(qemu)) = (wall, qemu) {
                writeln!(f, "| {} | {wall} | {qemu} |", kind.words())?;
            }
        }
        writeln!(f, "\n| ratio, pair by pair | seconds | QEMU's processor seconds | goal |\n|---|---|---|---|")?;
        self.ratio_row(f, "order / floor", Kind::Order, Kind::Floor, "≤ 1.15")?;
        self.ratio_row(f, "order / virt-clone", Kind::Order, Kind::Clone, "< 1")?;
        self.ratio_row(f, "four orders / floor of four", Kind::Orders, Kind::Floors, "≤ 1.15")?;
        writeln!(f, "\n| what | step | seconds |\n|---|---|---|")?;
        for kind in self.batches.keys() {
            self.steps(f, *kind)?;
        }
        writeln!(f, "\n| agent | resident memory | one scrape | its processor time | bytes |\n|---|---|---|---|---|")?;
        Self::agent(f, "at rest", self.at_rest)?;
        Self::agent(f, "with four instances", self.with_guests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_ones() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0]).expect("values");
        assert!(
            (spread.median - 2.5).abs() < 1e-9 && (spread.low - 1.0).abs() < 1e-9 && (spread.high - 4.0).abs() < 1e-9
        );
        let spread = Spread::of([3.0, 1.0, 2.0]).expect("values");
        assert!((spread.median - 2.0).abs() < 1e-9);
        assert!(Spread::of([]).is_none());
    }
}
