//! The configuration bound: no packing of these orders needs fewer nodes than a fractional mix of full nodes.
//!
//! Gilmore and Gomory's linear program, solved by column generation: a revised simplex over as many rows as there are
//! flavours; the pricing problem is a bounded knapsack in processors and memory, solved exactly by dynamic programming.

use crate::amounts::{Amounts, MEMORY, VCPU};

const EPSILON: f64 = 1e-9;
const ROUNDS_MAX: usize = 4_000;

/// The least number of identical nodes that hold these counts of flavours, by the bound.
#[must_use]
pub fn nodes_at_least(capacity: Amounts, flavours: &[Amounts], counts: &[u32]) -> f64 {
    let rows: Vec<usize> = (0..flavours.len()).filter(|f| counts[*f] > 0).collect();
    if rows.is_empty() {
        return 0.0;
    }
    let items: Vec<Amounts> = rows.iter().map(|f| flavours[*f]).collect();
    if items.iter().any(|item| item.slots(capacity) == 0) {
        return f64::INFINITY;
    }
    let demand: Vec<f64> = rows.iter().map(|f| f64::from(counts[*f])).collect();
    Master::new(capacity, items, demand).solve()
}

struct Master {
    knapsack: Knapsack,
    /// Inverse of the basis, row by row.
    inverse: Vec<Vec<f64>>,
    /// How much of each basic configuration is used.
    amount: Vec<f64>,
}

impl Master {
    fn new(capacity: Amounts, items: Vec<Amounts>, demand: Vec<f64>) -> Self {
        // To begin with, each flavour has nodes of its own.
        let most: Vec<f64> = items.iter().map(|item| f64::from(item.slots(capacity))).collect();
        let size = items.len();
        let inverse = (0..size)
            .map(|row| (0..size).map(|col| if row == col { 1.0 / most[row] } else { 0.0 }).collect())
            .collect();
        let amount = demand.iter().zip(&most).map(|(demand, most)| demand / most).collect();
        Self { knapsack: Knapsack::new(capacity, items), inverse, amount }
    }

    fn solve(mut self) -> f64 {
        let size = self.amount.len();
        let mut best = 0.0f64;
        for _ in 0..ROUNDS_MAX {
            let prices: Vec<f64> = (0..size).map(|col| (0..size).map(|row| self.inverse[row][col]).sum()).collect();
            let (value, column) = self.knapsack.dearest(&prices);
            let total: f64 = self.amount.iter().sum();
            // Farley: prices scaled so that no configuration is worth more than a node bound every packing from below.
            best = best.max(total / value.max(1.0));
            if value <= 1.0 + EPSILON {
                return best.max(total);
            }
            if !self.pivot(&column) {
                return best;
            }
        }
        best
    }

    /// Lets a configuration into the basis; false when numbers no longer allow it.
    fn pivot(&mut self, column: &[f64]) -> bool {
        let size = self.amount.len();
        let entering: Vec<f64> =
            self.inverse.iter().map(|row| row.iter().zip(column).map(|(a, b)| a * b).sum()).collect();
        let ratio = |row: &usize| self.amount[*row] / entering[*row];
        let leaving = (0..size).filter(|row| entering[*row] > 1e-11).min_by(|a, b| ratio(a).total_cmp(&ratio(b)));
        let Some(leaving) = leaving else { return false };
        let step = self.amount[leaving] / entering[leaving];
        let pivot: Vec<f64> = self.inverse[leaving].iter().map(|value| value / entering[leaving]).collect();
        for row in (0..size).filter(|row| *row != leaving) {
            self.amount[row] = (self.amount[row] - step * entering[row]).max(0.0);
            for (value, by) in self.inverse[row].iter_mut().zip(&pivot) {
                *value -= entering[row] * by;
            }
        }
        self.amount[leaving] = step;
        self.inverse[leaving] = pivot;
        true
    }
}

struct Knapsack {
    items: Vec<(usize, usize)>,
    width: usize,
    height: usize,
    value: Vec<f64>,
    choice: Vec<u16>,
}

impl Knapsack {
    fn new(capacity: Amounts, items: Vec<Amounts>) -> Self {
        let wide = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        let unit = items.iter().fold(0, |unit, item| gcd(unit, item.0[MEMORY])).max(1);
        let items = items.iter().map(|item| (wide(item.0[VCPU]), wide(item.0[MEMORY] / unit))).collect();
        let (width, height) = (wide(capacity.0[VCPU]), wide(capacity.0[MEMORY] / unit));
        let cells = (width + 1) * (height + 1);
        Self { items, width, height, value: vec![0.0; cells], choice: vec![u16::MAX; cells] }
    }

    /// The configuration of the greatest price, and the price.
    fn dearest(&mut self, prices: &[f64]) -> (f64, Vec<f64>) {
        let row = self.height + 1;
        for v in 0..=self.width {
            for m in 0..=self.height {
                let mut best = (0.0, u16::MAX);
                for (index, &(vcpu, memory)) in self.items.iter().enumerate() {
                    if prices[index] > 0.0 && vcpu <= v && memory <= m {
                        let value = self.value[(v - vcpu) * row + m - memory] + prices[index];
                        if value > best.0 {
                            best = (value, u16::try_from(index).unwrap_or(u16::MAX));
                        }
                    }
                }
                self.value[v * row + m] = best.0;
                self.choice[v * row + m] = best.1;
            }
        }
        let (mut v, mut m, mut column) = (self.width, self.height, vec![0.0; self.items.len()]);
        while let Some(&(vcpu, memory)) = self.items.get(usize::from(self.choice[v * row + m])) {
            column[usize::from(self.choice[v * row + m])] += 1.0;
            (v, m) = (v - vcpu, m - memory);
        }
        (self.value[self.width * row + self.height], column)
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_what_volume_does_not() {
        // Three of these fit into a node by volume, only two in truth.
        let capacity = Amounts([8, 8, 0, 0]);
        let bound = nodes_at_least(capacity, &[Amounts([3, 1, 0, 0])], &[10]);
        assert!((bound - 5.0).abs() < 1e-6, "{bound}");
    }

    #[test]
    fn flavours_that_complete_each_other_share_nodes() {
        let capacity = Amounts([8, 8, 0, 0]);
        let flavours = [Amounts([5, 2, 0, 0]), Amounts([3, 6, 0, 0])];
        let bound = nodes_at_least(capacity, &flavours, &[10, 10]);
        assert!((bound - 10.0).abs() < 1e-6, "{bound}");
    }
}
