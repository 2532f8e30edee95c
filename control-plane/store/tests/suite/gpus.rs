//! GPUs: taken and given back in the transaction that does so with all else, and never more than there are.

use nemordp_model::audit::{FindingKind, audit};
use nemordp_model::{GpuDemand, SagaKind, Wish};
use nemordp_store::{Accepted, Candidate, Once, OrderAccept, PAGE_MAX, Page, Shape, StoreError, TenantScope};
use nemordp_types::instance::GpuSpec;
use nemordp_types::node::{GpuInventory, NodeInventory, NodePolicy};
use nemordp_types::{GpuModel, MiB, NodeId};

use crate::support::{SECOND, World, inventory, on_both_stores, shape};

on_both_stores! {
    an_order_takes_its_gpus_and_gives_them_back
    any_model_means_the_one_that_is_scarcest_and_suffices
    the_last_gpu_goes_to_one_of_many
    a_burst_gives_no_more_than_there_are
    another_node_may_give_another_model
    a_larger_size_keeps_its_gpus
    a_node_that_loses_gpus_is_cordoned_and_told_once
    the_database_itself_refuses_to_give_one_twice
}

fn model(name: &str) -> GpuModel {
    GpuModel::new(name).unwrap()
}

fn wanted(count: u32, name: Option<&str>) -> Option<GpuDemand> {
    Some(GpuDemand { count, model: name.map(model) })
}

fn spec(count: u32, name: &str) -> Option<GpuSpec> {
    Some(GpuSpec { model: model(name), count })
}

/// A node's inventory with these GPUs.
fn offering(address: u8, gpus: &[(&str, u32)]) -> NodeInventory {
    let gpus = gpus.iter().map(|(name, count)| GpuInventory { model: model(name), count: *count });
    NodeInventory { gpus: gpus.collect(), ..inventory(address, 20, 40) }
}

async fn node(world: &World, name: &str, address: u8, gpus: &[(&str, u32)]) -> NodeId {
    let id = world.node(name, address, 20, 40).await;
    world.beat(id, offering(address, gpus)).await;
    id
}

fn order(world: &World, node: NodeId, gpus: Option<GpuDemand>) -> OrderAccept {
    OrderAccept { shape: Shape { gpus, ..shape() }, ..world.order(node) }
}

async fn accept(world: &World, node: NodeId, gpus: Option<GpuDemand>) -> Result<Accepted, StoreError> {
    world.store.order_accept(&order(world, node, gpus), None).await.map(|once| once.done().unwrap())
}

/// Model, how many there are, how many are reserved; the node's view and the fleet's agree.
async fn rooms(world: &World, id: NodeId) -> Vec<(String, u64, u64)> {
    let node = world.store.node_fetch(id).await.unwrap();
    let fleet = world.store.fleet_snapshot(None).await.unwrap();
    assert_eq!(fleet.nodes.iter().find(|node| node.id == id).unwrap().gpus, node.gpus);
    let listed = world.store.node_list(Page::first(PAGE_MAX)).await.unwrap().items;
    assert_eq!(listed.iter().find(|node| node.id == id).unwrap().gpus, node.gpus);
    node.gpus.into_iter().map(|gpus| (gpus.model.to_string(), gpus.room.capacity, gpus.room.used)).collect()
}

fn room(name: &str, capacity: u64, used: u64) -> (String, u64, u64) {
    (name.to_owned(), capacity, used)
}

/// Whether what is held, counted and specified fits together.
async fn assert_sound(world: &World) {
    let facts = world.store.audit_facts(&[]).await.unwrap();
    let wrong = [FindingKind::ReservationDiffers, FindingKind::NodeSumsDiffer];
    let found: Vec<_> = audit(&facts).into_iter().filter(|finding| wrong.contains(&finding.kind)).collect();
    assert!(found.is_empty(), "{found:#?}");
}

async fn an_order_takes_its_gpus_and_gives_them_back(world: &World) {
    let node = node(world, "a", 1, &[("l40s", 4), ("rtx4000", 2)]).await;
    let accepted = accept(world, node, wanted(2, Some("l40s"))).await.unwrap();
    assert_eq!((&accepted.instance.spec.gpus, accepted.instance.siting.any_gpu_model), (&spec(2, "l40s"), false));
    let stored = world.store.instance_fetch(TenantScope::All, accepted.instance.id).await.unwrap();
    assert_eq!(stored, accepted.instance);
    assert_eq!(rooms(world, node).await, [room("l40s", 4, 2), room("rtx4000", 2, 0)]);
    world.accept(node).await.unwrap();
    assert_eq!(rooms(world, node).await, [room("l40s", 4, 2), room("rtx4000", 2, 0)], "a plan without takes none");
    assert_eq!(accept(world, node, wanted(3, Some("l40s"))).await, Err(StoreError::Raced));
    assert_eq!(accept(world, node, wanted(1, Some("h100"))).await, Err(StoreError::Raced));
    assert_sound(world).await;
    for _ in 0..2 {
        world.store.order_release(accepted.instance.id).await.unwrap();
        assert_eq!(rooms(world, node).await, [room("l40s", 4, 0), room("rtx4000", 2, 0)]);
    }
    let history = world.store.reservation_list(Page::first(PAGE_MAX)).await.unwrap().items;
    let held: Vec<_> =
        history.iter().map(|reservation| (&reservation.gpus, reservation.released_at.is_some())).collect();
    assert_eq!(held, [(&spec(2, "l40s"), true), (&None, false)]);
}

async fn any_model_means_the_one_that_is_scarcest_and_suffices(world: &World) {
    let node = node(world, "a", 1, &[("l40s", 4), ("rtx4000", 1)]).await;
    let one = accept(world, node, wanted(1, None)).await.unwrap().instance;
    assert_eq!((one.spec.gpus, one.siting.any_gpu_model), (spec(1, "rtx4000"), true));
    assert_eq!(accept(world, node, wanted(2, None)).await.unwrap().instance.spec.gpus, spec(2, "l40s"));
    assert_eq!(accept(world, node, wanted(3, None)).await, Err(StoreError::Raced), "not of two models");
    assert_eq!(rooms(world, node).await, [room("l40s", 4, 2), room("rtx4000", 1, 1)]);
    assert_sound(world).await;
}

async fn the_last_gpu_goes_to_one_of_many(world: &World) {
    let node = node(world, "a", 1, &[("l40s", 3)]).await;
    for round in 0..3 {
        let placers = (0..8).map(|_| {
            let order = order(world, node, wanted(1, if round % 2 == 0 { None } else { Some("l40s") }));
            async move { world.store.order_accept(&order, None).await }
        });
        let outcomes = futures::future::join_all(placers).await;
        let mut won = Vec::new();
        for outcome in outcomes {
            match outcome {
                Ok(once) => won.push(once.done().unwrap().instance.id),
                Err(StoreError::Raced) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(won.len(), 3);
        assert_eq!(rooms(world, node).await, [room("l40s", 3, 3)]);
        for id in won {
            world.store.order_release(id).await.unwrap();
        }
    }
    crate::history::replay(world).await.assert_sound(0);
}

async fn a_burst_gives_no_more_than_there_are(world: &World) {
    let a = node(world, "a", 1, &[("l40s", 1), ("rtx4000", 2)]).await;
    let b = node(world, "b", 2, &[("l40s", 1)]).await;
    let mut orders: Vec<OrderAccept> = (0..5).map(|_| order(world, a, wanted(1, Some("l40s")))).collect();
    orders.push(order(world, a, wanted(1, None)));
    orders.push(order(world, a, None));
    orders.iter_mut().for_each(|order| order.alternatives = vec![b]);
    let burst: Vec<Candidate<'_>> = orders.iter().map(|accept| Candidate { accept, intention: None }).collect();
    let outcomes = world.store.order_accept_burst(&burst).await;
    let given: Vec<_> = outcomes
        .into_iter()
        .map(|outcome| outcome.ok().and_then(Once::done).map(|a| (a.instance.node_id, a.instance.spec.gpus)))
        .collect();
    let expected = [
        Some((a, spec(1, "l40s"))),
        Some((b, spec(1, "l40s"))),
        None,
        None,
        None,
        Some((a, spec(1, "rtx4000"))),
        Some((a, None)),
    ];
    assert_eq!(given, expected);
    assert_eq!(rooms(world, a).await, [room("l40s", 1, 1), room("rtx4000", 2, 1)]);
    assert_eq!(rooms(world, b).await, [room("l40s", 1, 1)]);
    assert_sound(world).await;
}

async fn another_node_may_give_another_model(world: &World) {
    let a = node(world, "a", 1, &[("l40s", 2)]).await;
    let b = node(world, "b", 2, &[("rtx4000", 2)]).await;
    let any = accept(world, a, wanted(1, None)).await.unwrap().instance;
    let leased = world.store.saga_claim("test", 10 * SECOND).await.unwrap().unwrap();
    let (moved, lease) = world.store.instance_place_again(&leased.lease, &world.place(any.id, b)).await.unwrap();
    assert_eq!((&moved.spec.gpus, moved.siting.any_gpu_model), (&spec(1, "rtx4000"), true));
    assert_eq!(world.store.instance_fetch(TenantScope::All, any.id).await.unwrap(), moved);
    assert_eq!((rooms(world, a).await, rooms(world, b).await), (vec![room("l40s", 2, 0)], vec![room("rtx4000", 2, 1)]));
    let (back, _) = world.store.instance_place_again(&lease, &world.place(any.id, a)).await.unwrap();
    assert_eq!(back.spec.gpus, spec(1, "l40s"));
    let named = accept(world, a, wanted(1, Some("l40s"))).await.unwrap().instance;
    let leased = world.store.saga_claim("test", 10 * SECOND).await.unwrap().unwrap();
    let refused = world.store.instance_place_again(&leased.lease, &world.place(named.id, b)).await;
    assert_eq!(refused.unwrap_err(), StoreError::Raced, "its plan names the model");
    assert_eq!((rooms(world, a).await, rooms(world, b).await), (vec![room("l40s", 2, 2)], vec![room("rtx4000", 2, 0)]));
    assert_sound(world).await;
}

async fn a_larger_size_keeps_its_gpus(world: &World) {
    let node = node(world, "a", 1, &[("l40s", 1)]).await;
    let accepted = accept(world, node, wanted(1, None)).await.unwrap();
    world.activate(&accepted).await;
    let instance_id = accepted.instance.id;
    let wish = Wish::Resize { vcpu: None, memory: Some(MiB(8_192)), disk: None };
    let saga = world.saga(SagaKind::Resize);
    let changed = world.store.instance_change(TenantScope::All, instance_id, &wish, &saga, None).await.unwrap();
    assert_eq!(changed.done().unwrap().instance.spec.gpus, spec(1, "l40s"));
    assert_eq!(rooms(world, node).await, [room("l40s", 1, 1)]);
    assert_sound(world).await;
    let leased = world.store.saga_claim("test", 10 * SECOND).await.unwrap().unwrap();
    world.store.instance_take_back(&leased.lease, false).await.unwrap();
    assert_eq!(rooms(world, node).await, [room("l40s", 1, 1)]);
    assert_sound(world).await;
    crate::history::replay(world).await.assert_sound(1);
}

async fn a_node_that_loses_gpus_is_cordoned_and_told_once(world: &World) {
    let node = node(world, "a", 1, &[("l40s", 2), ("rtx4000", 1)]).await;
    let held = accept(world, node, wanted(2, Some("l40s"))).await.unwrap();
    accept(world, node, wanted(1, Some("rtx4000"))).await.unwrap();
    let outcome = world.beat(node, offering(1, &[("l40s", 1)])).await;
    assert_eq!((outcome.oversold, outcome.policy), (true, NodePolicy::Cordoned));
    assert!(world.beat(node, offering(1, &[("l40s", 1)])).await.oversold);
    assert_eq!(world.count_events("node.oversold").await, 1);
    let reason = world.store.node_fetch(node).await.unwrap().policy_reason.unwrap();
    for part in ["GPUs l40s 2 of 1", "GPUs rtx4000 1 of 0"] {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(rooms(world, node).await, [room("l40s", 1, 2), room("rtx4000", 0, 1)]);
    let fleet = world.store.fleet_snapshot(None).await.unwrap();
    assert!(fleet.nodes[0].gpus.iter().all(|gpus| gpus.room.free() == 0), "never a negative");
    world.store.node_set_policy(node, NodePolicy::Active, None).await.unwrap();
    assert_eq!(accept(world, node, wanted(1, None)).await, Err(StoreError::Raced));
    // What it gives back that it has no more cannot be had again.
    world.store.order_release(held.instance.id).await.unwrap();
    assert_eq!(rooms(world, node).await, [room("l40s", 1, 0), room("rtx4000", 0, 1)]);
    accept(world, node, wanted(1, Some("l40s"))).await.unwrap();
    assert_eq!(accept(world, node, wanted(1, Some("l40s"))).await, Err(StoreError::Raced));
    assert!(!world.beat(node, offering(1, &[("l40s", 2), ("rtx4000", 1)])).await.oversold);
    assert_sound(world).await;
}

async fn the_database_itself_refuses_to_give_one_twice(world: &World) {
    let node = node(world, "a", 1, &[("l40s", 1)]).await;
    accept(world, node, wanted(1, None)).await.unwrap();
    for careless in [
        "UPDATE node_gpu SET used = used + 1",
        "UPDATE node_gpu SET used = -1",
        "UPDATE reservation SET gpu_model = NULL",
        "UPDATE reservation SET gpu_count = 0",
    ] {
        assert!(crate::schema::execute(&world.url, careless).await.is_err(), "{careless}");
    }
}
