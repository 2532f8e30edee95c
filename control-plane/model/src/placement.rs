//! Where an instance goes: filters with a closed list of refusals, then the best score; explained node by node.
//!
//! Pure functions over a snapshot. The reservation's transaction checks the room again; who loses that race takes a new
//! snapshot and places again.
//!
//! Map: [`request`](PlacementRequest) what is wanted, [`Siting`] of which node · [`snapshot`](FleetSnapshot) what there is, and its digest ·
//! [`Refusal`] why not · [`Terms`] how well · [`place`] the choice · [`explain()`] every node's verdict · [`what_if`] the
//! same with nodes or plans added or removed · [`how_many_fit`], [`capacity_report`] how many more ·
//! [`could_ever_hold`] whether any machine is large enough · [`make_room()`] the moves that would help a blocked order ·
//! [`cheapest`] the cloud that takes what no node takes.

mod capacity;
mod explain;
mod fragment;
mod make_room;
mod overflow;
mod proportion;
mod refusal;
mod request;
mod reserve;
mod score;
mod siting;
mod snapshot;
#[cfg(test)]
mod tests;
mod whatif;

use nemordp_types::NodeId;
use serde::{Deserialize, Serialize};

pub use capacity::{Capacity, capacity_report, could_ever_hold, how_many_fit, how_many_fit_up_to};
pub use explain::{BEST_MAX, Explained, Explanation, Verdict, explain};
pub use make_room::{Lodger, MOVES_MAX, Move, MovePlan, make_room};
pub use overflow::{CloudOffer, GuestSystem, MicroMoney, OfferRefusal, Overflow, Tariff, cheapest};
pub use refusal::{Refusal, Refusals};
pub use request::{AddressKind, Affinity, Demand, GpuDemand, PlacementRequest};
pub use score::Terms;
pub use siting::{GroupKey, LABELS_MAX, Members, Siting, labels, not_too_many};
pub use snapshot::{
    Amounts, FleetSnapshot, GpuRoom, HeldBack, NodeSnapshot, PlanShare, PoolRoom, Room, SlotReserve, SnapshotDigest,
    Strain,
};
pub use whatif::{Change, WhatIf, changed, what_if};

use proportion::Proportion;
use reserve::Reserves;

/// The choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Where the instance goes.
    pub node_id: NodeId,
    /// How bad the fit is, in millionths; the lowest wins.
    pub score: u64,
    /// Why the others were refused.
    pub refusals: Refusals,
}

/// Chooses the node with the lowest score, or says of each node why not. The order of the nodes does not matter: of equal
/// scores the lowest id wins.
///
/// # Errors
/// The reason against each node, when none takes the request.
pub fn place(request: &PlacementRequest, snapshot: &FleetSnapshot) -> Result<Placement, Refusals> {
    let around = Surroundings::of(request, snapshot);
    let mut refusals = Refusals::default();
    let mut best: Option<(u64, NodeId)> = None;
    for node in &snapshot.nodes {
        match verdict(request, snapshot, &around, node) {
            Verdict::Scored(terms) => {
                let candidate = (terms.total(), node.id);
                best = Some(best.map_or(candidate, |best| best.min(candidate)));
            }
            Verdict::Refused(refusal) => refusals.push(node.id, refusal),
        }
    }
    match best {
        Some((score, node_id)) => Ok(Placement { node_id, score, refusals }),
        None => Err(refusals),
    }
}

/// What bears on a request and is the same for every node of its region: found once, however many nodes are looked at.
struct Surroundings<'s> {
    reserves: Reserves<'s>,
    proportion: Proportion<'s>,
}

impl<'s> Surroundings<'s> {
    fn of(request: &PlacementRequest, snapshot: &'s FleetSnapshot) -> Self {
        Self { reserves: Reserves::of(request, snapshot), proportion: Proportion::of(request, snapshot) }
    }
}

/// What is to be said of one node: the only place where filters and score meet, so that the explanation cannot differ from
/// the choice.
fn verdict(
    request: &PlacementRequest,
    snapshot: &FleetSnapshot,
    around: &Surroundings<'_>,
    node: &NodeSnapshot,
) -> Verdict {
    match refusal::check(request, node) {
        Err(refusal) => Verdict::Refused(refusal),
        Ok(_) if around.reserves.forbid(request, node) => Verdict::Refused(Refusal::Reserve),
        Ok(pool) => Verdict::Scored(score::terms(request, snapshot, &around.proportion, (node, pool))),
    }
}
