//! Placement never chooses a node without room, and explains each refusal.

use std::collections::BTreeSet;

use jiff::Timestamp;
use nemordp_types::node::{NodeAvailability, NodePolicy};
use nemordp_types::{Bytes, GiB, GpuModel, MiB, Reason, RegionName, StorageClass, TemplateDigest, TenantId, Vcpu};
use proptest::prelude::*;

use super::*;
use crate::label::Label;

fn node(index: u128, vcpu: (u64, u64), memory: (u64, u64), disk: (u64, u64)) -> NodeSnapshot {
    let gib = |amount: u64| amount << 30;
    NodeSnapshot {
        vcpu: Room { capacity: vcpu.0, used: vcpu.1 },
        memory: Room { capacity: memory.0, used: memory.1 },
        pools: vec![PoolRoom {
            storage_class: nvme(),
            room: Room { capacity: gib(disk.0), used: gib(disk.1) },
            physical_free: Bytes(gib(disk.0)),
            clones: 0,
        }],
        free_ports: 10,
        free_addresses: 10,
        templates: BTreeSet::from([TemplateDigest::from_bytes([7; 32])]),
        ..NodeSnapshot::new(format!("{:032x}", index + 1).parse().unwrap(), fsn1())
    }
}

fn nvme() -> StorageClass {
    StorageClass::new("nvme").unwrap()
}

fn fsn1() -> RegionName {
    RegionName::new("fsn1").unwrap()
}

fn demand(vcpu: u32, memory: u64, disk: u64) -> Demand {
    Demand { vcpu: Vcpu(vcpu), memory: MiB(memory), disk: GiB(disk), storage_class: nvme(), gpus: None }
}

fn request(vcpu: u32, memory: u64, disk: u64) -> PlacementRequest {
    PlacementRequest {
        template: TemplateDigest::from_bytes([7; 32]),
        template_size: Bytes(1 << 30),
        ..PlacementRequest::new(fsn1(), demand(vcpu, memory, disk))
    }
}

fn l40s() -> GpuModel {
    GpuModel::new("l40s").unwrap()
}

fn gpus(capacity: u64, used: u64) -> GpuRoom {
    GpuRoom { model: l40s(), room: Room { capacity, used } }
}

fn gpu_demand(vcpu: u32) -> Demand {
    Demand { gpus: Some(GpuDemand { count: 1, model: None }), ..demand(vcpu, 16_384, 50) }
}

fn group() -> Label {
    Label::new("customer 1", "group").unwrap()
}

fn group_key() -> GroupKey {
    GroupKey { tenant: tenant(), name: group() }
}

fn tenant() -> TenantId {
    format!("{:032x}", 99).parse().unwrap()
}

fn fleet(nodes: Vec<NodeSnapshot>) -> FleetSnapshot {
    FleetSnapshot::new(Timestamp::UNIX_EPOCH, nodes)
}

#[test]
fn the_fuller_node_is_filled_first() {
    let snapshot =
        fleet(vec![node(0, (32, 0), (65_536, 0), (500, 0)), node(1, (32, 16), (65_536, 32_768), (500, 250))]);
    assert_eq!(place(&request(2, 4_096, 50), &snapshot).unwrap().node_id, snapshot.nodes[1].id);
}

#[test]
fn a_node_without_the_template_loses_to_one_with_it() {
    let mut snapshot = fleet(vec![node(0, (32, 1), (65_536, 0), (500, 0)), node(1, (32, 0), (65_536, 0), (500, 0))]);
    snapshot.nodes[0].templates.clear();
    assert_eq!(place(&request(2, 4_096, 50), &snapshot).unwrap().node_id, snapshot.nodes[1].id);
}

#[test]
fn each_refusal_is_found_and_kept() {
    let base = || node(0, (32, 0), (65_536, 0), (500, 0));
    type Spoil = fn(&mut NodeSnapshot, &mut PlacementRequest);
    let cases: [(Refusal, Spoil); 19] = [
        (Refusal::Region, |n, _| n.region = RegionName::new("hel1").unwrap()),
        (Refusal::Excluded, |n, r| {
            r.exclude.insert(n.id);
        }),
        (Refusal::Policy, |n, _| n.policy = NodePolicy::Draining),
        (Refusal::Availability, |n, _| n.availability = NodeAvailability::Suspect),
        (Refusal::StorageClassMissing, |n, _| n.pools.clear()),
        (Refusal::Vcpu, |n, _| n.vcpu.used = 31),
        (Refusal::Memory, |n, _| n.memory.used = 65_536),
        (Refusal::Disk, |n, _| n.pools[0].room.used = n.pools[0].room.capacity + 1),
        (Refusal::TemplateRoom, |n, _| {
            n.templates.clear();
            n.pools[0].physical_free = Bytes(1);
        }),
        (Refusal::Ports, |n, _| n.free_ports = 0),
        (Refusal::Addresses, |n, _| n.free_addresses = 0),
        (Refusal::Pinned, |n, _| n.pinned_to = Some(tenant())),
        (Refusal::Label, |_, r| {
            r.labels.insert(group());
        }),
        (Refusal::GpuModelMissing, |_, r| r.gpus = Some(GpuDemand { count: 1, model: None })),
        (Refusal::Gpu, |n, r| {
            n.gpus = vec![gpus(2, 1)];
            r.gpus = Some(GpuDemand { count: 2, model: Some(l40s()) });
        }),
        (Refusal::RoutedAddresses, |_, r| r.address = AddressKind::Routed),
        (Refusal::Affinity, |n, r| {
            n.groups.insert(group_key(), Members { count: 1, apart: true });
            (r.tenant, r.group) = (Some(tenant()), Some(group()));
        }),
        (Refusal::HeldBack, |n, _| n.held_back.maintenance.memory = MiB(62_000)),
        (Refusal::Reserve, |n, _| n.gpus = vec![gpus(1, 0)]),
    ];
    assert_eq!(cases.len(), Refusal::ALL.len());
    for (expected, spoil) in cases {
        let (mut node, mut request) = (base(), request(2, 4_096, 50));
        spoil(&mut node, &mut request);
        let id = node.id;
        let mut fleet = fleet(vec![node]);
        fleet.reserves = vec![SlotReserve { region: fsn1(), demand: gpu_demand(31), slots: 1 }];
        let refusals = place(&request, &fleet).unwrap_err();
        assert_eq!(refusals.iter().collect::<Vec<_>>(), [(id, expected)]);
    }
}

#[test]
fn the_public_message_counts_the_reasons_and_names_no_node() {
    let mut full = node(0, (32, 32), (65_536, 0), (500, 0));
    let mut cordoned = node(1, (32, 0), (65_536, 0), (500, 0));
    cordoned.policy = NodePolicy::Cordoned;
    let refusals = place(&request(2, 4_096, 50), &fleet(vec![full.clone(), cordoned])).unwrap_err();
    let failure = refusals.into_failure();
    assert_eq!(failure.reason, Reason::CapacityExhausted);
    assert!(failure.message.contains("policy 1, vcpu 1"), "{}", failure.message);
    assert!(!failure.message.contains(&full.id.to_string()));
    assert!(failure.context.unwrap().contains(&full.id.to_string()));

    full.vcpu.used = 0;
    full.free_ports = 0;
    let failure = place(&request(2, 4_096, 50), &fleet(vec![full])).unwrap_err().into_failure();
    assert_eq!(failure.reason, Reason::PortPoolExhausted);
}

fn any_node(index: u128) -> impl Strategy<Value = NodeSnapshot> {
    (0u64..64, 0u64..70, 0u64..131_072, 0u64..140_000, 0u64..1_000, 0u64..1_100, 0u32..2, 0u32..2).prop_map(
        move |(vc, vu, mc, mu, dc, du, ports, addresses)| {
            let mut node = node(index, (vc, vu), (mc, mu), (dc, du));
            node.free_ports = ports;
            node.free_addresses = addresses;
            node
        },
    )
}

proptest! {
    #[test]
    fn a_node_without_room_is_never_chosen_and_a_fitting_one_never_missed(
        nodes in (any_node(0), any_node(1), any_node(2), any_node(3)),
        vcpu in 1u32..32, memory in 1u64..65_536, disk in 1u64..500,
    ) {
        let snapshot = fleet(vec![nodes.0, nodes.1, nodes.2, nodes.3]);
        let fits = |n: &NodeSnapshot| {
            n.vcpu.used + u64::from(vcpu) <= n.vcpu.capacity
                && n.memory.used + memory <= n.memory.capacity
                && n.pools[0].room.used + (disk << 30) <= n.pools[0].room.capacity
                && n.free_ports > 0
                && n.free_addresses > 0
        };
        match place(&request(vcpu, memory, disk), &snapshot) {
            Ok(placement) => {
                prop_assert!(fits(snapshot.nodes.iter().find(|n| n.id == placement.node_id).unwrap()));
            }
            Err(refusals) => {
                prop_assert!(!snapshot.nodes.iter().any(fits));
                prop_assert_eq!(refusals.iter().count(), snapshot.nodes.len());
            }
        }
    }

    #[test]
    fn the_same_snapshot_gives_the_same_choice_in_any_order(
        nodes in (any_node(0), any_node(1), any_node(2)), vcpu in 1u32..16, memory in 1u64..32_768,
    ) {
        let forward = fleet(vec![nodes.0, nodes.1, nodes.2]);
        let mut backward = forward.clone();
        backward.nodes.reverse();
        let request = request(vcpu, memory, 20);
        let choice = |snapshot| place(&request, snapshot).map(|p| (p.node_id, p.score)).map_err(|r| r.counts());
        prop_assert_eq!(choice(&forward), choice(&backward));
    }
}

/// Nodes of every kind: with and without GPUs, labels, groups, another tenant's; and requests that care.
fn any_rich_node(index: u128) -> impl Strategy<Value = NodeSnapshot> {
    (any_node(index), 0u64..4, 0u64..4, any::<bool>(), 0u32..3, 0i64..200_000, 0u32..3).prop_map(
        |(mut node, gpu_capacity, gpu_used, pinned, members, busy, clones)| {
            node.gpus = vec![gpus(gpu_capacity, gpu_used)];
            node.pinned_to = pinned.then(tenant);
            if members > 0 {
                node.groups.insert(group_key(), Members { count: members, apart: members == 1 && pinned });
            }
            node.busy_until = (busy > 0).then(|| Timestamp::from_second(busy).unwrap());
            node.load.clones = clones;
            node.held_back.maintenance.vcpu = Vcpu(clones);
            node
        },
    )
}

fn any_request() -> impl Strategy<Value = PlacementRequest> {
    let affinity = prop::sample::select(Affinity::ALL);
    (1u32..24, 1u64..65_536, 1u64..300, 0u32..3, any::<bool>(), affinity, 0i64..400_000).prop_map(
        |(vcpu, memory, disk, gpu, owner, affinity, ends_at)| PlacementRequest {
            gpus: (gpu > 0).then_some(GpuDemand { count: gpu, model: None }),
            tenant: owner.then(tenant),
            group: Some(group()),
            affinity,
            ends_at: Some(Timestamp::from_second(ends_at).unwrap()),
            ..request(vcpu, memory, disk)
        },
    )
}

fn any_fleet(size: usize) -> impl Strategy<Value = FleetSnapshot> {
    let nodes: Vec<_> = (0..u128::try_from(size).unwrap()).map(any_rich_node).collect();
    (nodes, 0u64..6, 0u64..50).prop_map(|(nodes, held, orders)| {
        let share = |name: &str, demand, orders| PlanShare { plan: name.parse().unwrap(), demand, orders };
        let mut snapshot = fleet(nodes);
        snapshot.mix = vec![share("basic", demand(2, 4_096, 50), orders), share("gpu", gpu_demand(8), 3)];
        snapshot.reserves = vec![SlotReserve { region: fsn1(), demand: gpu_demand(8), slots: held }];
        snapshot
    })
}

proptest! {
    #[test]
    fn the_explanation_recomputes_to_the_same_choice(request in any_request(), snapshot in any_fleet(5)) {
        let explained = explain(&request, &snapshot);
        match place(&request, &snapshot) {
            Ok(placement) => {
                prop_assert_eq!(explained.choice, Some(placement.node_id));
                prop_assert_eq!(explained.best().next().unwrap().1.total(), placement.score);
                prop_assert_eq!(explained.counts(), placement.refusals.counts());
            }
            Err(refusals) => {
                prop_assert_eq!(explained.choice, None);
                prop_assert_eq!(explained.counts(), refusals.counts());
            }
        }
        prop_assert_eq!(explained.nodes.len(), snapshot.nodes.len());
        let mut backward = snapshot.clone();
        backward.nodes.reverse();
        prop_assert_eq!(explain(&request, &backward), explained);
    }

    #[test]
    fn a_node_more_never_refuses_what_was_placed(
        request in any_request(), snapshot in any_fleet(4), more in any_rich_node(77),
    ) {
        let what_if = what_if(&request, &snapshot, &[Change::AddNode(Box::new(more))]);
        prop_assert!(what_if.now.choice.is_none() || what_if.then.choice.is_some());
    }

    #[test]
    fn as_many_fit_as_can_be_placed_in_a_row(request in any_request(), snapshot in any_fleet(4)) {
        let mut fleet = snapshot.clone();
        let mut placed = 0;
        while let Ok(placement) = place(&request, &fleet) {
            let node = fleet.nodes.iter_mut().find(|node| node.id == placement.node_id).unwrap();
            node.reserve(&request);
            prop_assert!(node.vcpu.used <= node.vcpu.capacity && node.memory.used <= node.memory.capacity);
            prop_assert!(node.gpus.iter().all(|gpus| request.gpus.is_none() || gpus.room.used <= gpus.room.capacity));
            placed += 1;
        }
        prop_assert_eq!(how_many_fit(&request, &snapshot), placed);
    }

    #[test]
    fn a_demand_that_some_node_holds_is_never_called_impossible(request in any_request(), snapshot in any_fleet(3)) {
        let fits = snapshot.nodes.iter().any(|node| node.slots(&request.demand()) > 0);
        let verdict = could_ever_hold(&request.demand(), &BTreeSet::new(), &snapshot);
        prop_assert!(!fits || verdict.is_ok());
        if let Err(failure) = verdict {
            prop_assert!(failure.field.is_some());
        }
    }
}

#[test]
fn a_plan_beyond_every_machine_names_the_field() {
    let mut snapshot =
        fleet(vec![node(0, (32, 32), (65_536, 65_536), (500, 500)), node(1, (64, 0), (16_384, 0), (500, 0))]);
    let none = BTreeSet::new();
    assert!(could_ever_hold(&demand(32, 65_536, 500), &none, &snapshot).is_ok());
    for (impossible, field) in [
        (demand(65, 1, 1), "vcpu"),
        (demand(1, 65_537, 1), "memory_mib"),
        (demand(1, 1, 501), "disk_gib"),
        (demand(64, 65_536, 1), "vcpu"),
        (gpu_demand(1), "gpus"),
        (Demand { storage_class: StorageClass::new("hdd").unwrap(), ..demand(1, 1, 1) }, "storage_class"),
    ] {
        assert_eq!(could_ever_hold(&impossible, &none, &snapshot).unwrap_err().field.as_deref(), Some(field));
    }
    let wanted = BTreeSet::from([group()]);
    let labelled = |snapshot: &FleetSnapshot| could_ever_hold(&demand(64, 1, 1), &wanted, snapshot);
    assert_eq!(labelled(&snapshot).unwrap_err().field.as_deref(), Some("labels"));
    // The labelled node is the smaller one: its amounts are what counts.
    snapshot.nodes[0].labels = wanted.clone();
    assert_eq!(labelled(&snapshot).unwrap_err().field.as_deref(), Some("vcpu"));
    snapshot.nodes[1].labels = wanted.clone();
    assert!(labelled(&snapshot).is_ok());
    snapshot.nodes.clear();
    assert!(could_ever_hold(&demand(4_000, 1, 1), &wanted, &snapshot).is_ok());
}

#[test]
fn a_reserve_keeps_cheap_plans_off_the_last_gpu_slot_only() {
    let mut with_gpu = node(0, (16, 0), (65_536, 0), (500, 0));
    with_gpu.gpus = vec![gpus(2, 0)];
    let mut snapshot = fleet(vec![with_gpu]);
    snapshot.reserves = vec![SlotReserve { region: fsn1(), demand: gpu_demand(8), slots: 1 }];
    // Two slots of eight processors: the first eight may go to anyone, the rest is held.
    assert_eq!(how_many_fit(&request(2, 4_096, 10), &snapshot), 4);
    assert_eq!(how_many_fit_up_to(3, &request(2, 4_096, 10), &snapshot), 3);
    let mut gpu = request(8, 16_384, 50);
    gpu.gpus = Some(GpuDemand { count: 1, model: Some(l40s()) });
    assert_eq!(how_many_fit(&gpu, &snapshot), 2);
}

#[test]
fn the_digest_follows_every_fact_and_no_order() {
    let snapshot = fleet(vec![node(0, (32, 1), (65_536, 0), (500, 0)), node(1, (32, 0), (65_536, 0), (500, 0))]);
    let mut other = snapshot.clone();
    other.nodes.reverse();
    assert_eq!(snapshot.digest(), other.digest());
    other.nodes[0].load.cpu_pressure = 0.5;
    assert_ne!(snapshot.digest(), other.digest());
    assert_eq!(snapshot.digest().to_string().len(), 64);
}

#[test]
fn an_order_goes_where_it_does_not_keep_a_node_alive() {
    let at = |seconds| Some(Timestamp::from_second(seconds).unwrap());
    let mut nodes = [node(0, (32, 8), (65_536, 0), (500, 0)), node(1, (32, 8), (65_536, 0), (500, 0))];
    (nodes[0].busy_until, nodes[1].busy_until) = (at(3_600), at(360_000));
    let mut request = request(2, 4_096, 50);
    request.ends_at = at(300_000);
    let long = nodes[1].id;
    assert_eq!(place(&request, &fleet(nodes.to_vec())).unwrap().node_id, long);
    // A node with GPUs is not emptied as a whole.
    nodes.iter_mut().for_each(|node| node.gpus = vec![gpus(4, 0)]);
    let explained = explain(&request, &fleet(nodes.to_vec()));
    let best: Vec<_> = explained.best().collect();
    assert!(best.len() == 2 && best.iter().all(|(_, terms)| terms.lifetime == 0), "{best:?}");
}

#[test]
fn equal_names_of_two_tenants_are_two_groups() {
    let mut there = node(0, (32, 0), (65_536, 0), (500, 0));
    there.groups.insert(group_key(), Members { count: 1, apart: true });
    let (snapshot, mut request) = (fleet(vec![there]), request(2, 4_096, 50));
    (request.group, request.affinity) = (Some(group()), Affinity::Apart);
    request.tenant = Some(tenant());
    assert!(place(&request, &snapshot).is_err());
    request.tenant = Some(format!("{:032x}", 98).parse().unwrap());
    assert!(place(&request, &snapshot).is_ok());
    assert_ne!(snapshot.digest(), fleet(vec![node(0, (32, 0), (65_536, 0), (500, 0))]).digest());
}

#[test]
fn stolen_time_and_slow_storage_count_against_a_node() {
    for strain in [Strain { steal: 3.0, disk_latency_ms: 0.0 }, Strain { steal: 0.0, disk_latency_ms: 3.0 }] {
        let (mut worse, better) = (node(0, (32, 8), (65_536, 0), (500, 0)), node(1, (32, 8), (65_536, 0), (500, 0)));
        assert_eq!(
            place(&request(2, 4_096, 50), &fleet(vec![worse.clone(), better.clone()])).unwrap().node_id,
            worse.id
        );
        worse.strain = strain;
        let chosen = place(&request(2, 4_096, 50), &fleet(vec![worse, better.clone()])).unwrap().node_id;
        assert_eq!(chosen, better.id, "{strain:?}");
    }
}
