//! What of a node's room is of no use: the fragmentation gradient of Weng et al., "Beware of Fragmentation" (ATC'23), for any
//! amounts and the expected mix of plans.

use super::score::{MILLION, share};
use super::snapshot::{FleetSnapshot, NodeSnapshot};
use super::{Demand, PlacementRequest};

/// By how much the request makes the node's room less useful, in millionths, with two million for no change:
/// the room that no whole number of a plan's orders fills, averaged over the expected mix.
pub(super) fn gradient(request: &PlacementRequest, snapshot: &FleetSnapshot, node: &NodeSnapshot) -> u64 {
    if snapshot.mix.is_empty() {
        return 2 * MILLION;
    }
    let after = node.with(request);
    let orders: u64 = snapshot.mix.iter().map(|share| share.orders).sum();
    let (mut before_sum, mut after_sum) = (0u128, 0u128);
    for plan in &snapshot.mix {
        before_sum += u128::from(plan.orders) * u128::from(useless(node, &plan.demand));
        after_sum += u128::from(plan.orders) * u128::from(useless(&after, &plan.demand));
    }
    let mean = |sum: u128| u64::try_from(sum.checked_div(u128::from(orders)).unwrap_or(0)).unwrap_or(2 * MILLION);
    (2 * MILLION + mean(after_sum)).saturating_sub(mean(before_sum))
}

/// The part of the free processors and memory that orders of this plan could not fill, in millionths of each, added up.
fn useless(node: &NodeSnapshot, plan: &Demand) -> u64 {
    let slots = node.slots(plan);
    let rest = |free: u64, each: u64| free.saturating_sub(slots.saturating_mul(each));
    let (vcpu, memory) = (node.vcpu_room(), node.memory_room());
    share(rest(vcpu.free(), u64::from(plan.vcpu.0)), vcpu.capacity)
        + share(rest(memory.free(), plan.memory.0), memory.capacity)
}
