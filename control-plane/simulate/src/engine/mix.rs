//! What is expected to be ordered: what was ordered so far, the recent more than the old.

use crate::amounts::Amounts;

/// Flavours that are kept in view; beyond these none is frequent.
const KEPT: usize = 24;
/// After so many orders at the latest the mix is taken anew.
const PERIOD: u64 = 4_096;
/// Weights that moved by less than this in sum have not changed.
const STILL: f64 = 0.05;
/// What remains of the old counts each time.
const FADE: f64 = 0.75;

/// Flavours with their frequencies.
#[derive(Debug, Default)]
pub(super) struct Mix {
    counts: Vec<(Amounts, f64)>,
    weighed: Vec<(Amounts, f64)>,
    orders: u64,
    next: u64,
}

impl Mix {
    pub(super) fn new(plans: &[(Amounts, f64)]) -> Self {
        let plans = &plans[..plans.len().min(KEPT)];
        let each = 1.0 / f64::from(u32::try_from(plans.len()).unwrap_or(1).max(1));
        let weighed = plans.iter().map(|(amounts, _)| (*amounts, each)).collect();
        Self { counts: Vec::new(), weighed, orders: 0, next: 1 }
    }

    /// The frequent flavours with weights that add up to one, unless there are none.
    pub(super) fn weighed(&self) -> &[(Amounts, f64)] {
        &self.weighed
    }

    /// Counts an order; true when the weights have changed.
    pub(super) fn note(&mut self, flavour: u32, amounts: Amounts) -> bool {
        let index = usize::try_from(flavour).unwrap_or(0);
        if self.counts.len() <= index {
            self.counts.resize(index + 1, (Amounts::default(), 0.0));
        }
        self.counts[index].0 = amounts;
        self.counts[index].1 += 1.0;
        self.orders += 1;
        if self.orders < self.next {
            return false;
        }
        self.next = self.orders + self.orders.clamp(1, PERIOD);
        let before = self.weighed.clone();
        self.weigh();
        if self.orders > PERIOD {
            self.counts.iter_mut().for_each(|(_, count)| *count *= FADE);
        }
        // A mix that is nearly the same is not worth that everything is computed anew.
        let was =
            |amounts: Amounts| before.iter().find(|(other, _)| *other == amounts).map_or(0.0, |(_, weight)| *weight);
        let moved: f64 = self.weighed.iter().map(|(amounts, weight)| (weight - was(*amounts)).abs()).sum();
        if moved < STILL {
            self.weighed = before;
            return false;
        }
        true
    }

    fn weigh(&mut self) {
        self.weighed.clear();
        self.weighed.extend(self.counts.iter().filter(|(_, count)| *count > 0.0));
        self.weighed.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        self.weighed.truncate(KEPT);
        let total: f64 = self.weighed.iter().map(|(_, count)| count).sum();
        self.weighed.iter_mut().for_each(|(_, count)| *count /= total);
    }
}
