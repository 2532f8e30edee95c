use nemordp_store::StoreError;

use crate::support::{DAY, World, inventory, on_both_stores};

on_both_stores! {
    a_released_port_rests_and_the_oldest_goes_first
    a_widened_range_is_used_before_anything_rests_too_short
    a_private_address_is_claimed_per_node_and_runs_out
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
