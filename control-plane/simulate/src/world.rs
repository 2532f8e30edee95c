//! A fleet, a strategy that decides, and the referee between them: nothing is placed without room, no budget is exceeded.

use crate::fleet::{Fleet, NodeIndex, Placed, Slot};
use crate::strategy::{Cause, Decision, Ended, Order, Strategy};

/// How many moves are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Budget {
    /// For one order.
    pub per_order: u64,
    /// For a thousand orders, summed over all that came so far.
    pub per_thousand: f64,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It lies on a node, after these moves.
    Placed {
        /// Where it lies.
        slot: Slot,
        /// Who moved where, in this order.
        moves: Vec<(Slot, NodeIndex)>,
    },
    /// It went to a cloud.
    Overflowed(Cause),
}

/// One order of a node that went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replaced {
    /// Where it lay.
    pub was: Slot,
    /// Where it lies now, or why nowhere.
    pub now: Result<Slot, Cause>,
}

/// The fleet in motion.
pub struct World {
    fleet: Fleet,
    strategy: Box<dyn Strategy>,
    budget: Budget,
    arrivals: u64,
    moved: u64,
}

impl World {
    /// An empty fleet under a strategy.
    #[must_use]
    pub fn new(fleet: Fleet, strategy: Box<dyn Strategy>, budget: Budget) -> Self {
        Self { fleet, strategy, budget, arrivals: 0, moved: 0 }
    }

    /// The fleet.
    #[must_use]
    pub const fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// How many moves were made.
    #[must_use]
    pub const fn moved(&self) -> u64 {
        self.moved
    }

    /// Moves that the next answer may contain.
    fn moves_left(&self) -> usize {
        #[expect(clippy::cast_precision_loss, reason = "fewer than 2^52 orders")]
        let earned = (self.arrivals as f64 * self.budget.per_thousand / 1_000.0).floor();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, as a float cast does")]
        let earned = earned as u64;
        usize::try_from(earned.saturating_sub(self.moved).min(self.budget.per_order)).unwrap_or(usize::MAX)
    }

    /// An order comes.
    pub fn arrive(&mut self, order: &Order) -> Outcome {
        self.arrivals += 1;
        self.strategy.arrived(&self.fleet, order);
        let moves = self.moves_left();
        match self.decide(order, moves) {
            Decision::Place { moves, node } => {
                for &(slot, to) in &moves {
                    self.migrate(slot, to);
                }
                Outcome::Placed { slot: self.place(order, node), moves }
            }
            Decision::Overflow(cause) => Outcome::Overflowed(cause),
        }
    }

    /// What the strategy says, unless it breaks a rule; then the order takes the first node with room.
    fn decide(&mut self, order: &Order, moves: usize) -> Decision {
        let decision = self.strategy.decide(&self.fleet, order, moves);
        let legal = is_legal(&self.fleet, order, &decision, moves);
        debug_assert!(legal, "{} decided {decision:?}", self.strategy.name());
        if legal {
            return decision;
        }
        let room = (0..self.fleet.nodes().len()).find(|node| self.fleet.takes(*node, order.amounts));
        room.map_or(Decision::Overflow(Cause::Capacity), Decision::place)
    }

    fn place(&mut self, order: &Order, node: NodeIndex) -> Slot {
        let slot = self.fleet.place(node, order, order.now);
        self.strategy.placed(&self.fleet, slot);
        slot
    }

    fn migrate(&mut self, slot: Slot, to: NodeIndex) {
        let before = *self.fleet.placed(slot);
        self.fleet.migrate(slot, to);
        self.moved += 1;
        self.strategy.removed(&self.fleet, &before);
        self.strategy.placed(&self.fleet, slot);
    }

    /// An order that lies on a node ends.
    pub fn depart(&mut self, slot: Slot, now: f64) {
        let placed = self.fleet.remove(slot);
        self.strategy.removed(&self.fleet, &placed);
        let Placed { amounts, flavour, since, .. } = placed;
        self.strategy.ended(&Ended { amounts, flavour, since, now });
    }

    /// An order that went to a cloud ends.
    pub fn ended_elsewhere(&mut self, order: &Order, now: f64) {
        let Order { amounts, flavour, now: since, .. } = *order;
        self.strategy.ended(&Ended { amounts, flavour, since, now });
    }

    /// A node goes down; each of its orders is placed again, the largest first, without moves. Old slots are given back
    /// only after all have new ones, so that no slot means two orders.
    pub fn node_down(&mut self, node: NodeIndex, now: f64, price: impl Fn(Slot) -> f64) -> Vec<Replaced> {
        if !self.fleet.node(node).up {
            return Vec::new();
        }
        self.fleet.set_up(node, false);
        self.strategy.turned(&self.fleet, node);
        let capacity = self.fleet.node(node).capacity;
        let mut slots = self.fleet.node(node).orders.clone();
        let size = |slot: &Slot| {
            let amounts = self.fleet.placed(*slot).amounts;
            let shares = amounts.0.iter().zip(capacity.0).filter(|(_, whole)| *whole > 0);
            shares.map(|(part, whole)| f64::from(*part) / f64::from(whole)).fold(price(*slot) * 1e-6, f64::max)
        };
        slots.sort_by(|a, b| size(b).total_cmp(&size(a)).then(a.cmp(b)));
        let mut replaced = Vec::with_capacity(slots.len());
        for was in slots.iter().copied() {
            let lay = *self.fleet.placed(was);
            let order = Order {
                amounts: lay.amounts,
                flavour: lay.flavour,
                now,
                ends_at: lay.ends_at,
                overflow_per_hour: price(was),
                tenant: lay.tenant,
            };
            let now = match self.decide(&order, 0) {
                Decision::Place { node, .. } => {
                    let slot = self.fleet.place(node, &order, lay.since);
                    self.strategy.placed(&self.fleet, slot);
                    Ok(slot)
                }
                Decision::Overflow(cause) => Err(cause),
            };
            replaced.push(Replaced { was, now });
        }
        for was in slots {
            let placed = self.fleet.remove(was);
            self.strategy.removed(&self.fleet, &placed);
        }
        replaced
    }

    /// A node comes back, empty.
    pub fn node_up(&mut self, node: NodeIndex) {
        self.fleet.set_up(node, true);
        self.strategy.turned(&self.fleet, node);
    }
}

/// Whether a decision can be carried out as it stands: moves in their order, each to another node with room, then the order.
#[must_use]
pub fn is_legal(fleet: &Fleet, order: &Order, decision: &Decision, moves_max: usize) -> bool {
    let Decision::Place { moves, node } = decision else { return true };
    let mut changes: Vec<(NodeIndex, Slot, bool)> = Vec::with_capacity(moves.len() * 2);
    let has_room = |changes: &[(NodeIndex, Slot, bool)], target: NodeIndex, amounts: crate::amounts::Amounts| {
        let mut free = fleet.node(target).free;
        for (_, slot, comes) in changes.iter().filter(|(node, _, _)| *node == target) {
            let moved = fleet.placed(*slot).amounts;
            free = if *comes { free.minus(moved) } else { free.plus(moved) };
        }
        fleet.node(target).up && amounts.fits(free)
    };
    if moves.len() > moves_max {
        return false;
    }
    for &(slot, to) in moves {
        let placed = fleet.placed(slot);
        let again = changes.iter().any(|(_, other, _)| *other == slot);
        if again || to == placed.node || !has_room(&changes, to, placed.amounts) {
            return false;
        }
        changes.push((placed.node, slot, false));
        changes.push((to, slot, true));
    }
    has_room(&changes, *node, order.amounts)
}
