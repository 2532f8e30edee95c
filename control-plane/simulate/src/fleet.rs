//! The nodes of a simulation and the orders that lie on them, by index.

use crate::amounts::Amounts;
use crate::strategy::Order;

/// Index of a node.
pub type NodeIndex = usize;
/// Index of an order that lies somewhere; used again after it has left.
pub type Slot = usize;

/// A customer, by the caller's numbers.
pub type Tenant = u32;

/// An order that lies on a node.
#[derive(Debug, Clone, Copy)]
pub struct Placed {
    /// Where.
    pub node: NodeIndex,
    /// What it takes.
    pub amounts: Amounts,
    /// Which flavour it is, as the caller numbers them.
    pub flavour: u32,
    /// When it came, seconds.
    pub since: f64,
    /// When it is expected to leave, seconds; infinite when nothing is known.
    pub ends_at: f64,
    /// Whose it is; nothing when nothing is known.
    pub tenant: Option<Tenant>,
    /// Position in its node's list.
    position: usize,
}

/// One node.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it sells.
    pub capacity: Amounts,
    /// What is left.
    pub free: Amounts,
    /// Whether it takes orders.
    pub up: bool,
    /// What lies on it.
    pub orders: Vec<Slot>,
}

/// The nodes and what lies on them.
#[derive(Debug, Clone, Default)]
pub struct Fleet {
    nodes: Vec<Node>,
    placed: Vec<Placed>,
    vacant: Vec<Slot>,
}

impl Fleet {
    /// Empty nodes of these capacities.
    #[must_use]
    pub fn new(capacities: impl IntoIterator<Item = Amounts>) -> Self {
        let node = |capacity| Node { capacity, free: capacity, up: true, orders: Vec::new() };
        Self { nodes: capacities.into_iter().map(node).collect(), placed: Vec::new(), vacant: Vec::new() }
    }

    /// All nodes, by index.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node.
    #[must_use]
    #[inline]
    pub fn node(&self, index: NodeIndex) -> &Node {
        &self.nodes[index]
    }

    /// One order.
    #[must_use]
    #[inline]
    pub fn placed(&self, slot: Slot) -> &Placed {
        &self.placed[slot]
    }

    /// Whether the node is up and has room.
    #[must_use]
    #[inline]
    pub fn takes(&self, index: NodeIndex, amounts: Amounts) -> bool {
        let node = &self.nodes[index];
        node.up && amounts.fits(node.free)
    }

    /// Lays an order on a node that takes it; `since` is when it came, which is earlier than now when it lay elsewhere.
    pub fn place(&mut self, index: NodeIndex, order: &Order, since: f64) -> Slot {
        let Order { amounts, flavour, ends_at, tenant, .. } = *order;
        let node = &mut self.nodes[index];
        debug_assert!(node.up && amounts.fits(node.free), "placed without room");
        node.free = node.free.minus(amounts);
        let placed = Placed { node: index, amounts, flavour, since, ends_at, tenant, position: node.orders.len() };
        let slot = match self.vacant.pop() {
            Some(slot) => {
                self.placed[slot] = placed;
                slot
            }
            None => {
                self.placed.push(placed);
                self.placed.len() - 1
            }
        };
        node.orders.push(slot);
        slot
    }

    /// Takes an order off its node.
    pub fn remove(&mut self, slot: Slot) -> Placed {
        let placed = self.detach(slot);
        self.vacant.push(slot);
        placed
    }

    fn detach(&mut self, slot: Slot) -> Placed {
        let placed = self.placed[slot];
        let node = &mut self.nodes[placed.node];
        node.orders.swap_remove(placed.position);
        if let Some(&other) = node.orders.get(placed.position) {
            self.placed[other].position = placed.position;
        }
        node.free = node.free.plus(placed.amounts);
        placed
    }

    /// Moves an order to another node that takes it.
    pub fn migrate(&mut self, slot: Slot, to: NodeIndex) {
        let amounts = self.detach(slot).amounts;
        let node = &mut self.nodes[to];
        debug_assert!(node.up && amounts.fits(node.free), "moved without room");
        node.free = node.free.minus(amounts);
        (self.placed[slot].node, self.placed[slot].position) = (to, node.orders.len());
        node.orders.push(slot);
    }

    /// Takes a node out; what lay on it stays listed there until it is removed.
    pub fn set_up(&mut self, index: NodeIndex, up: bool) {
        self.nodes[index].up = up;
    }
}
