//! Nodes in the same state, kept together: where orders come in a few sizes, nodes are in a few states, and a decision is a
//! look at the best state that is occupied instead of a look at every node.
//!
//! Exact: it finds a node with the lowest score, as a scan would, as long as the score depends on nothing but capacity, room
//! and order. For each flavour the states stand in the order of their scores, with one bit for "some node is in it".

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::waste::Quick;
use crate::amounts::Amounts;
use crate::fleet::{Fleet, NodeIndex};

/// No state: the node is down.
const NONE: u32 = u32::MAX;

/// Nodes that cannot be told apart.
struct State {
    shape: u32,
    free: Amounts,
    nodes: Vec<u32>,
    /// The position of this state in each flavour's order; beyond the end where it has no room.
    ranks: Vec<u32>,
}

/// The states by score, for one flavour; nothing for a flavour that was never asked for.
#[derive(Default)]
struct Order {
    amounts: Option<Amounts>,
    states: Vec<u32>,
    occupied: Vec<u64>,
}

/// What the score of a state is: capacity by its number, what would be free, and what is free now.
pub(super) type Score<'s> = &'s mut dyn FnMut(usize, Amounts, Amounts) -> f64;

/// All nodes by state.
pub(super) struct Classes {
    states: Vec<State>,
    by_free: HashMap<(u32, Amounts), u32, BuildHasherDefault<Quick>>,
    orders: Vec<Order>,
    /// State of each node and its position there.
    places: Vec<(u32, u32)>,
    shapes: Vec<u32>,
    /// States whose place in the orders is still to be found.
    unranked: Vec<u32>,
}

impl Classes {
    pub(super) fn new(fleet: &Fleet, shape: impl Fn(NodeIndex) -> usize) -> Self {
        let count = fleet.nodes().len();
        let shapes = (0..count).map(|index| u32::try_from(shape(index)).unwrap_or(0)).collect();
        let mut classes = Self {
            states: Vec::new(),
            by_free: HashMap::default(),
            orders: Vec::new(),
            places: vec![(NONE, 0); count],
            shapes,
            unranked: Vec::new(),
        };
        (0..count).for_each(|index| classes.changed(index, fleet.node(index).up, fleet.node(index).free));
        classes
    }

    /// How many states there are, occupied or not.
    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    /// Forgets the scores, because what they are made of has changed.
    pub(super) fn rescore(&mut self) {
        self.orders.clear();
        self.unranked.clear();
        self.states.iter_mut().for_each(|state| state.ranks.clear());
    }

    /// A node's room has changed, or it went or came.
    pub(super) fn changed(&mut self, index: NodeIndex, up: bool, free: Amounts) {
        self.leave(index);
        if !up {
            return;
        }
        let key = (self.shapes[index], free);
        let state = match self.by_free.get(&key) {
            Some(state) => *state,
            None => {
                let state = u32::try_from(self.states.len()).unwrap_or(NONE);
                self.states.push(State { shape: key.0, free, nodes: Vec::new(), ranks: Vec::new() });
                self.by_free.insert(key, state);
                self.unranked.push(state);
                state
            }
        };
        let entered = &mut self.states[wide(state)];
        self.places[index] = (state, narrow(entered.nodes.len()));
        entered.nodes.push(narrow(index));
        if entered.nodes.len() == 1 {
            self.mark(state, true);
        }
    }

    fn leave(&mut self, index: NodeIndex) {
        let (state, position) = self.places[index];
        if state == NONE {
            return;
        }
        let left = &mut self.states[wide(state)];
        left.nodes.swap_remove(wide(position));
        if let Some(other) = left.nodes.get(wide(position)) {
            self.places[wide(*other)].1 = position;
        }
        if left.nodes.is_empty() {
            self.mark(state, false);
        }
        self.places[index].0 = NONE;
    }

    fn mark(&mut self, state: u32, occupied: bool) {
        let ranks = &self.states[wide(state)].ranks;
        for (order, rank) in self.orders.iter_mut().zip(ranks) {
            if let Some(word) = order.occupied.get_mut(wide(rank / 64)) {
                let bit = 1u64 << (rank % 64);
                *word = if occupied { *word | bit } else { *word & !bit };
            }
        }
    }

    /// A node with the lowest score for this flavour, if any has room.
    pub(super) fn best(&mut self, flavour: usize, amounts: Amounts, score: Score<'_>) -> Option<NodeIndex> {
        if !self.unranked.is_empty() || self.orders.get(flavour).is_none_or(|order| order.amounts != Some(amounts)) {
            self.rank(flavour, amounts, score);
        }
        let order = &self.orders[flavour];
        let (word, bits) = order.occupied.iter().enumerate().find(|(_, bits)| **bits != 0)?;
        let rank = word * 64 + wide(bits.trailing_zeros());
        self.states[wide(order.states[rank])].nodes.last().map(|node| wide(*node))
    }

    /// Puts new states where they belong, for every flavour at once, and takes in a new flavour.
    fn rank(&mut self, flavour: usize, amounts: Amounts, score: Score<'_>) {
        if self.orders.len() <= flavour {
            self.orders.resize_with(flavour + 1, Order::default);
        }
        let new = self.orders[flavour].amounts != Some(amounts);
        self.orders[flavour].amounts = Some(amounts);
        let more = !self.unranked.is_empty();
        self.unranked.clear();
        for other in 0..self.orders.len() {
            if more || (new && other == flavour) {
                self.order_all(other, score);
            }
        }
    }

    fn order_all(&mut self, flavour: usize, score: Score<'_>) {
        let order = &mut self.orders[flavour];
        let Some(amounts) = order.amounts else { return };
        let mut scored: Vec<(f64, u32)> = Vec::with_capacity(self.states.len());
        for (index, state) in self.states.iter().enumerate().filter(|(_, state)| amounts.fits(state.free)) {
            scored.push((score(wide(state.shape), state.free.minus(amounts), state.free), narrow(index)));
        }
        scored.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        order.states = scored.iter().map(|(_, state)| *state).collect();
        order.occupied = vec![0; scored.len().div_ceil(64)];
        for state in &mut self.states {
            state.ranks.resize(state.ranks.len().max(flavour + 1), NONE);
            state.ranks[flavour] = NONE;
        }
        for (rank, (_, state)) in scored.iter().enumerate() {
            let state = &mut self.states[wide(*state)];
            state.ranks[flavour] = narrow(rank);
            if !state.nodes.is_empty() {
                order.occupied[rank / 64] |= 1 << (rank % 64);
            }
        }
    }
}

fn wide(value: u32) -> usize {
    // Nowhere does NemoRDP run with pointers of less than 32 bits.
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn narrow(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(NONE)
}
