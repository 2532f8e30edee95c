//! What would have been, had an order that went to a cloud lain on a node.

use crate::amounts::Amounts;
use crate::fleet::{Fleet, NodeIndex};

/// An order's time on one node.
#[derive(Debug, Clone, Copy)]
pub struct Stay {
    /// Where.
    pub node: NodeIndex,
    /// From when.
    pub since: f64,
    /// Until when.
    pub until: f64,
    /// What it took.
    pub amounts: Amounts,
    /// What an hour of it costs on a cloud.
    pub price: f64,
    /// Whether another node had room for it when it came.
    pub had_choice: bool,
}

/// Every stay of a replay, by node.
pub struct Hindsight {
    capacities: Vec<Amounts>,
    stays: Vec<Stay>,
    by_node: Vec<Vec<usize>>,
}

impl Hindsight {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new(fleet: &Fleet) -> Self {
        let capacities: Vec<Amounts> = fleet.nodes().iter().map(|node| node.capacity).collect();
        Self { by_node: vec![Vec::new(); capacities.len()], capacities, stays: Vec::new() }
    }

    /// Notes a stay that begins; stays are noted in the order of their beginnings.
    pub fn note(&mut self, stay: Stay) -> usize {
        self.by_node[stay.node].push(self.stays.len());
        self.stays.push(stay);
        self.stays.len() - 1
    }

    /// A stay that was noted.
    #[must_use]
    pub fn stay(&self, index: usize) -> &Stay {
        &self.stays[index]
    }

    /// A stay has ended.
    pub fn end(&mut self, index: usize, until: f64) {
        self.stays[index].until = until;
    }

    /// Nothing lasts beyond the end of the events.
    pub fn close(&mut self, end: f64) {
        self.stays.iter_mut().for_each(|stay| stay.until = stay.until.min(end));
    }

    /// What the orders would have cost on a cloud that this one would have kept off the node, and that fitted nowhere else.
    #[must_use]
    pub fn displaced(&self, node: NodeIndex, amounts: Amounts, since: f64, until: f64) -> f64 {
        let mut present: Vec<Stay> = Vec::new();
        let mut cost = 0.0;
        for stay in self.by_node[node].iter().map(|index| self.stays[*index]) {
            if stay.since >= until {
                break;
            }
            if stay.until <= since {
                continue;
            }
            present.retain(|other| other.until > stay.since);
            let used = present.iter().fold(amounts, |sum, other| sum.plus(other.amounts));
            if stay.since < since || stay.amounts.plus(used).fits(self.capacities[node]) {
                present.push(stay);
            } else if !stay.had_choice {
                cost += stay.price * (stay.until - stay.since) / 3_600.0;
            }
        }
        cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fitted_nowhere_else_counts() {
        let mut hindsight = Hindsight::new(&Fleet::new([Amounts([8, 8, 0, 1])]));
        let stay = |since, until, vcpu, had_choice| Stay {
            node: 0,
            since,
            until,
            amounts: Amounts([vcpu, 1, 0, 0]),
            price: 3_600.0,
            had_choice,
        };
        hindsight.note(stay(0.0, 100.0, 4, true));
        hindsight.note(stay(10.0, 30.0, 4, false));
        hindsight.note(stay(40.0, 50.0, 4, true));
        let two = Amounts([2, 1, 0, 0]);
        assert!((hindsight.displaced(0, two, 5.0, 60.0) - 20.0).abs() < 1e-9);
        assert!(hindsight.displaced(0, two, 35.0, 60.0).abs() < 1e-9);
        assert!(hindsight.displaced(0, two, 5.0, 9.0).abs() < 1e-9);
    }
}
