//! Room for a blocked order by a few moves: a proposal, carried out by nobody here.
//!
//! For every node the instances whose leaving would suffice, the fewest first; each of them goes where it would be placed
//! if it were ordered now. What is proposed was tried on a copy of the snapshot, in the order in which it has to happen,
//! so it is possible as long as the fleet has not changed.

use std::collections::BTreeMap;

use nemordp_types::{InstanceId, NodeId};
use serde::{Deserialize, Serialize};

use super::{Demand, FleetSnapshot, NodeSnapshot, PlacementRequest, Surroundings, Verdict, place, verdict};

/// Moves of one proposal at most: each is minutes of copying that a customer may notice.
pub const MOVES_MAX: usize = 4;
/// Sets of instances that are tried in all: the bound on the time of one question.
const TRIES_MAX: usize = 2_000;
/// Sets that are tried on one node.
const TRIES_ON_NODE: usize = 200;

/// An instance that could be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lodger {
    /// Which.
    pub instance_id: InstanceId,
    /// Where it lies.
    pub node_id: NodeId,
    /// What it was ordered as.
    pub request: PlacementRequest,
}

/// One move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Which instance.
    pub instance_id: InstanceId,
    /// From where.
    pub from: NodeId,
    /// To where.
    pub to: NodeId,
}

/// What would make room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovePlan {
    /// The moves, in their order.
    pub moves: Vec<Move>,
    /// The node that takes the request then.
    pub node_id: NodeId,
}

/// The fewest moves that make room for a request that no node takes; of as many the ones that leave the best fit. Nothing
/// when a node takes it as it is, when `moves_max` (at most [`MOVES_MAX`]) do not suffice, or when more than a bounded
/// number of sets would have to be tried.
#[must_use]
pub fn make_room(
    request: &PlacementRequest,
    snapshot: &FleetSnapshot,
    lodgers: &[Lodger],
    moves_max: usize,
) -> Option<MovePlan> {
    if place(request, snapshot).is_ok() {
        return None;
    }
    let mut nodes: Vec<&NodeSnapshot> = snapshot.nodes.iter().filter(|node| node.region == request.region).collect();
    nodes.sort_by_key(|node| node.id);
    let mut on_node: BTreeMap<NodeId, Vec<&Lodger>> = BTreeMap::new();
    for lodger in lodgers {
        on_node.entry(lodger.node_id).or_default().push(lodger);
    }
    let mut tries = TRIES_MAX;
    for size in 1..=moves_max.min(MOVES_MAX) {
        let mut best: Option<(u64, MovePlan)> = None;
        for node in &nodes {
            let Some(lodgers) = on_node.get(&node.id).filter(|_| could_take(request, node, &on_node)) else { continue };
            for chosen in sets(request, node, lodgers, size) {
                if tries == 0 {
                    break;
                }
                tries -= 1;
                let found = try_moves(request, snapshot, node.id, &chosen);
                best = match (best, found) {
                    (Some(best), Some(found)) => Some(if found.0 < best.0 { found } else { best }),
                    (best, found) => best.or(found),
                };
            }
        }
        if let Some((_, plan)) = best {
            return Some(plan);
        }
    }
    None
}

/// Whether the node would take the request if all that can be moved had left.
fn could_take(request: &PlacementRequest, node: &NodeSnapshot, on_node: &BTreeMap<NodeId, Vec<&Lodger>>) -> bool {
    let mut emptied = node.clone();
    for lodger in on_node.get(&node.id).into_iter().flatten() {
        emptied.release(&lodger.request);
    }
    super::refusal::check(request, &emptied).is_ok()
}

/// Moves the chosen instances, the largest first because it has the fewest places, then places the request on the node.
fn try_moves(
    request: &PlacementRequest,
    snapshot: &FleetSnapshot,
    node_id: NodeId,
    chosen: &[&Lodger],
) -> Option<(u64, MovePlan)> {
    let mut fleet = snapshot.clone();
    let mut chosen: Vec<&Lodger> = chosen.to_vec();
    chosen.sort_by_key(|lodger| {
        let demand = lodger.request.demand();
        (std::cmp::Reverse((demand.memory, demand.vcpu, demand.disk)), lodger.instance_id)
    });
    let (mut moves, mut cost) = (Vec::with_capacity(chosen.len()), 0u64);
    for lodger in chosen {
        // The instance lies on its old node until it has arrived on the new one.
        let mut elsewhere = lodger.request.clone();
        elsewhere.exclude.insert(node_id);
        let target = place(&elsewhere, &fleet).ok()?;
        cost = cost.saturating_add(target.score);
        find(&mut fleet, target.node_id)?.reserve(&lodger.request);
        find(&mut fleet, node_id)?.release(&lodger.request);
        moves.push(Move { instance_id: lodger.instance_id, from: node_id, to: target.node_id });
    }
    let around = Surroundings::of(request, &fleet);
    let node = fleet.nodes.iter().find(|node| node.id == node_id)?;
    match verdict(request, &fleet, &around, node) {
        Verdict::Scored(terms) => Some((cost.saturating_add(terms.total()), MovePlan { moves, node_id })),
        Verdict::Refused(_) => None,
    }
}

fn find(fleet: &mut FleetSnapshot, id: NodeId) -> Option<&mut NodeSnapshot> {
    fleet.nodes.iter_mut().find(|node| node.id == id)
}

/// What makes instances equal for the request that wants their place: their amounts, and whether they keep it off their
/// node by being there.
#[derive(PartialEq, Eq)]
struct Alike {
    demand: Demand,
    same_group: bool,
}

impl Alike {
    fn of(lodger: &PlacementRequest, request: &PlacementRequest) -> Self {
        let group = request.group_key();
        Self { demand: lodger.demand(), same_group: group.is_some() && lodger.group_key() == group }
    }
}

/// Every choice of so many instances, by amounts, whose leaving could suffice: of equal ones the oldest go first.
fn sets<'l>(
    request: &PlacementRequest,
    node: &NodeSnapshot,
    lodgers: &[&'l Lodger],
    size: usize,
) -> Vec<Vec<&'l Lodger>> {
    let mut groups: Vec<(Alike, Vec<&'l Lodger>)> = Vec::new();
    let mut sorted = lodgers.to_vec();
    sorted.sort_by_key(|lodger| lodger.instance_id);
    for lodger in sorted {
        let alike = Alike::of(&lodger.request, request);
        match groups.iter_mut().find(|(other, _)| *other == alike) {
            Some((_, members)) if members.len() < size => members.push(lodger),
            Some(_) => {}
            None => groups.push((alike, vec![lodger])),
        }
    }
    let mut all = Vec::new();
    choose(&groups, size, &mut Vec::new(), &mut |chosen| {
        let mut after = node.clone();
        chosen.iter().for_each(|lodger| after.release(&lodger.request));
        if super::refusal::check(request, &after).is_ok() {
            all.push(chosen.to_vec());
        }
        all.len() < TRIES_ON_NODE
    });
    all
}

/// Calls for each multiset of groups; ends early when told to.
fn choose<'l>(
    groups: &[(Alike, Vec<&'l Lodger>)],
    size: usize,
    chosen: &mut Vec<&'l Lodger>,
    take: &mut impl FnMut(&[&'l Lodger]) -> bool,
) -> bool {
    let Some(((_, members), rest)) = groups.split_first() else { return size > 0 || take(chosen) };
    for count in 0..=members.len().min(size) {
        chosen.extend_from_slice(&members[..count]);
        let goes_on = if count == size { take(chosen) } else { choose(rest, size - count, chosen, take) };
        chosen.truncate(chosen.len() - count);
        if !goes_on {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use nemordp_types::{Bytes, GiB, MiB, RegionName, StorageClass, Vcpu};
    use proptest::prelude::*;

    use super::super::{Affinity, PoolRoom, Room, Siting};
    use super::*;

    fn request(vcpu: u32, memory: u64, disk: u64) -> PlacementRequest {
        let storage_class = StorageClass::new("nvme").unwrap();
        let demand = Demand { vcpu: Vcpu(vcpu), memory: MiB(memory), disk: GiB(disk), storage_class, gpus: None };
        PlacementRequest::new(RegionName::new("fsn1").unwrap(), demand)
    }

    fn node(index: usize, vcpu: u64, memory: u64, disk: u64) -> NodeSnapshot {
        let room = |capacity| Room { capacity, used: 0 };
        NodeSnapshot {
            vcpu: room(vcpu),
            memory: room(memory),
            pools: vec![PoolRoom {
                storage_class: StorageClass::new("nvme").unwrap(),
                room: room(disk << 30),
                physical_free: Bytes(disk << 30),
                clones: 0,
            }],
            free_ports: 100,
            free_addresses: 100,
            ..NodeSnapshot::new(format!("{:032x}", index + 1).parse().unwrap(), RegionName::new("fsn1").unwrap())
        }
    }

    /// A fleet with instances on it, each where it is said to lie if it has room there.
    fn inhabited(mut nodes: Vec<NodeSnapshot>, lying: &[(usize, PlacementRequest)]) -> (FleetSnapshot, Vec<Lodger>) {
        let mut lodgers = Vec::new();
        for (number, (index, request)) in lying.iter().enumerate() {
            let node = &mut nodes[*index];
            if super::super::refusal::check(request, node).is_ok() {
                node.reserve(request);
                let instance_id = format!("{:032x}", number + 1).parse().unwrap();
                lodgers.push(Lodger { instance_id, node_id: node.id, request: request.clone() });
            }
        }
        (FleetSnapshot::new(Timestamp::UNIX_EPOCH, nodes), lodgers)
    }

    /// Carries the plan out, move by move, and says what it cannot.
    fn carry_out(
        plan: &MovePlan,
        request: &PlacementRequest,
        fleet: &FleetSnapshot,
        lodgers: &[Lodger],
    ) -> Result<(), String> {
        let (mut fleet, mut lodgers) = (fleet.clone(), lodgers.to_vec());
        for step in &plan.moves {
            let lodger = lodgers.iter_mut().find(|lodger| lodger.instance_id == step.instance_id).ok_or("nobody")?;
            if lodger.node_id != step.from || step.from == step.to {
                return Err(format!("{step:?} moves what lies on {}", lodger.node_id));
            }
            let target = find(&mut fleet, step.to).ok_or("no such node")?;
            super::super::refusal::check(&lodger.request, target).map_err(|refusal| format!("{step:?}: {refusal}"))?;
            target.reserve(&lodger.request);
            find(&mut fleet, step.from).ok_or("no such node")?.release(&lodger.request);
            lodger.node_id = step.to;
        }
        let node = find(&mut fleet, plan.node_id).ok_or("no such node")?;
        super::super::refusal::check(request, node).map(drop).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn one_move_joins_two_halves() {
        let nodes = vec![node(0, 8, 16_384, 100), node(1, 8, 16_384, 100)];
        let (fleet, lodgers) = inhabited(nodes, &[(0, request(4, 8_192, 50)), (1, request(4, 8_192, 50))]);
        let wanted = request(8, 16_384, 100);
        let plan = make_room(&wanted, &fleet, &lodgers, 3).unwrap();
        assert_eq!(plan.moves.len(), 1);
        assert_eq!(carry_out(&plan, &wanted, &fleet, &lodgers), Ok(()));
        assert_eq!(make_room(&wanted, &fleet, &lodgers, 0), None, "no move is allowed");
        assert_eq!(make_room(&request(4, 8_192, 50), &fleet, &lodgers, 3), None, "it has room as it is");
        assert_eq!(make_room(&request(9, 1, 1), &fleet, &lodgers, 3), None, "no node is large enough");
    }

    #[test]
    fn what_lies_on_a_cordoned_node_makes_no_room_there() {
        let nodes = vec![node(0, 8, 16_384, 100), node(1, 8, 16_384, 100)];
        let (mut fleet, lodgers) = inhabited(nodes, &[(0, request(4, 8_192, 50)), (1, request(4, 8_192, 50))]);
        fleet.nodes[0].policy = nemordp_types::node::NodePolicy::Cordoned;
        assert_eq!(make_room(&request(8, 16_384, 100), &fleet, &lodgers, 3), None);
    }

    #[test]
    fn the_one_of_its_group_moves_and_not_an_equal_one() {
        let tenant = format!("{:032x}", 9).parse().unwrap();
        let web = |request: PlacementRequest| {
            let group = Some(crate::label::Label::new("web", "group").unwrap());
            let siting = Siting { group, affinity: Affinity::Apart, ..Siting::default() };
            request.sited(tenant, &siting)
        };
        let nodes = vec![node(0, 16, 32_768, 200), node(1, 2, 4_096, 25)];
        let lying = [(0, request(2, 4_096, 25)), (0, web(request(2, 4_096, 25)))];
        let (fleet, lodgers) = inhabited(nodes, &lying);
        let wanted = web(request(8, 16_384, 100));
        let plan = make_room(&wanted, &fleet, &lodgers, 3).unwrap();
        assert_eq!(plan.moves.iter().map(|step| step.instance_id).collect::<Vec<_>>(), [lodgers[1].instance_id]);
        assert_eq!(carry_out(&plan, &wanted, &fleet, &lodgers), Ok(()));
    }

    fn any_lying() -> impl Strategy<Value = Vec<(usize, PlacementRequest)>> {
        let one = (0usize..4, prop::sample::select(vec![1u32, 2, 4]), 1u64..3);
        prop::collection::vec(one, 0..20).prop_map(|all| {
            all.into_iter()
                .map(|(index, vcpu, gib)| (index, request(vcpu, u64::from(vcpu) * gib * 1_024, 10)))
                .collect()
        })
    }

    proptest! {
        #[test]
        fn every_proposal_can_be_carried_out(lying in any_lying(), vcpu in 2u32..9, gib in 1u64..20, most in 1usize..4) {
            let nodes = (0..4).map(|index| node(index, 8, 16_384, 100)).collect();
            let (fleet, lodgers) = inhabited(nodes, &lying);
            let wanted = request(vcpu, gib * 1_024, 20);
            let plan = make_room(&wanted, &fleet, &lodgers, most);
            if let Some(plan) = &plan {
                prop_assert!(place(&wanted, &fleet).is_err() && plan.moves.len() <= most && !plan.moves.is_empty());
                prop_assert_eq!(carry_out(plan, &wanted, &fleet, &lodgers), Ok(()));
            }
            // Whatever a single move could do is found.
            let single = lodgers.iter().any(|lodger| fleet.nodes.iter().any(|to| {
                let step = Move { instance_id: lodger.instance_id, from: lodger.node_id, to: to.id };
                let plan = MovePlan { moves: vec![step], node_id: lodger.node_id };
                carry_out(&plan, &wanted, &fleet, &lodgers).is_ok()
            }));
            prop_assert!(plan.is_some() || !single || place(&wanted, &fleet).is_ok());
        }
    }
}
