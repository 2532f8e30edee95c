use nemordp_model::Strain;
use nemordp_store::{NodeHeartbeat, Signs, TenantScope};
use nemordp_types::instance::{InstanceStatus, ObservedPower};
use nemordp_types::node::{NodeAvailability, NodeInventory, NodeLoad, NodePolicy};
use nemordp_types::{Bytes, Fence, Generation, InstanceId, NodeAddress, Pair};

use crate::support::{World, inventory, on_both_stores, shape};

on_both_stores! {
    a_heartbeat_heals_all_but_a_fenced_node
    a_node_that_has_seen_more_than_the_store_is_reported
    a_node_that_shrinks_is_cordoned_and_told_once
    what_changed_on_a_node_is_told_and_a_heartbeat_alone_is_not
    an_instance_that_is_lost_and_found_is_told_once_each
}

pub(crate) fn status(id: InstanceId, order: nemordp_types::OrderId, pair: Pair) -> InstanceStatus {
    InstanceStatus {
        instance_id: id,
        order_id: order,
        pair,
        power: ObservedPower::Running,
        guest_agent: true,
        confirmed_ipv4: None,
        rdp_certificate_sha256: None,
        started_at: None,
        vcpu: shape().vcpu,
        memory: shape().memory,
        disk: Bytes::from(shape().disk),
        gpus: Some(0),
    }
}

async fn a_heartbeat_heals_all_but_a_fenced_node(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let (up, lost) = (NodeAvailability::Available, NodeAvailability::Lost);
    assert!(world.store.node_set_availability(node, up, lost).await.unwrap());
    assert!(!world.store.node_set_availability(node, up, lost).await.unwrap(), "it is not what was seen any more");
    assert_eq!(world.beat(node, inventory(1, 4, 10)).await.availability, up);
    world.store.node_set_availability(node, up, NodeAvailability::Fenced).await.unwrap();
    assert_eq!(world.beat(node, inventory(1, 4, 10)).await.availability, NodeAvailability::Fenced);
    assert_eq!(world.count_events("node.availability_changed").await, 4);
    assert_eq!(world.store.node_fetch(node).await.unwrap().last_heartbeat_at, Some(world.now()));
}

async fn a_node_that_has_seen_more_than_the_store_is_reported(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let (seen, ahead) = (world.accept(node).await.unwrap(), world.accept(node).await.unwrap());
    let (c, e) = world.ids();
    let stray = InstanceId::new(c, e);
    let newer = Pair { generation: Generation(2), fence: Fence(0) };
    let beat = NodeHeartbeat {
        agent_address: NodeAddress("127.0.0.2:7443".parse().unwrap()),
        inventory: inventory(1, 4, 10),
        load: NodeLoad { clones: 1, steal: Some(2.5), disk_latency_ms: Some(7.0), ..NodeLoad::default() },
        instances: vec![
            status(seen.instance.id, seen.order.id, seen.instance.pair()),
            status(ahead.instance.id, ahead.order.id, newer),
            status(stray, seen.order.id, newer),
        ],
        signs: Signs::default(),
    };
    let outcome = world.store.node_heartbeat(node, &beat).await.unwrap();
    assert_eq!((outcome.behind, outcome.unknown), (vec![ahead.instance.id], vec![stray]));
    let instance = world.store.instance_fetch(TenantScope::All, seen.instance.id).await.unwrap();
    assert_eq!((instance.observed, instance.observed_at), (Some(beat.instances[0].clone()), Some(world.now())));
    let node = world.store.node_fetch(node).await.unwrap();
    assert_eq!((node.agent_address, node.load), (beat.agent_address, Some(beat.load)));
    let strain = world.store.fleet_snapshot(None).await.unwrap().nodes[0].strain;
    assert_eq!(strain, Strain { steal: 2.5, disk_latency_ms: 7.0 });
    // An agent that says nothing of it strains nobody.
    world.beat(node.id, inventory(1, 4, 10)).await;
    assert_eq!(world.store.fleet_snapshot(None).await.unwrap().nodes[0].strain, Strain::default());
}

async fn a_node_that_shrinks_is_cordoned_and_told_once(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let accepted = world.accept(node).await.unwrap();
    let outcome = world.beat(node, inventory(1, 0, 10)).await;
    assert_eq!((outcome.oversold, outcome.policy), (true, NodePolicy::Cordoned));
    assert!(world.beat(node, inventory(1, 0, 10)).await.oversold);
    assert_eq!((world.count_events("node.oversold").await, world.count_events("node.policy_changed").await), (1, 1));
    let cordoned = world.store.node_fetch(node).await.unwrap();
    let reason = cordoned.policy_reason.unwrap();
    for part in ["processors 2 of 0", "MiB of memory 4096 of 0", "bytes on nvme 53687091200 of 0"] {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(cordoned.reserved.vcpu, shape().vcpu, "what is reserved stays");
    let room = &world.store.fleet_snapshot(None).await.unwrap().nodes[0];
    assert_eq!((room.vcpu.free(), room.memory.free(), room.pools[0].room.free()), (0, 0, 0), "never a negative");
    // The operator's word stands while it is short, and goes away with the reason.
    world.store.node_set_policy(node, NodePolicy::Active, None).await.unwrap();
    assert_eq!(world.store.node_fetch(node).await.unwrap().policy_reason, None);
    assert_eq!(world.beat(node, inventory(1, 0, 10)).await.policy, NodePolicy::Active);
    assert_eq!(world.accept(node).await, Err(nemordp_store::StoreError::Raced));
    assert!(!world.beat(node, inventory(1, 4, 10)).await.oversold);
    let mut gone = inventory(1, 4, 10);
    gone.pools.clear();
    let outcome = world.beat(node, gone).await;
    assert_eq!((outcome.oversold, outcome.policy), (true, NodePolicy::Cordoned), "its pool vanished");
    assert_eq!(world.count_events("node.oversold").await, 2);
    world.store.order_release(accepted.instance.id).await.unwrap();
    assert!(!world.beat(node, inventory(1, 4, 10)).await.oversold);
    world.store.node_set_policy(node, NodePolicy::Active, None).await.unwrap();
    assert!(world.accept(node).await.is_ok());
}

fn beat(inventory: NodeInventory, instances: Vec<InstanceStatus>) -> NodeHeartbeat {
    NodeHeartbeat {
        agent_address: NodeAddress("127.0.0.1:7443".parse().unwrap()),
        inventory,
        load: NodeLoad::default(),
        instances,
        signs: Signs::default(),
    }
}

async fn what_changed_on_a_node_is_told_and_a_heartbeat_alone_is_not(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let before = world.events().await.len();
    let mut busy = inventory(1, 4, 10);
    busy.pools[0].free = Bytes(busy.pools[0].free.0 - 1);
    world.store.node_heartbeat(node, &beat(inventory(1, 4, 10), Vec::new())).await.unwrap();
    world.store.node_heartbeat(node, &beat(busy, Vec::new())).await.unwrap();
    assert_eq!(world.events().await.len(), before, "nothing changed");
    let mut rebooted = inventory(1, 4, 10);
    rebooted.boot_id = "another boot".to_owned();
    for _ in 0..2 {
        world.store.node_heartbeat(node, &beat(rebooted.clone(), Vec::new())).await.unwrap();
    }
    let mut moved = beat(rebooted, Vec::new());
    moved.agent_address = NodeAddress("127.0.0.9:7443".parse().unwrap());
    for _ in 0..2 {
        world.store.node_heartbeat(node, &moved).await.unwrap();
    }
    assert_eq!(world.events().await[before..], ["node.changed", "node.changed"]);
}

async fn an_instance_that_is_lost_and_found_is_told_once_each(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let (kept, building) = (world.active(node).await, world.accept(node).await.unwrap());
    let pair = |id| async move { world.store.instance_fetch(TenantScope::All, id).await.unwrap().pair() };
    let on = status(kept.instance.id, kept.order.id, pair(kept.instance.id).await);
    let half = status(building.instance.id, building.order.id, pair(building.instance.id).await);
    let off = InstanceStatus { power: ObservedPower::Off, ..on.clone() };
    let told = InstanceStatus { guest_agent: false, ..off.clone() };
    let before = world.events().await.len();
    for instances in [vec![on.clone(), half], vec![on.clone()], vec![off], vec![told], vec![], vec![], vec![on]] {
        world.store.node_heartbeat(node, &beat(inventory(1, 4, 10), instances)).await.unwrap();
    }
    let expected =
        ["instance.power_seen", "instance.power_seen", "instance.power_seen", "instance.lost", "instance.found"];
    assert_eq!(world.events().await[before..], expected);
    let seen = world.store.instance_fetch(TenantScope::All, kept.instance.id).await.unwrap().observed.unwrap();
    assert_eq!(seen.power, ObservedPower::Running);
}
