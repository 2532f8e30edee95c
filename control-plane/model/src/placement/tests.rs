//! Placement never chooses a node without room, and explains each refusal.

use nemordp_types::Reason;
use proptest::prelude::*;

use super::*;

fn node(index: u128, vcpu: (u64, u64), memory: (u64, u64), disk: (u64, u64)) -> NodeSnapshot {
    let gib = |amount: u64| amount << 30;
    NodeSnapshot {
        id: format!("{:032x}", index + 1).parse().unwrap(),
        region: RegionName::new("fsn1").unwrap(),
        policy: NodePolicy::Active,
        availability: NodeAvailability::Available,
        vcpu: Room { capacity: vcpu.0, used: vcpu.1 },
        memory: Room { capacity: memory.0, used: memory.1 },
        pools: vec![PoolRoom {
            storage_class: StorageClass::new("nvme").unwrap(),
            room: Room { capacity: gib(disk.0), used: gib(disk.1) },
            physical_free: Bytes(gib(disk.0)),
        }],
        free_ports: 10,
        free_addresses: 10,
        templates: BTreeSet::from([TemplateDigest::from_bytes([7; 32])]),
        load: NodeLoad::default(),
    }
}

fn request(vcpu: u32, memory: u64, disk: u64) -> PlacementRequest {
    PlacementRequest {
        region: RegionName::new("fsn1").unwrap(),
        vcpu: Vcpu(vcpu),
        memory: MiB(memory),
        disk: GiB(disk),
        storage_class: StorageClass::new("nvme").unwrap(),
        template: TemplateDigest::from_bytes([7; 32]),
        template_size: Bytes(1 << 30),
        exclude: BTreeSet::new(),
    }
}

fn fleet(nodes: Vec<NodeSnapshot>) -> FleetSnapshot {
    FleetSnapshot { taken_at: Timestamp::UNIX_EPOCH, nodes }
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
    let cases: [(Refusal, Spoil); 11] = [
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
    ];
    assert_eq!(cases.len(), Refusal::ALL.len());
    for (expected, spoil) in cases {
        let (mut node, mut request) = (base(), request(2, 4_096, 50));
        spoil(&mut node, &mut request);
        let id = node.id;
        let refusals = place(&request, &fleet(vec![node])).unwrap_err();
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
