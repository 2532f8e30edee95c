//! What of a node's room lies askew to the room of the whole fleet.
//!
//! Where orders are small beside a node, they fill every hole; what strands room then is that one node has processors left
//! without memory and another memory without processors. So each node's room is kept in the proportion of the fleet's room:
//! the order goes where it straightens most, as Tetris' cosine does (Grandl et al., SIGCOMM'14), but without its wish for
//! empty nodes.

use crate::amounts::{Amounts, DIMENSIONS, MEMORY, VCPU};
use crate::fleet::{Fleet, NodeIndex};

use super::waste::{LARGE_NODE, share};

/// What a share of a node that lies askew counts, beside a share that is useless.
const WEIGHT: f64 = 2.0;
/// So much of the demand must lie on either side of a node's own proportion; else one amount is always sold out first, and
/// nothing is gained by keeping the other beside it.
const EITHER_SIDE: f64 = 0.05;
/// The fleet's proportion is taken anew when it has turned by more than this, in radians.
const TURNED: f64 = 0.03;

/// The proportion of processors and memory in the room of the fleet.
pub(super) struct Balance {
    free: [u64; DIMENSIONS],
    capacity: [u64; DIMENSIONS],
    /// Shares of processors and memory that are free, as a vector of length one.
    direction: [f64; 2],
    /// For each of the distinct capacities, whether it counts.
    counts: Vec<bool>,
}

impl Balance {
    pub(super) fn new(fleet: &Fleet) -> Self {
        let mut balance =
            Self { free: [0; DIMENSIONS], capacity: [0; DIMENSIONS], direction: [0.0; 2], counts: Vec::new() };
        for node in fleet.nodes() {
            balance.add(node.free, node.capacity);
        }
        balance
    }

    fn add(&mut self, free: Amounts, capacity: Amounts) {
        for d in 0..DIMENSIONS {
            self.free[d] += u64::from(free.0[d]);
            self.capacity[d] += u64::from(capacity.0[d]);
        }
    }

    /// An order came to a node.
    pub(super) fn placed(&mut self, amounts: Amounts) {
        for d in 0..DIMENSIONS {
            self.free[d] = self.free[d].saturating_sub(u64::from(amounts.0[d]));
        }
    }

    /// An order left a node.
    pub(super) fn removed(&mut self, amounts: Amounts) {
        for d in 0..DIMENSIONS {
            self.free[d] += u64::from(amounts.0[d]);
        }
    }

    /// A node went or came back with all that lies on it.
    pub(super) fn turned(&mut self, fleet: &Fleet, index: NodeIndex) {
        let node = fleet.node(index);
        if node.up {
            self.add(node.free, node.capacity);
            return;
        }
        for d in 0..DIMENSIONS {
            self.free[d] = self.free[d].saturating_sub(u64::from(node.free.0[d]));
            self.capacity[d] = self.capacity[d].saturating_sub(u64::from(node.capacity.0[d]));
        }
    }

    /// Takes another mix; `mean` is the share of a node of that capacity that an order takes.
    pub(super) fn expect<'m>(&mut self, shapes: impl Iterator<Item = (Amounts, f64, &'m [(Amounts, f64)])>) {
        self.counts = shapes.map(|(capacity, mean, mix)| mean < LARGE_NODE && is_two_sided(capacity, mix)).collect();
    }

    /// Takes the fleet's proportion anew if it has turned far enough; true when scores have changed by that.
    pub(super) fn follow(&mut self) -> bool {
        if !self.counts.contains(&true) {
            return false;
        }
        let part = |d: usize| {
            #[expect(clippy::cast_precision_loss, reason = "a fleet has less than 2^52 of anything")]
            let (free, capacity) = (self.free[d] as f64, self.capacity[d] as f64);
            if capacity > 0.0 { free / capacity } else { 0.0 }
        };
        let (vcpu, memory) = (part(VCPU), part(MEMORY));
        let length = vcpu.hypot(memory);
        if length <= 0.0 {
            return false;
        }
        let direction = [vcpu / length, memory / length];
        let turned = askew(self.direction, direction);
        if turned <= TURNED && self.direction != [0.0; 2] {
            return false;
        }
        self.direction = direction;
        true
    }

    /// Whether the room of nodes of this capacity is kept in proportion.
    pub(super) fn counts(&self, shape: usize) -> bool {
        self.counts.get(shape).copied().unwrap_or(false)
    }

    /// By how much more a node's room would lie askew.
    pub(super) fn gradient(&self, shape: usize, capacity: Amounts, free: Amounts, after: Amounts) -> f64 {
        if !self.counts(shape) {
            return 0.0;
        }
        let part = |amounts: Amounts, d: usize| f64::from(amounts.0[d]) / f64::from(capacity.0[d].max(1));
        let room = |amounts: Amounts| askew([part(amounts, VCPU), part(amounts, MEMORY)], self.direction);
        WEIGHT * (room(after) - room(free))
    }
}

/// How far a point lies from the line in this direction.
fn askew(point: [f64; 2], direction: [f64; 2]) -> f64 {
    (point[0] * direction[1] - point[1] * direction[0]).abs()
}

/// Whether some of the demand wants more memory beside its processors than the node has, and some less.
fn is_two_sided(capacity: Amounts, mix: &[(Amounts, f64)]) -> bool {
    let (mut memory_heavy, mut vcpu_heavy) = (0.0, 0.0);
    for (amounts, weight) in mix {
        let demand = weight * share(capacity, *amounts);
        let of = |d: usize, other: usize| u64::from(amounts.0[d]) * u64::from(capacity.0[other]);
        match of(MEMORY, VCPU).cmp(&of(VCPU, MEMORY)) {
            std::cmp::Ordering::Greater => memory_heavy += demand,
            std::cmp::Ordering::Less => vcpu_heavy += demand,
            std::cmp::Ordering::Equal => {}
        }
    }
    memory_heavy.min(vcpu_heavy) >= EITHER_SIDE * (memory_heavy + vcpu_heavy) && memory_heavy > 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Amounts = Amounts([96, 256 * 1_024, 0, 0]);
    const THIN: Amounts = Amounts([2, 2 * 1_024, 0, 0]);
    const WIDE: Amounts = Amounts([1, 8 * 1_024, 0, 0]);

    fn balance(mix: &[(Amounts, f64)]) -> Balance {
        let mut balance = Balance::new(&Fleet::new([NODE, NODE]));
        balance.expect([(NODE, 0.02, mix)].into_iter());
        balance.follow();
        balance
    }

    #[test]
    fn an_order_goes_where_it_straightens_what_is_left() {
        let balance = balance(&[(THIN, 0.5), (WIDE, 0.5)]);
        let vcpu_left = Amounts([40, 20 * 1_024, 0, 0]);
        let memory_left = Amounts([10, 200 * 1_024, 0, 0]);
        let of = |order: Amounts, free: Amounts| balance.gradient(0, NODE, free, free.minus(order));
        assert!(of(THIN, vcpu_left) < 0.0 && of(THIN, memory_left) > 0.0);
        assert!(of(WIDE, vcpu_left) > 0.0 && of(WIDE, memory_left) < 0.0);
    }

    #[test]
    fn nothing_counts_where_one_amount_is_always_sold_out_first() {
        let balance = balance(&[(THIN, 1.0)]);
        let free = Amounts([40, 20 * 1_024, 0, 0]);
        assert!(balance.gradient(0, NODE, free, free.minus(THIN)).abs() < f64::EPSILON);
    }

    #[test]
    fn the_proportion_follows_what_is_sold() {
        let mut balance = balance(&[(THIN, 0.5), (WIDE, 0.5)]);
        assert!(!balance.follow());
        balance.placed(Amounts([2, 0, 0, 0]));
        assert!(!balance.follow(), "two of 192 processors turn it by less than scores are worth");
        balance.placed(Amounts([90, 0, 0, 0]));
        assert!(balance.follow());
        balance.removed(Amounts([90, 0, 0, 0]));
        assert!(balance.follow());
    }
}
