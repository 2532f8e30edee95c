//! The rules that others published: each a score, the lowest wins, of equal scores the first node.

use super::{Cause, Decision, Order, Strategy};
use crate::amounts::{Amounts, DIMENSIONS, MEMORY};
use crate::fleet::{Fleet, Node, NodeIndex, Placed, Slot};

/// Which published rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// The first node that has room.
    FirstFit,
    /// The least sum of what is left.
    BestFitL1,
    /// The least sum of squares of what is left.
    BestFitL2,
    /// The least memory left.
    BestFitMemory,
    /// The most left: spread.
    WorstFit,
    /// Kubernetes' bin packing: the most allocated, evenly.
    MostAllocated,
    /// The largest product of demand and room.
    DotProduct,
    /// The most similar direction of demand and room.
    Cosine,
    /// The least new fragmentation.
    Fgd,
    /// A chain of rules, each with coarse steps.
    Protean,
    /// The least longer life of the host, then the best fit.
    Nilas,
}

impl Rule {
    /// Each of them.
    pub const ALL: [Self; 11] = [
        Self::FirstFit,
        Self::BestFitL1,
        Self::BestFitL2,
        Self::BestFitMemory,
        Self::WorstFit,
        Self::MostAllocated,
        Self::DotProduct,
        Self::Cosine,
        Self::Fgd,
        Self::Protean,
        Self::Nilas,
    ];
}

/// A peer: a rule and what it has to remember.
pub struct Peer {
    rule: Rule,
    /// How often each flavour came, for the rules that weigh by popularity.
    seen: Vec<(Amounts, f64)>,
    /// When the last order of each node is expected to end.
    exits: Vec<f64>,
}

impl Peer {
    /// The rule, knowing nothing yet.
    #[must_use]
    pub const fn new(rule: Rule) -> Self {
        Self { rule, seen: Vec::new(), exits: Vec::new() }
    }

    fn score(&self, node: &Node, index: NodeIndex, order: &Order) -> f64 {
        let after = shares(node, node.free.minus(order.amounts));
        let (free, wanted) = (shares(node, node.free), shares(node, order.amounts));
        let used: [f64; DIMENSIONS] =
            std::array::from_fn(|d| if node.capacity.0[d] == 0 { 0.0 } else { 1.0 - after[d] });
        match self.rule {
            Rule::FirstFit => 0.0,
            Rule::BestFitL1 => after.iter().sum(),
            Rule::BestFitL2 => after.iter().map(|share| share * share).sum(),
            Rule::BestFitMemory => after[MEMORY],
            Rule::WorstFit => -after.iter().sum::<f64>(),
            Rule::MostAllocated => -most_allocated(node, used),
            Rule::DotProduct => -dot(free, wanted),
            Rule::Cosine => -dot(free, wanted) / (dot(free, free) * dot(wanted, wanted)).sqrt().max(1e-12),
            Rule::Fgd => self.fragmentation(node, node.free.minus(order.amounts)) - self.fragmentation(node, node.free),
            Rule::Protean => {
                let empty = if node.orders.is_empty() { 1_000.0 } else { 0.0 };
                empty + (after.iter().sum::<f64>() * 16.0).floor()
            }
            Rule::Nilas => {
                let exit = self.exits.get(index).copied().unwrap_or(0.0).max(order.now);
                let longer = if order.ends_at.is_finite() { (order.ends_at - exit).max(0.0) / 3_600.0 } else { 0.0 };
                (1.0 + longer).log2().ceil() * 10.0 + after.iter().sum::<f64>()
            }
        }
    }

    /// What is free and of no use to the tasks seen so far: where one does not fit, everything.
    fn fragmentation(&self, node: &Node, free: Amounts) -> f64 {
        let total: f64 = self.seen.iter().map(|(_, count)| count).sum();
        let all: f64 = shares(node, free).iter().sum();
        let lost = self.seen.iter().filter(|(amounts, _)| !amounts.fits(free)).map(|(_, count)| count * all);
        lost.sum::<f64>() / total.max(1.0)
    }
}

/// Kubernetes: the mean of the shares that are used, plus one less their standard deviation, over what the node has.
fn most_allocated(node: &Node, used: [f64; DIMENSIONS]) -> f64 {
    let has: Vec<f64> = (0..DIMENSIONS).filter(|d| node.capacity.0[*d] > 0).map(|d| used[d]).collect();
    let count = f64::from(u32::try_from(has.len()).unwrap_or(1).max(1));
    let mean = has.iter().sum::<f64>() / count;
    let deviation = (has.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / count).sqrt();
    mean + 1.0 - deviation
}

fn shares(node: &Node, amounts: Amounts) -> [f64; DIMENSIONS] {
    std::array::from_fn(|d| {
        if node.capacity.0[d] == 0 { 0.0 } else { f64::from(amounts.0[d]) / f64::from(node.capacity.0[d]) }
    })
}

fn dot(a: [f64; DIMENSIONS], b: [f64; DIMENSIONS]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl Strategy for Peer {
    fn name(&self) -> &'static str {
        match self.rule {
            Rule::FirstFit => "first-fit",
            Rule::BestFitL1 => "best-fit-l1",
            Rule::BestFitL2 => "best-fit-l2",
            Rule::BestFitMemory => "best-fit-memory",
            Rule::WorstFit => "worst-fit",
            Rule::MostAllocated => "most-allocated",
            Rule::DotProduct => "dot-product",
            Rule::Cosine => "cosine",
            Rule::Fgd => "fgd",
            Rule::Protean => "protean",
            Rule::Nilas => "nilas",
        }
    }

    fn source(&self) -> &'static str {
        match self.rule {
            Rule::FirstFit => "Johnson, Near-optimal bin packing algorithms, 1973",
            Rule::BestFitL1 | Rule::BestFitL2 => "Panigrahy et al., Heuristics for Vector Bin Packing, 2011",
            Rule::BestFitMemory => "Johnson, 1973, on the dimension that is usually scarce",
            Rule::WorstFit => "OpenStack Nova's weighers and Kubernetes' LeastAllocated, as shipped",
            Rule::MostAllocated => "Kubernetes' NodeResourcesFit MostAllocated with BalancedAllocation",
            Rule::DotProduct => "Panigrahy et al., Heuristics for Vector Bin Packing, 2011",
            Rule::Cosine => "Grandl et al., Multi-resource Packing for Cluster Schedulers (Tetris), SIGCOMM'14",
            Rule::Fgd => "Weng et al., Beware of Fragmentation, ATC'23",
            Rule::Protean => "Hadary et al., Protean: VM Allocation Service at Scale, OSDI'20",
            Rule::Nilas => "Ling et al., LAVA: Lifetime-Aware VM Allocation, MLSys'25",
        }
    }

    fn decide(&mut self, fleet: &Fleet, order: &Order, _moves: usize) -> Decision {
        let mut best: Option<(f64, NodeIndex)> = None;
        for (index, node) in fleet.nodes().iter().enumerate().filter(|(index, _)| fleet.takes(*index, order.amounts)) {
            let score = self.score(node, index, order);
            if best.is_none_or(|(least, _)| score < least) {
                best = Some((score, index));
            }
            if self.rule == Rule::FirstFit {
                break;
            }
        }
        best.map_or(Decision::Overflow(Cause::Capacity), |(_, node)| Decision::place(node))
    }

    fn arrived(&mut self, _fleet: &Fleet, order: &Order) {
        if self.rule == Rule::Fgd {
            match self.seen.iter().position(|(amounts, _)| *amounts == order.amounts) {
                Some(known) => self.seen[known].1 += 1.0,
                // The popular ones come early; a bound on the work of one decision.
                None if self.seen.len() < 32 => self.seen.push((order.amounts, 1.0)),
                None => {}
            }
        }
    }

    fn placed(&mut self, fleet: &Fleet, slot: Slot) {
        let placed = fleet.placed(slot);
        self.exits.resize(fleet.nodes().len(), 0.0);
        if placed.ends_at.is_finite() {
            self.exits[placed.node] = self.exits[placed.node].max(placed.ends_at);
        }
    }

    fn removed(&mut self, fleet: &Fleet, placed: &Placed) {
        self.exits.resize(fleet.nodes().len(), 0.0);
        let ends = fleet.node(placed.node).orders.iter().map(|slot| fleet.placed(*slot).ends_at);
        self.exits[placed.node] = ends.filter(|end| end.is_finite()).fold(0.0, f64::max);
    }
}
