//! Nodes in the same state, kept together: where orders come in a few sizes, nodes are in a few states, and a decision is a
//! look at the best state that is occupied instead of a look at every node.
//!
//! Exact: it finds a node with the lowest score, as a scan would, as long as the score depends on nothing but capacity, room
//! and order. For each flavour the occupied states with room stand in the order of their scores; a state's score is computed
//! once.

use std::collections::{BTreeSet, HashMap};
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
    /// The score for each flavour that was asked for, as far as it is known.
    scores: Vec<Option<i64>>,
    /// Whether it stands among those that came or went.
    noted: bool,
}

/// The occupied states by score, for one flavour; nothing for a flavour that was never asked for.
#[derive(Default)]
struct Order {
    amounts: Option<Amounts>,
    occupied: BTreeSet<(i64, u32)>,
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
    /// States that became occupied or empty since the last question.
    turned: Vec<u32>,
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
            turned: Vec::new(),
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
        self.states.iter_mut().for_each(|state| state.scores.clear());
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
                let (nodes, scores) = (Vec::new(), Vec::new());
                self.states.push(State { shape: key.0, free, nodes, scores, noted: false });
                self.by_free.insert(key, state);
                state
            }
        };
        let entered = &mut self.states[wide(state)];
        self.places[index] = (state, narrow(entered.nodes.len()));
        entered.nodes.push(narrow(index));
        if entered.nodes.len() == 1 {
            self.note(state);
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
            self.note(state);
        }
        self.places[index].0 = NONE;
    }

    fn note(&mut self, state: u32) {
        let noted = &mut self.states[wide(state)].noted;
        if !std::mem::replace(noted, true) {
            self.turned.push(state);
        }
    }

    /// A node with the lowest score for this flavour, if any has room.
    pub(super) fn best(&mut self, flavour: usize, amounts: Amounts, score: Score<'_>) -> Option<NodeIndex> {
        if self.orders.get(flavour).is_none_or(|order| order.amounts != Some(amounts)) {
            self.take_in(flavour, amounts, score);
        }
        while let Some(state) = self.turned.pop() {
            self.states[wide(state)].noted = false;
            for flavour in 0..self.orders.len() {
                self.stand(flavour, state, score);
            }
        }
        let (_, state) = self.orders[flavour].occupied.first()?;
        self.states[wide(*state)].nodes.last().map(|node| wide(*node))
    }

    /// A flavour that was never asked for, or means something else now.
    fn take_in(&mut self, flavour: usize, amounts: Amounts, score: Score<'_>) {
        if self.orders.len() <= flavour {
            self.orders.resize_with(flavour + 1, Order::default);
        }
        self.orders[flavour] = Order { amounts: Some(amounts), occupied: BTreeSet::new() };
        for state in 0..self.states.len() {
            if let Some(known) = self.states[state].scores.get_mut(flavour) {
                *known = None;
            }
            self.stand(flavour, narrow(state), score);
        }
    }

    /// Puts a state where it belongs among those of a flavour, or takes it out.
    fn stand(&mut self, flavour: usize, index: u32, score: Score<'_>) {
        let (order, state) = (&mut self.orders[flavour], &mut self.states[wide(index)]);
        let Some(amounts) = order.amounts.filter(|amounts| amounts.fits(state.free)) else { return };
        let known = state.scores.get(flavour).copied().flatten();
        if state.nodes.is_empty() {
            if let Some(known) = known {
                order.occupied.remove(&(known, index));
            }
            return;
        }
        let value = known.unwrap_or_else(|| sortable(score(wide(state.shape), state.free.minus(amounts), state.free)));
        if known.is_none() {
            state.scores.resize(state.scores.len().max(flavour + 1), None);
            state.scores[flavour] = Some(value);
        }
        order.occupied.insert((value, index));
    }
}

/// An integer in the order of the numbers, as `f64::total_cmp` has them.
fn sortable(score: f64) -> i64 {
    let bits = i64::from_ne_bytes(score.to_ne_bytes());
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

fn wide(value: u32) -> usize {
    // Nowhere does NemoRDP run with pointers of less than 32 bits.
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn narrow(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(NONE)
}
