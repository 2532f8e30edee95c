//! Rules of placement behind one interface, so that they can be run side by side.

pub mod peers;

use crate::amounts::Amounts;
use crate::fleet::{Fleet, NodeIndex, Placed, Slot, Tenant};

/// An order that asks for a place.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    /// What it takes.
    pub amounts: Amounts,
    /// Which flavour: equal amounts at an equal price have the same number.
    pub flavour: u32,
    /// Now, seconds.
    pub now: f64,
    /// When it is said to end, seconds; infinite when nothing is said.
    pub ends_at: f64,
    /// What an hour of it costs on a cloud.
    pub overflow_per_hour: f64,
    /// Whose it is; nothing when nothing is said.
    pub tenant: Option<Tenant>,
}

/// An order's whole life.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// What it took.
    pub amounts: Amounts,
    /// Which flavour.
    pub flavour: u32,
    /// When it came, seconds.
    pub since: f64,
    /// When it left.
    pub now: f64,
}

/// Why an order goes to a cloud.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// No node has room.
    Capacity,
    /// The room is held for dearer orders that are expected.
    Reserve,
}

/// What becomes of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It goes to a node, after these moves in their order.
    Place {
        /// Orders that make room first, each to another node.
        moves: Vec<(Slot, NodeIndex)>,
        /// Where it goes.
        node: NodeIndex,
    },
    /// It goes to a cloud.
    Overflow(Cause),
}

impl Decision {
    /// Placed without any move.
    #[must_use]
    pub const fn place(node: NodeIndex) -> Self {
        Self::Place { moves: Vec::new(), node }
    }
}

/// Every strategy by its name: ours first, then the peers.
#[must_use]
pub fn names() -> Vec<&'static str> {
    let peers = peers::Rule::ALL.map(|rule| peers::Peer::new(rule).name());
    std::iter::once("nemordp").chain(peers).collect()
}

/// The strategy of a name.
#[must_use]
pub fn by_name(
    name: &str,
    fleet: &Fleet,
    plans: &[(Amounts, f64)],
    lifetimes: crate::engine::Lifetimes,
) -> Option<Box<dyn Strategy>> {
    if name == "nemordp" {
        return Some(Box::new(crate::engine::Engine::new(fleet, plans, lifetimes)));
    }
    let mut peers = peers::Rule::ALL.into_iter().map(peers::Peer::new);
    peers.find(|peer| peer.name() == name).map(|peer| Box::new(peer) as Box<dyn Strategy>)
}

/// A rule of placement. It sees every change, so that it can keep what it knows up to date instead of computing it anew.
pub trait Strategy {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// Where it was published.
    fn source(&self) -> &'static str;

    /// Decides; at most `moves` moves are allowed.
    fn decide(&mut self, fleet: &Fleet, order: &Order, moves: usize) -> Decision;

    /// An order has come, wherever it goes.
    fn arrived(&mut self, _fleet: &Fleet, _order: &Order) {}

    /// An order lies on a node now, by arrival or move.
    fn placed(&mut self, _fleet: &Fleet, _slot: Slot) {}

    /// An order has left its node, by its end or by a move.
    fn removed(&mut self, _fleet: &Fleet, _placed: &Placed) {}

    /// An order that came has ended, wherever it was.
    fn ended(&mut self, _ended: &Ended) {}

    /// A node went or came back, empty.
    fn turned(&mut self, _fleet: &Fleet, _node: NodeIndex) {}
}
