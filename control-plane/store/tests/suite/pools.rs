use std::collections::BTreeSet;
use std::time::Duration;

use nemordp_store::{NodeHeartbeat, Signs, StoreError};
use nemordp_types::NodeAddress;
use nemordp_types::node::NodeLoad;

use crate::support::{DAY, World, inventory, on_both_stores};

const MINUTE: Duration = Duration::from_secs(60);

on_both_stores! {
    a_released_port_rests_and_the_oldest_goes_first
    a_widened_range_is_used_before_anything_rests_too_short
    a_private_address_is_claimed_per_node_and_runs_out
    a_port_that_something_else_uses_is_not_sold_until_it_is_free
    placement_knows_scarce_numbers_exactly
}

async fn placement_knows_scarce_numbers_exactly(world: &World) {
    let (scarce, roomy) = (world.node("a", 1, 10, 3).await, world.node("b", 2, 10, 1_000).await);
    let free_ports = |fleet: nemordp_model::FleetSnapshot| {
        [scarce, roomy].map(|id| fleet.nodes.iter().find(|node| node.id == id).unwrap().free_ports)
    };
    for taken in 0..3 {
        let seen = free_ports(world.store.fleet_snapshot_for(None, &BTreeSet::new()).await.unwrap());
        assert_eq!(seen[0], 3 - taken);
        assert!((1_000 - taken..=1_000).contains(&seen[1]), "at most what was free a moment ago: {seen:?}");
        world.accept(scarce).await.unwrap();
        world.accept(roomy).await.unwrap();
    }
    assert_eq!(free_ports(world.store.fleet_snapshot(None).await.unwrap()), [0, 997]);
    assert_eq!(free_ports(world.store.fleet_snapshot_for(None, &BTreeSet::new()).await.unwrap()), [0, 997]);
}

async fn a_released_port_rests_and_the_oldest_goes_first(world: &World) {
    let node = world.node("a", 1, 10, 3).await;
    let port = |a: &nemordp_store::Accepted| a.instance.spec.network.endpoint.port;
    let first = world.accept(node).await.unwrap();
    let second = world.accept(node).await.unwrap();
    assert_eq!((port(&first), port(&second)), (20_000, 20_001));
    world.store.order_release(second.instance.id).await.unwrap();
    world.clock.advance(DAY);
    world.store.order_release(first.instance.id).await.unwrap();
    let third = world.accept(node).await.unwrap();
    assert_eq!((port(&third), third.rest_shortened), (20_002, false), "a port that nobody had goes first");
    let fourth = world.accept(node).await.unwrap();
    assert_eq!((port(&fourth), fourth.rest_shortened), (20_001, true), "then the one that rested longest");
    world.clock.advance(31 * DAY);
    world.beat(node, inventory(1, 10, 3)).await;
    let fifth = world.accept(node).await.unwrap();
    assert_eq!((port(&fifth), fifth.rest_shortened), (20_000, false));
    assert_eq!(world.accept(node).await, Err(StoreError::PortPoolExhausted));
}

async fn a_widened_range_is_used_before_anything_rests_too_short(world: &World) {
    let node = world.node("a", 1, 10, 1).await;
    let first = world.accept(node).await.unwrap();
    world.store.order_release(first.instance.id).await.unwrap();
    let mut moved = inventory(1, 10, 1);
    moved.endpoints.first_port = 20_003;
    moved.endpoints.last_port = 20_003;
    world.beat(node, moved).await;
    assert_eq!(world.accept(node).await.unwrap().instance.spec.network.endpoint.port, 20_003);
    world.beat(node, inventory(1, 10, 4)).await;
    for expected in [20_001, 20_002, 20_000] {
        assert_eq!(world.accept(node).await.unwrap().instance.spec.network.endpoint.port, expected);
    }
}

async fn a_private_address_is_claimed_per_node_and_runs_out(world: &World) {
    let mut small = inventory(1, 10, 10);
    small.private_subnet = "10.64.0.0/29".parse().unwrap();
    let (a, b) = (world.node("a", 1, 10, 10).await, world.node("b", 2, 10, 10).await);
    world.beat(a, small).await;
    for last in 2..=6 {
        let network = world.accept(a).await.unwrap().instance.spec.network;
        assert_eq!(network.private_ipv4.octets()[3], last);
    }
    assert_eq!(world.accept(a).await, Err(StoreError::AddressPoolExhausted));
    let network = world.accept(b).await.unwrap().instance.spec.network;
    assert_eq!(network.private_ipv4.octets()[3], 2, "each node has its own addresses");
}

async fn a_port_that_something_else_uses_is_not_sold_until_it_is_free(world: &World) {
    let node = world.node("a", 1, 10, 4).await;
    let port = |a: nemordp_store::Accepted| a.instance.spec.network.endpoint.port;
    let beat = |taken_ports: &[u16]| NodeHeartbeat {
        agent_address: NodeAddress("127.0.0.1:7443".parse().unwrap()),
        inventory: inventory(1, 10, 4),
        load: NodeLoad::default(),
        instances: Vec::new(),
        signs: Signs { taken_ports: taken_ports.to_vec(), ..Signs::default() },
    };
    assert_eq!(port(world.accept(node).await.unwrap()), 20_000);
    for _ in 0..2 {
        // One that is sold, one that is not, one that is not the node's to sell.
        world.store.node_heartbeat(node, &beat(&[20_000, 20_002, 30_000])).await.unwrap();
    }
    assert_eq!(world.count_events("node.changed").await, 1, "told once");
    assert_eq!(world.store.node_fetch(node).await.unwrap().taken_ports, [20_000, 20_002, 30_000]);
    assert_eq!(port(world.accept(node).await.unwrap()), 20_003);
    assert_eq!(port(world.accept(node).await.unwrap()), 20_001);
    for _ in 0..3 {
        world.clock.advance(40 * MINUTE);
        world.store.node_heartbeat(node, &beat(&[20_002])).await.unwrap();
        assert_eq!(world.accept(node).await, Err(StoreError::PortPoolExhausted), "as long as the node says so");
    }
    world.clock.advance(61 * MINUTE);
    world.store.node_heartbeat(node, &beat(&[])).await.unwrap();
    assert_eq!(port(world.accept(node).await.unwrap()), 20_002);
}
