//! What one measurement gave.

use std::time::Duration;

/// What is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One order through the product.
    Order,
    /// One guest by hand.
    Floor,
    /// One guest by `virt-clone`.
    Clone,
    /// Four orders at once.
    Orders,
    /// Four guests by hand at once.
    Floors,
}

impl Kind {
    /// All, in the order of a round; each round begins with another one, so that none always has the warmest caches.
    pub(super) fn in_round(round: usize) -> impl Iterator<Item = Self> {
        let all = [Self::Order, Self::Floor, Self::Clone, Self::Orders, Self::Floors];
        let first = round % all.len();
        all.into_iter().cycle().skip(first).take(all.len())
    }

    /// How many guests.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::Order | Self::Floor | Self::Clone => 1,
            Self::Orders | Self::Floors => super::AT_ONCE,
        }
    }

    /// As the table calls it.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Order => "one order",
            Self::Floor => "floor of one (overlay by hand)",
            Self::Clone => "virt-clone and start",
            Self::Orders => "four orders at once",
            Self::Floors => "floor of four at once",
        }
    }
}

/// One guest from its beginning to its proven login.
#[derive(Debug, Clone)]
pub struct Sample {
    /// Each step with the time that it took; they need not add up to the whole.
    pub steps: Vec<(String, Duration)>,
    /// The whole.
    pub total: Duration,
    /// Processor time of its QEMU process until then.
    pub qemu: Duration,
}

/// Guests that were started at once.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Each of them.
    pub samples: Vec<Sample>,
    /// From the first beginning to the last proof.
    pub makespan: Duration,
}

impl Batch {
    /// Processor time of all guests.
    #[must_use]
    pub fn qemu(&self) -> Duration {
        self.samples.iter().map(|sample| sample.qemu).sum()
    }

    pub(super) fn words(&self) -> String {
        let (all, qemu) = (self.makespan.as_secs_f64(), self.qemu().as_secs_f64());
        let steps = self.samples.iter().flat_map(|sample| &sample.steps);
        let steps: Vec<String> = steps.map(|(name, took)| format!("{name} {:.1}", took.as_secs_f64())).collect();
        format!("{all:.1} s, QEMU {qemu:.1} s of processor time ({})", steps.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_round_has_every_kind_and_another_first() {
        let rounds: Vec<Vec<Kind>> = (0..5).map(|round| Kind::in_round(round).collect()).collect();
        for round in &rounds {
            let mut sorted = round.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [Kind::Order, Kind::Floor, Kind::Clone, Kind::Orders, Kind::Floors]);
        }
        let mut firsts: Vec<Kind> = rounds.iter().map(|round| round[0]).collect();
        firsts.sort_unstable();
        firsts.dedup();
        assert_eq!(firsts.len(), 5);
    }
}
