//! Dear slots that cheap plans may not take.
//!
//! A request that asks for no GPU may lie on a node with GPUs as long as enough slots of the dear plan stay possible in the
//! region. Adding a node only adds slots, so it never turns a placed request into a refused one.

use super::PlacementRequest;
use super::refusal;
use super::snapshot::{FleetSnapshot, NodeSnapshot, SlotReserve};

/// The reserves that bind one request, with the slots that are possible now.
pub(super) struct Reserves<'s>(Vec<(&'s SlotReserve, u64)>);

impl<'s> Reserves<'s> {
    pub(super) fn of(request: &PlacementRequest, snapshot: &'s FleetSnapshot) -> Self {
        if request.gpus.is_some() {
            return Self(Vec::new());
        }
        let possible = |reserve: &SlotReserve| {
            let nodes = snapshot.nodes.iter().filter(|node| node.region == reserve.region && refusal::takes_new(node));
            nodes.map(|node| node.slots(&reserve.demand)).fold(0, u64::saturating_add)
        };
        let binding = snapshot.reserves.iter().filter(|reserve| reserve.region == request.region);
        Self(binding.map(|reserve| (reserve, possible(reserve))).collect())
    }

    /// Whether the request would take a slot on this node that is held.
    pub(super) fn forbid(&self, request: &PlacementRequest, node: &NodeSnapshot) -> bool {
        self.0.iter().any(|(reserve, possible)| {
            let now = node.slots(&reserve.demand);
            if now == 0 {
                return false;
            }
            let lost = now - node.with(request).slots(&reserve.demand).min(now);
            lost > 0 && possible.saturating_sub(lost) < reserve.slots
        })
    }
}
