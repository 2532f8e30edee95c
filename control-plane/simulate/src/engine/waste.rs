//! What of a node's room is of no use, and how an order changes that: the fragmentation gradient, from memory where a state
//! was met before.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::amounts::{Amounts, DIMENSIONS, GPU};
use crate::fleet::{Fleet, NodeIndex};

/// States that are remembered; more than any trace had, and a bound on memory.
const REMEMBERED: usize = 1 << 20;

/// A node is large when the mean order takes less than this share of it.
pub(super) const LARGE_NODE: f64 = 0.025;

/// Multiplies and rotates: states are few and nobody chooses them to collide.
#[derive(Default)]
pub(super) struct Quick(u64);

impl Hasher for Quick {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(23) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(u64::try_from(value).unwrap_or(u64::MAX));
    }
}

type States = HashMap<(usize, Amounts), f32, BuildHasherDefault<Quick>>;

/// The useless part of every node's room under the expected mix.
pub(super) struct Waste {
    /// Distinct capacities.
    shapes: Vec<Amounts>,
    /// Which of them each node has.
    shape: Vec<usize>,
    mix: Vec<(Amounts, f64)>,
    /// The mix as each of the distinct capacities weighs it.
    weighed: Vec<Vec<(Amounts, f64)>>,
    /// What each node wastes now.
    now: Vec<f32>,
    states: States,
}

impl Waste {
    pub(super) fn new(fleet: &Fleet) -> Self {
        let mut shapes: Vec<Amounts> = Vec::new();
        let shape = fleet.nodes().iter().map(|node| {
            shapes.iter().position(|shape| *shape == node.capacity).unwrap_or_else(|| {
                shapes.push(node.capacity);
                shapes.len() - 1
            })
        });
        let shape: Vec<usize> = shape.collect();
        let now = vec![f32::NAN; shape.len()];
        Self { shapes, shape, mix: Vec::new(), weighed: Vec::new(), now, states: States::default() }
    }

    /// Which of the distinct capacities a node has.
    pub(super) fn shape(&self, index: NodeIndex) -> usize {
        self.shape[index]
    }

    /// One of the distinct capacities.
    pub(super) fn capacity(&self, shape: usize) -> Amounts {
        self.shapes[shape]
    }

    /// Takes another mix.
    pub(super) fn expect(&mut self, mix: &[(Amounts, f64)]) {
        self.mix.clear();
        self.mix.extend_from_slice(mix);
        self.weighed = self.shapes.iter().map(|capacity| weigh(*capacity, mix)).collect();
        self.states.clear();
        self.now.fill(f32::NAN);
    }

    /// The distinct capacities, each with the share that a mean order takes of it and with the mix as it weighs it.
    pub(super) fn expected(&self) -> impl Iterator<Item = (Amounts, f64, &[(Amounts, f64)])> {
        let shapes = self.shapes.iter().zip(&self.weighed);
        shapes.map(|(capacity, weighed)| (*capacity, mean_share(*capacity, &self.mix), weighed.as_slice()))
    }

    /// The share of a node that an order of the expected mix takes, in the amount of which it takes most, on average over the
    /// nodes.
    pub(super) fn share(&self, fleet: &Fleet) -> f64 {
        let mut sum = 0.0;
        for (shape, capacity) in self.shapes.iter().enumerate() {
            let mean = mean_share(*capacity, &self.mix);
            let nodes = self.shape.iter().filter(|other| **other == shape).count();
            sum += mean * f64::from(u32::try_from(nodes).unwrap_or(u32::MAX));
        }
        sum / f64::from(u32::try_from(fleet.nodes().len()).unwrap_or(u32::MAX).max(1))
    }

    /// A node's room has changed: what it wastes is found out when somebody asks.
    pub(super) fn changed(&mut self, index: NodeIndex) {
        self.now[index] = f32::NAN;
    }

    /// By how much the useless part of a node would grow.
    pub(super) fn gradient(&mut self, index: NodeIndex, free: Amounts, after: Amounts) -> f64 {
        let shape = self.shape[index];
        if self.now[index].is_nan() {
            self.now[index] = self.of(shape, free);
        }
        f64::from(self.of(shape, after) - self.now[index])
    }

    /// The useless part of this much room on a node of this capacity, in shares of the node.
    pub(super) fn of(&mut self, shape: usize, free: Amounts) -> f32 {
        if let Some(known) = self.states.get(&(shape, free)) {
            return *known;
        }
        if self.states.len() >= REMEMBERED {
            self.states.clear();
        }
        let waste = useless(self.shapes[shape], free, self.weighed.get(shape).map_or(&[], Vec::as_slice));
        self.states.insert((shape, free), waste);
        waste
    }
}

/// What these amounts take of a node, in the thing of which they take most.
pub(super) fn share(capacity: Amounts, amounts: Amounts) -> f64 {
    let sold = (0..GPU).filter(|d| capacity.0[*d] > 0);
    sold.map(|d| f64::from(amounts.0[d]) / f64::from(capacity.0[d])).fold(0.0, f64::max).min(1.0)
}

fn mean_share(capacity: Amounts, mix: &[(Amounts, f64)]) -> f64 {
    mix.iter().map(|(amounts, weight)| weight * share(capacity, *amounts)).sum()
}

/// The mix as a node of this capacity weighs it. Where orders are small beside the node, the frequent ones always find a hole;
/// what is blocked is the rare large one, so size counts there, squared.
fn weigh(capacity: Amounts, mix: &[(Amounts, f64)]) -> Vec<(Amounts, f64)> {
    if mean_share(capacity, mix) >= LARGE_NODE {
        return mix.to_vec();
    }
    let by_size = |(amounts, weight): &(Amounts, f64)| (*amounts, weight * share(capacity, *amounts).powi(2));
    let mut weighed: Vec<(Amounts, f64)> = mix.iter().map(by_size).collect();
    let total: f64 = weighed.iter().map(|(_, weight)| weight).sum();
    if total > 0.0 {
        weighed.iter_mut().for_each(|(_, weight)| *weight /= total);
    }
    weighed
}

/// Averaged over the mix: what no whole number of orders would fill, of the amounts that the flavour needs.
fn useless(capacity: Amounts, free: Amounts, mix: &[(Amounts, f64)]) -> f32 {
    let mut sum = 0.0;
    for (wanted, weight) in mix {
        let slots = wanted.slots(free);
        for d in (0..DIMENSIONS).filter(|d| wanted.0[*d] > 0 && capacity.0[*d] > 0) {
            let rest = free.0[d] - slots * wanted.0[d];
            sum += weight * f64::from(rest) / f64::from(capacity.0[d]);
        }
    }
    #[expect(clippy::cast_possible_truncation, reason = "a share of a node needs no more digits")]
    let sum = sum as f32;
    sum
}
