use std::collections::{BTreeMap, BTreeSet};

use nemordp_model::{Demand, PlacementRequest, place};
use nemordp_store::{PAGE_MAX, Page, Reservation, StoreError, TenantScope};
use nemordp_types::node::NodePolicy;
use nemordp_types::{Bytes, Failure, NodeId, Reason};

use crate::support::{World, inventory, on_both_stores, region, shape, template};

on_both_stores! {
    eight_placers_never_oversell_and_lose_nothing
    an_accepted_order_has_all_that_it_needs
    a_release_gives_everything_back_once
    a_refused_order_leaves_nothing_behind
    a_node_that_takes_nothing_is_a_lost_race
    placing_again_moves_all_that_is_held
    the_database_itself_refuses_to_oversell
}

fn request() -> PlacementRequest {
    let shape = shape();
    let demand = Demand {
        vcpu: shape.vcpu,
        memory: shape.memory,
        disk: shape.disk,
        storage_class: shape.storage_class,
        gpus: shape.gpus,
    };
    PlacementRequest {
        template: template().digest,
        template_size: template().file_size,
        ..PlacementRequest::new(region(), demand)
    }
}

async fn reservations(world: &World) -> Vec<Reservation> {
    world.store.reservation_list(Page::first(PAGE_MAX)).await.unwrap().items
}

/// Replays the history in the order of its events and finds the most that was ever held on each node.
fn peaks(history: &[Reservation]) -> BTreeMap<NodeId, u64> {
    let mut moments: Vec<(jiff::Timestamp, i64, NodeId)> = Vec::new();
    for r in history {
        moments.push((r.created_at, 1, r.node_id));
        if let Some(at) = r.released_at {
            moments.push((at, -1, r.node_id));
        }
    }
    moments.sort();
    let (mut held, mut peak) = (BTreeMap::new(), BTreeMap::new());
    for (_, change, node) in moments {
        let held: &mut i64 = held.entry(node).or_default();
        *held += change;
        let peak: &mut u64 = peak.entry(node).or_default();
        *peak = (*peak).max(u64::try_from(*held).unwrap_or(0));
    }
    peak
}

async fn eight_placers_never_oversell_and_lose_nothing(world: &World) {
    world.node("a", 1, 9, 60).await;
    world.node("b", 2, 11, 60).await;
    let placer = || async {
        let (mut placed, mut refused) = (Vec::new(), 0);
        for _ in 0..5 {
            loop {
                let snapshot = world.store.fleet_snapshot(Some(&region())).await.unwrap();
                let Ok(placement) = place(&request(), &snapshot) else {
                    refused += 1;
                    break;
                };
                match world.accept(placement.node_id).await {
                    Ok(accepted) => {
                        placed.push(accepted);
                        break;
                    }
                    Err(StoreError::Raced) => {}
                    Err(other) => panic!("{other}"),
                }
            }
        }
        (placed, refused)
    };
    let outcomes = futures::future::join_all((0..8).map(|_| placer())).await;
    let placed: Vec<_> = outcomes.iter().flat_map(|(placed, _)| placed).collect();
    let refused: i32 = outcomes.iter().map(|(_, refused)| refused).sum();
    assert_eq!((placed.len(), refused), (20, 20));
    let endpoints: BTreeSet<_> = placed.iter().map(|a| a.instance.spec.network.endpoint).collect();
    assert_eq!(endpoints.len(), 20, "an endpoint was given away twice");
    for accepted in &placed {
        let stored = world.store.order_fetch(TenantScope::All, accepted.order.id).await.unwrap();
        assert_eq!(stored, accepted.order);
    }
    let history = reservations(world).await;
    assert_eq!(history.len(), 20);
    assert_eq!(peaks(&history).values().copied().collect::<BTreeSet<_>>(), BTreeSet::from([9, 11]));
    for node in world.store.fleet_snapshot(None).await.unwrap().nodes {
        assert_eq!((node.vcpu.free(), node.memory.free(), node.pools[0].room.free()), (0, 0, 0));
    }
}

async fn an_accepted_order_has_all_that_it_needs(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let accepted = world.accept(node).await.unwrap();
    let order = world.store.order_fetch(TenantScope::Only(world.tenant), accepted.order.id).await.unwrap();
    let instance = world.store.instance_fetch(TenantScope::Only(world.tenant), order.instance_id).await.unwrap();
    assert_eq!((&order, &instance), (&accepted.order, &accepted.instance));
    assert_eq!(instance.spec.network.endpoint.to_string(), "203.0.113.1:20000");
    assert_eq!(instance.spec.network.private_ipv4.to_string(), "10.64.0.2");
    assert_eq!(instance.spec.network.mac.to_string(), "52:54:00:40:00:02");
    let saga = world.store.saga_fetch(TenantScope::All, order.saga_id).await.unwrap();
    assert_eq!(saga.steps.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["first", "second"]);
    let reserved = world.store.node_fetch(node).await.unwrap().reserved;
    assert_eq!(
        (reserved.vcpu, reserved.memory, reserved.disk),
        (shape().vcpu, shape().memory, Bytes::from(shape().disk))
    );
    for word in ["order.accepted", "instance.created"] {
        assert_eq!(world.count_events(word).await, 1, "{word}");
    }
    let stranger = TenantScope::Only(nemordp_types::TenantId::from_uuid(node.as_uuid()));
    assert!(matches!(world.store.order_fetch(stranger, order.id).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(world.store.instance_fetch(stranger, instance.id).await, Err(StoreError::NotFound { .. })));
    assert!(matches!(world.store.saga_fetch(stranger, saga.id).await, Err(StoreError::NotFound { .. })));
}

async fn a_release_gives_everything_back_once(world: &World) {
    let node = world.node("a", 1, 2, 10).await;
    let (first, _second) = (world.accept(node).await.unwrap(), world.accept(node).await.unwrap());
    assert_eq!(world.accept(node).await, Err(StoreError::Raced));
    let releases = (0..8).map(|_| world.store.order_release(first.instance.id));
    for outcome in futures::future::join_all(releases).await {
        outcome.unwrap();
    }
    assert_eq!(world.store.node_fetch(node).await.unwrap().reserved.vcpu, shape().vcpu);
    assert_eq!(world.count_events("instance.released").await, 1);
    let third = world.accept(node).await.unwrap();
    assert_eq!(third.instance.spec.network.endpoint.port, 20_002, "the released port rests");
}

async fn a_refused_order_leaves_nothing_behind(world: &World) {
    let node = world.node("a", 1, 4, 1).await;
    let first = world.accept(node).await.unwrap();
    assert_eq!(world.accept(node).await, Err(StoreError::PortPoolExhausted));
    assert_eq!(Failure::from(StoreError::PortPoolExhausted).reason, Reason::PortPoolExhausted);
    assert_eq!(world.store.node_fetch(node).await.unwrap().reserved.vcpu, shape().vcpu);
    assert_eq!(reservations(world).await.len(), 1);
    let orders = world.store.order_list(TenantScope::All, &Default::default(), Page::first(10)).await.unwrap();
    assert_eq!(orders.items, [first.order]);
    assert_eq!(world.count_events("order.accepted").await, 1);
}

async fn a_node_that_takes_nothing_is_a_lost_race(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    world.store.node_set_policy(node, NodePolicy::Cordoned, None).await.unwrap();
    assert_eq!(world.accept(node).await, Err(StoreError::Raced));
    world.store.node_set_policy(node, NodePolicy::Active, None).await.unwrap();
    assert!(world.accept(node).await.is_ok());
    let held = world.store.node_set_policy(node, NodePolicy::Decommissioned, None).await.unwrap_err();
    assert!(matches!(held, StoreError::Refused(failure) if failure.reason == Reason::Conflict));
}

async fn placing_again_moves_all_that_is_held(world: &World) {
    let (a, b) = (world.node("a", 1, 4, 10).await, world.node("b", 2, 1, 10).await);
    let accepted = world.accept(a).await.unwrap();
    let leased = world.store.saga_claim("r1", crate::support::SECOND).await.unwrap().unwrap();
    let id = accepted.instance.id;
    let (moved, lease) = world.store.instance_place_again(&leased.lease, &world.place(id, b)).await.unwrap();
    assert_eq!((moved.node_id, moved.generation.0), (b, 2));
    assert_eq!(moved.spec.network.endpoint.to_string(), "203.0.113.2:20000");
    assert_eq!(lease.instance.unwrap().1, moved.pair());
    assert_eq!(world.store.instance_fetch(TenantScope::All, id).await.unwrap(), moved);
    assert_eq!(world.store.node_fetch(a).await.unwrap().reserved, Default::default());
    assert_eq!(world.store.node_fetch(b).await.unwrap().reserved.vcpu, shape().vcpu);
    let kept = async || world.store.order_decision(TenantScope::All, accepted.order.id).await.unwrap().unwrap();
    assert_eq!((kept().await.reserved, kept().await.best[0].node_id), (Some(b), b), "the decision is that of its node");
    // No room there: everything stays where it is.
    world.store.node_set_policy(a, NodePolicy::Cordoned, None).await.unwrap();
    let lost = world.store.instance_place_again(&lease, &world.place(id, a)).await;
    assert_eq!(lost.unwrap_err(), StoreError::Raced);
    assert_eq!(kept().await.reserved, Some(b));
    assert_eq!(world.store.instance_fetch(TenantScope::All, id).await.unwrap(), moved);
    assert_eq!(world.store.node_fetch(b).await.unwrap().reserved.vcpu, shape().vcpu);
}

async fn the_database_itself_refuses_to_oversell(world: &World) {
    let node = world.node("a", 1, 2, 10).await;
    let accepted = world.accept(node).await.unwrap();
    for careless in [
        "UPDATE node SET vcpu_used = vcpu_used + 3",
        "UPDATE node SET memory_used_mib = memory_used_mib + 5000",
        "UPDATE node_pool SET used_bytes = used_bytes + 60000000000",
        "UPDATE node SET vcpu_used = -1",
    ] {
        assert!(crate::schema::execute(&world.url, careless).await.is_err(), "{careless}");
    }
    // A node that shrinks below what is reserved is written down, sells nothing, and gives nothing back for sale.
    let outcome = world.beat(node, inventory(1, 0, 10)).await;
    assert!(outcome.oversold);
    assert_eq!(world.accept(node).await, Err(StoreError::Raced));
    assert!(crate::schema::execute(&world.url, "UPDATE node SET vcpu_used = vcpu_used + 1").await.is_err());
    world.store.order_release(accepted.instance.id).await.unwrap();
    assert!(crate::schema::execute(&world.url, "UPDATE node SET vcpu_used = 1").await.is_err());
}
