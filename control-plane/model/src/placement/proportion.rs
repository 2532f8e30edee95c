//! How far a node's room lies askew to the room of its region.
//!
//! Where orders are small beside a node they fill every hole, and what strands room is that one node has processors left
//! without memory and another memory without processors. So each node's room is kept in the proportion of the region's, as
//! Tetris' cosine does (Grandl et al., SIGCOMM'14), but without its wish for empty nodes. On the Azure trace of 2017 and nodes of
//! 96 vCPU and 256 GiB it turns away a twentieth of what is turned away without it (`nemordp simulate`, docs/benchmarks/placement.md).

use super::PlacementRequest;
use super::refusal;
use super::score::{MILLION, share};
use super::snapshot::{FleetSnapshot, NodeSnapshot, PlanShare};

/// What a share of a node that lies askew counts, beside a share that is useless.
const WEIGHT: u64 = 2;
/// The score of a node whose room lies as it lay; a larger one lies more askew.
pub(super) const UNCHANGED: u64 = WEIGHT * MILLION;
/// An order of the mean size takes less than this of a node whose room is kept in proportion, in millionths.
const SMALL: u64 = 25_000;
/// One part in so many of the demand must lie on either side of a node's own proportion; else one amount is always sold out
/// first, and nothing is gained by keeping the other beside it.
const EITHER_SIDE: u128 = 20;

/// The proportion of free processors and memory in a region, in millionths of what it has.
pub(super) struct Proportion<'s> {
    vcpu: u64,
    memory: u64,
    mix: &'s [PlanShare],
}

impl<'s> Proportion<'s> {
    pub(super) fn of(request: &PlacementRequest, snapshot: &'s FleetSnapshot) -> Self {
        let (mut free, mut capacity) = ([0u64; 2], [0u64; 2]);
        for node in snapshot.nodes.iter().filter(|node| node.region == request.region && refusal::takes_new(node)) {
            for (d, room) in [node.vcpu_room(), node.memory_room()].into_iter().enumerate() {
                free[d] = free[d].saturating_add(room.free());
                capacity[d] = capacity[d].saturating_add(room.capacity);
            }
        }
        Self { vcpu: share(free[0], capacity[0]), memory: share(free[1], capacity[1]), mix: &snapshot.mix }
    }

    /// By how much more the node's room would lie askew with the request, in millionths, with two million for no change.
    pub(super) fn gradient(&self, request: &PlacementRequest, node: &NodeSnapshot) -> u64 {
        if !is_kept(node, self.mix) {
            return UNCHANGED;
        }
        (UNCHANGED + WEIGHT * self.askew(&node.with(request))).saturating_sub(WEIGHT * self.askew(node))
    }

    /// How far the node's room, as shares of processors and memory, lies from the line of the region's.
    fn askew(&self, node: &NodeSnapshot) -> u64 {
        let part = |room: super::Room| u128::from(share(room.free(), room.capacity));
        let (vcpu, memory) = (part(node.vcpu_room()), part(node.memory_room()));
        let (towards_vcpu, towards_memory) = (u128::from(self.vcpu), u128::from(self.memory));
        let length = (towards_vcpu * towards_vcpu + towards_memory * towards_memory).isqrt();
        let across = (vcpu * towards_memory).abs_diff(memory * towards_vcpu);
        across.checked_div(length).map_or(0, |distance| u64::try_from(distance).unwrap_or(u64::MAX))
    }
}

/// Whether orders are small beside the node, and some of the demand wants more memory beside its processors than the node
/// has, some less. What is blocked first is the large, so size counts squared.
fn is_kept(node: &NodeSnapshot, mix: &[PlanShare]) -> bool {
    let (vcpus, memory) = (node.vcpu_room().capacity, node.memory_room().capacity);
    let (mut orders, mut taken, mut vcpu_heavy, mut memory_heavy) = (0u128, 0u128, 0u128, 0u128);
    for plan in mix {
        let of = [share(u64::from(plan.demand.vcpu.0), vcpus), share(plan.demand.memory.0, memory)];
        let size = u128::from(of[0].max(of[1]).min(MILLION));
        let count = u128::from(plan.orders);
        orders += count;
        taken += count * size;
        let demand = count * size.pow(3) / u128::from(MILLION);
        match of[0].cmp(&of[1]) {
            std::cmp::Ordering::Greater => vcpu_heavy += demand,
            std::cmp::Ordering::Less => memory_heavy += demand,
            std::cmp::Ordering::Equal => {}
        }
    }
    let is_small = taken < u128::from(SMALL) * orders;
    let (least, all) = (vcpu_heavy.min(memory_heavy), vcpu_heavy + memory_heavy);
    is_small && least > 0 && least * EITHER_SIDE >= all
}

#[cfg(test)]
mod tests {
    use nemordp_types::node::{NodeAvailability, NodePolicy};
    use nemordp_types::{GiB, ManualClock, MiB, NodeId, PlanName, RegionName, SeededEntropy, StorageClass, Vcpu};

    use super::super::{Demand, Room};
    use super::*;

    fn region() -> RegionName {
        "fsn1".parse().unwrap()
    }

    fn ids() -> [NodeId; 2] {
        let (clock, entropy) = (ManualClock::at_second(1), SeededEntropy::new(1));
        [NodeId::new(&clock, &entropy), NodeId::new(&clock, &entropy)]
    }

    fn demand(vcpu: u32, memory_gib: u64) -> Demand {
        Demand {
            vcpu: Vcpu(vcpu),
            memory: MiB(memory_gib * 1_024),
            disk: GiB(0),
            storage_class: StorageClass::new("nvme").unwrap(),
            gpus: None,
        }
    }

    fn node(id: NodeId, free_vcpu: u64, free_gib: u64) -> NodeSnapshot {
        let mut node = NodeSnapshot::new(id, region());
        (node.policy, node.availability) = (NodePolicy::Active, NodeAvailability::Available);
        node.vcpu = Room { capacity: 96, used: 96 - free_vcpu };
        node.memory = Room { capacity: 256 * 1_024, used: (256 - free_gib) * 1_024 };
        node
    }

    fn fleet(mix: &[(Demand, u64)]) -> FleetSnapshot {
        let ids = ids();
        let nodes = vec![node(ids[0], 40, 20), node(ids[1], 4, 150)];
        let mut snapshot = FleetSnapshot::new(jiff::Timestamp::UNIX_EPOCH, nodes);
        let share = |(number, (demand, orders)): (usize, &(Demand, u64))| PlanShare {
            plan: PlanName::new(format!("plan{number}")).unwrap(),
            demand: demand.clone(),
            orders: *orders,
        };
        snapshot.mix = mix.iter().enumerate().map(share).collect();
        snapshot
    }

    fn gradients(wanted: Demand, snapshot: &FleetSnapshot) -> [u64; 2] {
        let request = PlacementRequest::new(region(), wanted);
        let proportion = Proportion::of(&request, snapshot);
        [proportion.gradient(&request, &snapshot.nodes[0]), proportion.gradient(&request, &snapshot.nodes[1])]
    }

    #[test]
    fn an_order_goes_where_it_straightens_what_is_left() {
        let fleet = fleet(&[(demand(2, 2), 80), (demand(1, 8), 20)]);
        let [vcpu_left, memory_left] = gradients(demand(2, 2), &fleet);
        assert!(vcpu_left < UNCHANGED && memory_left > UNCHANGED, "{vcpu_left} {memory_left}");
        let [vcpu_left, memory_left] = gradients(demand(1, 8), &fleet);
        assert!(vcpu_left > UNCHANGED && memory_left < UNCHANGED, "{vcpu_left} {memory_left}");
    }

    #[test]
    fn nothing_changes_where_one_amount_is_always_sold_out_first_or_orders_are_large() {
        let one_sided = fleet(&[(demand(2, 2), 100)]);
        assert_eq!(gradients(demand(2, 2), &one_sided), [UNCHANGED; 2]);
        let large = fleet(&[(demand(16, 16), 50), (demand(4, 64), 50)]);
        assert_eq!(gradients(demand(2, 2), &large), [UNCHANGED; 2]);
        assert_eq!(gradients(demand(2, 2), &fleet(&[])), [UNCHANGED; 2]);
    }

    #[test]
    fn a_fleet_without_room_is_no_division_by_nothing() {
        let mut full = fleet(&[(demand(2, 2), 80), (demand(1, 8), 20)]);
        full.nodes = vec![node(ids()[0], 0, 0)];
        let request = PlacementRequest::new(region(), demand(2, 2));
        assert_eq!(Proportion::of(&request, &full).gradient(&request, &full.nodes[0]), UNCHANGED);
    }
}
