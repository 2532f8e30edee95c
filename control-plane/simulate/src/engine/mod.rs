//! Our own placement: what is left must stay useful, lives that end together lie together, dear slots are not given away.

mod balance;
mod classes;
mod migrate;
mod mix;
mod ordered;
mod reserve;
mod tenants;
mod waste;

use crate::amounts::{Amounts, DIMENSIONS, GPU};
use crate::fleet::{Fleet, NodeIndex, Placed, Slot};
use crate::strategy::{Cause, Decision, Ended, Order, Strategy};
use balance::Balance;
use classes::Classes;
use mix::Mix;
use ordered::Ordered;
use reserve::Reserve;
use tenants::Tenants;
use waste::Waste;

/// What is known of when orders end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetimes {
    /// Nothing.
    #[default]
    None,
    /// An estimate that may be far off.
    Noisy,
    /// The truth.
    Exact,
}

/// How the parts of the score are weighed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weights {
    /// What is left of each amount, as a share of the node: best fit among equals.
    pub fit: f64,
    /// How long the node would live longer: per unit of ln(1 + hours).
    pub longer: f64,
    /// How much earlier than the node the order would end, likewise.
    pub shorter: f64,
    /// A stranger on a node that is all one customer's, since now.
    pub stranger: f64,
    /// Whole slots of a dear plan that would be lost.
    pub dear: f64,
    /// The share of a node that an order takes on average, as far as weights follow it.
    pub share: f64,
}

impl Weights {
    /// The weights for what is known of lives, and for orders that take this share of a node on average. Waste is counted in
    /// shares of a node, so what stands beside it must grow and shrink with the orders.
    #[must_use]
    pub fn of(lifetimes: Lifetimes, share: f64) -> Self {
        let share = share.min(0.1);
        let (fit, longer, shorter, stranger) = match lifetimes {
            Lifetimes::None => (3.0 * share, 0.0, 0.0, 3.0 * share),
            Lifetimes::Noisy => (0.1, 1.5 * share, 0.6 * share, 0.0),
            Lifetimes::Exact => (0.1, 0.8 * share, 0.8 * share, 0.0),
        };
        Self { fit, longer, shorter, stranger, dear: 10.0, share }
    }
}

/// Up to so many flavours and states, nodes are looked up by state; beyond, most nodes are in a state of their own.
const FLAVOURS_MAX: u32 = 32;
const STATES_MAX: usize = 1 << 17;
/// From so many nodes on, a look at every node takes too long.
const SCAN_MAX: usize = 2_048;

/// How the best node is found.
enum Lookup {
    /// By state: a few flavours, and nothing known of their ends.
    Classes(Classes),
    /// By room: many flavours on many nodes.
    Ordered(Ordered),
    /// By a look at every node.
    Scan,
}

/// Our strategy.
pub struct Engine {
    weights: Weights,
    lifetimes: Lifetimes,
    mix: Mix,
    waste: Waste,
    balance: Balance,
    tenants: Tenants,
    reserve: Reserve,
    /// For each node: when the last of its orders is expected to end, and since when its oldest lies there.
    exits: Vec<(f64, f64)>,
    /// Work space of the search for moves.
    search: migrate::Search,
    lookup: Lookup,
}

impl Engine {
    /// For a fleet, with the plans that may be ordered and their prices per hour on a cloud.
    #[must_use]
    pub fn new(fleet: &Fleet, plans: &[(Amounts, f64)], lifetimes: Lifetimes) -> Self {
        let mix = Mix::new(plans);
        let mut waste = Waste::new(fleet);
        waste.expect(mix.weighed());
        let mut balance = Balance::new(fleet);
        balance.expect(waste.expected());
        balance.follow();
        let mut tenants = Tenants::new(fleet, SCAN_MAX);
        tenants.expect(waste.expected());
        let lookup = match lifetimes {
            Lifetimes::None => Lookup::Classes(Classes::new(fleet, |index| waste.shape(index))),
            Lifetimes::Noisy | Lifetimes::Exact => Lookup::Scan,
        };
        Self {
            weights: Weights::of(lifetimes, waste.share(fleet)),
            lifetimes,
            waste,
            balance,
            tenants,
            reserve: Reserve::new(plans),
            mix,
            exits: vec![(0.0, f64::INFINITY); fleet.nodes().len()],
            search: migrate::Search::default(),
            lookup,
        }
    }

    /// The weights on nodes of one of the distinct capacities. Ends do not matter where orders are small beside the node and
    /// room is kept in proportion: such a node is never empty, and every hole is filled. Nor where there are GPUs: what
    /// must be kept together there is a slot of a dear plan, not a whole node.
    fn weights(&self, shape: usize) -> Weights {
        if self.balance.counts(shape) || self.waste.capacity(shape).0[GPU] > 0 {
            Weights::of(Lifetimes::None, self.weights.share)
        } else {
            self.weights
        }
    }

    /// How bad it is to have these amounts on this node; the least is the best.
    fn score(&mut self, fleet: &Fleet, index: NodeIndex, order: &Order) -> f64 {
        let node = fleet.node(index);
        let shape = self.waste.shape(index);
        let weights = self.weights(shape);
        let after = node.free.minus(order.amounts);
        let mut score = self.waste.gradient(index, node.free, after)
            + self.balance.gradient(shape, node.capacity, node.free, after)
            + beside_waste(weights, &self.reserve, node.capacity, node.free, after);
        if self.lifetimes == Lifetimes::None {
            score += weights.stranger * self.tenants.strangeness(index, shape, order);
        } else if order.ends_at.is_finite() {
            score += self.alignment(fleet, index, order, weights);
        }
        score
    }

    /// How badly the ends fit together: a node is free for something large only when the last of its orders has left.
    fn alignment(&self, fleet: &Fleet, index: NodeIndex, order: &Order, weights: Weights) -> f64 {
        let (exit, oldest) = self.exits[index];
        let own = (order.ends_at - order.now).max(0.0) / 3_600.0;
        let node = if fleet.node(index).orders.is_empty() {
            0.0
        } else if exit > order.now {
            (exit - order.now) / 3_600.0
        } else {
            // Past its estimate: what has lasted long lasts as long again.
            (order.now - oldest).max(0.0) / 3_600.0
        };
        weights.longer * (own - node).max(0.0).ln_1p() + weights.shorter * (node - own).max(0.0).ln_1p()
    }

    fn best(&mut self, fleet: &Fleet, order: &Order) -> Option<NodeIndex> {
        self.choose_lookup(fleet, order);
        if self.lifetimes == Lifetimes::None && self.tenants.matter() {
            return self.scan(fleet, order);
        }
        match &mut self.lookup {
            Lookup::Classes(classes) => {
                let (weights, reserve, waste, balance) = (self.weights, &self.reserve, &mut self.waste, &self.balance);
                let flavour = usize::try_from(order.flavour).unwrap_or(usize::MAX);
                classes.best(flavour, order.amounts, &mut |shape, after, free| {
                    let gradient = f64::from(waste.of(shape, after) - waste.of(shape, free));
                    let capacity = waste.capacity(shape);
                    gradient
                        + balance.gradient(shape, capacity, free, after)
                        + beside_waste(weights, reserve, capacity, free, after)
                })
            }
            Lookup::Ordered(ordered) => ordered.best(fleet, order.amounts),
            Lookup::Scan => self.scan(fleet, order),
        }
    }

    /// Gives up looking by state when there are too many of them.
    fn choose_lookup(&mut self, fleet: &Fleet, order: &Order) {
        if let Lookup::Classes(classes) = &self.lookup
            && (order.flavour >= FLAVOURS_MAX || classes.len() > STATES_MAX)
        {
            let many = fleet.nodes().len() > SCAN_MAX;
            self.lookup = if many { Lookup::Ordered(Ordered::new(fleet)) } else { Lookup::Scan };
        }
    }

    fn scan(&mut self, fleet: &Fleet, order: &Order) -> Option<NodeIndex> {
        let mut best: Option<(f64, NodeIndex)> = None;
        for index in 0..fleet.nodes().len() {
            if fleet.takes(index, order.amounts) {
                let score = self.score(fleet, index, order);
                if best.is_none_or(|(least, _)| score < least) {
                    best = Some((score, index));
                }
            }
        }
        best.map(|(_, node)| node)
    }

    fn changed(&mut self, fleet: &Fleet, index: NodeIndex) {
        let node = fleet.node(index);
        self.waste.changed(index);
        match &mut self.lookup {
            Lookup::Classes(classes) => classes.changed(index, node.up, node.free),
            Lookup::Ordered(ordered) => ordered.changed(index, node.up, node.free),
            Lookup::Scan => {}
        }
    }
}

/// The part of the score that is no fragmentation: what is left, and what is lost of dear slots.
fn beside_waste(weights: Weights, reserve: &Reserve, capacity: Amounts, free: Amounts, after: Amounts) -> f64 {
    let mut left = 0.0;
    for d in (0..DIMENSIONS).filter(|d| *d != GPU && capacity.0[*d] > 0) {
        left += f64::from(after.0[d]) / f64::from(capacity.0[d]);
    }
    let takes_no_gpu = free.0[GPU] > 0 && free.0[GPU] == after.0[GPU];
    let lost = if takes_no_gpu { reserve.lost(free, after) } else { 0.0 };
    weights.fit * left + weights.dear * lost
}

impl Strategy for Engine {
    fn name(&self) -> &'static str {
        "nemordp"
    }

    fn source(&self) -> &'static str {
        "this engine"
    }

    fn decide(&mut self, fleet: &Fleet, order: &Order, moves: usize) -> Decision {
        if let Some(node) = self.best(fleet, order) {
            return if self.reserve.forbids(fleet, node, order) {
                Decision::Overflow(Cause::Reserve)
            } else {
                Decision::place(node)
            };
        }
        let found = if moves > 0 { self.search.room_for(fleet, order, moves, &mut self.waste) } else { None };
        found.map_or(Decision::Overflow(Cause::Capacity), |(moves, node)| Decision::Place { moves, node })
    }

    fn arrived(&mut self, fleet: &Fleet, order: &Order) {
        let new = self.reserve.arrived(order);
        let mixed = self.mix.note(order.flavour, order.amounts);
        if mixed {
            self.waste.expect(self.mix.weighed());
            self.balance.expect(self.waste.expected());
            self.tenants.expect(self.waste.expected());
            self.weights = Weights::of(self.lifetimes, self.waste.share(fleet));
        }
        let turned = self.balance.follow();
        if (new || mixed || turned)
            && let Lookup::Classes(classes) = &mut self.lookup
        {
            classes.rescore();
        }
    }

    fn placed(&mut self, fleet: &Fleet, slot: Slot) {
        let placed = fleet.placed(slot);
        self.balance.placed(placed.amounts);
        self.tenants.placed(fleet.node(placed.node).capacity, placed);
        let (exit, oldest) = &mut self.exits[placed.node];
        if placed.ends_at.is_finite() {
            *exit = exit.max(placed.ends_at);
        }
        *oldest = oldest.min(placed.since);
        self.changed(fleet, placed.node);
    }

    fn removed(&mut self, fleet: &Fleet, placed: &Placed) {
        let node = fleet.node(placed.node);
        self.tenants.removed(node.capacity, placed);
        if node.up {
            self.balance.removed(placed.amounts);
        }
        let (exit, oldest) = self.exits[placed.node];
        if self.lifetimes != Lifetimes::None && (placed.ends_at >= exit || placed.since <= oldest) {
            let orders = node.orders.iter().map(|slot| fleet.placed(*slot));
            let seed = (0.0f64, f64::INFINITY);
            self.exits[placed.node] = orders.fold(seed, |(exit, oldest), other| {
                let ends_at = if other.ends_at.is_finite() { other.ends_at } else { 0.0 };
                (exit.max(ends_at), oldest.min(other.since))
            });
        }
        self.changed(fleet, placed.node);
    }

    fn turned(&mut self, fleet: &Fleet, node: NodeIndex) {
        self.balance.turned(fleet, node);
        self.changed(fleet, node);
    }

    fn ended(&mut self, ended: &Ended) {
        self.reserve.ended(ended);
    }
}
