//! How bad a fit is: what would be left of each dimension, with a penalty for what makes the clone slow.
//!
//! Best fit by the sum of the normalised remainders (L1) keeps large holes for large plans. Integers in millionths, so
//! that two machines always agree.

use nemordp_types::Bytes;

use super::{NodeSnapshot, PlacementRequest, PoolRoom, Room};

const MILLION: u128 = 1_000_000;
/// The template must be fetched first: as bad as a tenth of the node left empty.
const TEMPLATE_ABSENT: u64 = 100_000;
/// Each clone under way slows the next one.
const CLONE: u64 = 20_000;

pub(super) fn score(request: &PlacementRequest, node: &NodeSnapshot, pool: &PoolRoom) -> u64 {
    let remainder = left(node.vcpu, u64::from(request.vcpu.0))
        + left(node.memory, request.memory.0)
        + left(pool.room, Bytes::from(request.disk).0);
    let absent = if node.templates.contains(&request.template) { 0 } else { TEMPLATE_ABSENT };
    remainder + absent + CLONE * u64::from(node.load.clones.min(100))
}

/// What is left of the capacity after the request, in millionths.
fn left(room: Room, wanted: u64) -> u64 {
    let remainder = u128::from(room.free().saturating_sub(wanted));
    let share = (remainder * MILLION).checked_div(u128::from(room.capacity)).unwrap_or(0);
    u64::try_from(share).unwrap_or(u64::MAX)
}
