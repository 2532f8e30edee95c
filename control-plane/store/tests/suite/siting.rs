//! Which nodes an instance may lie on beyond room: labels, owners, groups; held by the transaction that takes the room.

use std::collections::{BTreeMap, BTreeSet};

use nemordp_model::{Affinity, GroupKey, Label, Members, Siting};
use nemordp_store::{Accepted, Candidate, Once, OrderAccept, StoreError, TenantScope};
use nemordp_types::{NodeId, TenantId};

use crate::support::{SECOND, World, label, on_both_stores, region};

on_both_stores! {
    labels_are_given_and_taken_and_told_once
    a_node_without_the_label_is_a_lost_race
    a_node_that_is_kept_for_one_tenant_takes_nobody_else
    a_tenant_on_its_own_nodes_goes_nowhere_else
    a_burst_never_puts_two_that_stand_apart_on_one_node
    placers_that_race_never_put_two_that_stand_apart_on_one_node
    nobody_joins_one_that_stands_apart
    placers_that_race_never_join_one_that_stands_apart
    the_database_itself_keeps_them_apart
    equal_names_of_two_tenants_do_not_meet
    a_move_keeps_group_and_labels
    one_that_is_over_leaves_its_place_in_the_group
}

fn labels(texts: &[&str]) -> BTreeSet<Label> {
    texts.iter().map(|text| label(text)).collect()
}

fn in_group(affinity: Affinity) -> Siting {
    Siting { group: Some(label("web")), affinity, ..Siting::default() }
}

fn sited(world: &World, node: NodeId, siting: Siting) -> OrderAccept {
    OrderAccept { siting, ..world.order(node) }
}

async fn accept(world: &World, order: &OrderAccept) -> Result<Accepted, StoreError> {
    world.store.order_accept(order, None).await.map(|once| once.done().unwrap())
}

async fn another_tenant(world: &World) -> TenantId {
    let (c, e) = world.ids();
    let id = TenantId::new(c, e);
    world.store.tenant_create(id, &label("reseller")).await.unwrap();
    id
}

async fn members(world: &World) -> BTreeMap<NodeId, BTreeMap<GroupKey, Members>> {
    let fleet = world.store.fleet_snapshot(Some(&region())).await.unwrap();
    fleet.nodes.into_iter().map(|node| (node.id, node.groups)).collect()
}

async fn labels_are_given_and_taken_and_told_once(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let none = BTreeSet::new();
    let changed = world.count_events("node.changed").await;
    let given = world.store.node_set_labels(node, &labels(&["ssd", "new"]), &none, None).await.unwrap().done().unwrap();
    assert_eq!(given.labels, labels(&["new", "ssd"]));
    world.store.node_set_labels(node, &labels(&["ssd"]), &labels(&["never"]), None).await.unwrap();
    assert_eq!(world.count_events("node.changed").await, changed + 1, "nothing changed the second time");
    let fleet = world.store.fleet_snapshot(None).await.unwrap();
    assert_eq!(fleet.nodes[0].labels, given.labels);
    let left = world.store.node_set_labels(node, &none, &labels(&["new"]), None).await.unwrap().done().unwrap();
    assert_eq!(
        (left.labels.clone(), world.store.node_fetch(node).await.unwrap().labels),
        (labels(&["ssd"]), left.labels)
    );
    let many: Vec<String> = (0..nemordp_model::LABELS_MAX).map(|number| format!("l{number}")).collect();
    let many: BTreeSet<Label> = many.iter().map(|text| label(text)).collect();
    let refused = world.store.node_set_labels(node, &many, &none, None).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Refused(f) if f.field.as_deref() == Some("add")), "{refused:?}");
    let nowhere = NodeId::from_uuid(world.tenant.as_uuid());
    let missing = world.store.node_set_labels(nowhere, &labels(&["x"]), &none, None).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
    // A heartbeat and a fresh certificate say nothing of labels.
    world.beat(node, crate::support::inventory(1, 4, 10)).await;
    assert_eq!(world.store.node_fetch(node).await.unwrap().labels, labels(&["ssd"]));
}

async fn a_node_without_the_label_is_a_lost_race(world: &World) {
    let (a, b) = (world.node("a", 1, 4, 10).await, world.node("b", 2, 4, 10).await);
    let wants = Siting { labels: labels(&["ssd"]), ..Siting::default() };
    assert_eq!(accept(world, &sited(world, a, wants.clone())).await, Err(StoreError::Raced));
    world.store.node_set_labels(b, &labels(&["ssd", "new"]), &BTreeSet::new(), None).await.unwrap();
    let mut order = sited(world, a, wants.clone());
    order.alternatives = vec![b];
    let accepted = accept(world, &order).await.unwrap();
    assert_eq!((accepted.instance.node_id, &accepted.instance.siting), (b, &wants));
    let stored = world.store.instance_fetch(TenantScope::All, accepted.instance.id).await.unwrap();
    assert_eq!(stored, accepted.instance);
}

async fn a_node_that_is_kept_for_one_tenant_takes_nobody_else(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let other = another_tenant(world).await;
    let pinned = world.store.node_set_pin(node, Some(other), None).await.unwrap().done().unwrap().pinned_to.unwrap();
    assert_eq!((pinned.tenant_id, pinned.tenant), (other, label("reseller")));
    assert_eq!(world.store.fleet_snapshot(None).await.unwrap().nodes[0].pinned_to, Some(other));
    assert_eq!(world.accept(node).await, Err(StoreError::Raced));
    let mut theirs = world.order(node);
    theirs.order.tenant_id = other;
    assert!(accept(world, &theirs).await.is_ok());
    let nobody = TenantId::from_uuid(node.as_uuid());
    let missing = world.store.node_set_pin(node, Some(nobody), None).await;
    assert_eq!(missing, Err(StoreError::NotFound { noun: TenantId::NOUN }));
    assert_eq!(world.store.node_set_pin(node, None, None).await.unwrap().done().unwrap().pinned_to, None);
    assert!(world.accept(node).await.is_ok());
}

async fn a_tenant_on_its_own_nodes_goes_nowhere_else(world: &World) {
    let (a, b) = (world.node("a", 1, 4, 10).await, world.node("b", 2, 4, 10).await);
    world.store.node_set_pin(b, Some(world.tenant), None).await.unwrap();
    let before = accept(world, &world.order(a)).await.unwrap();
    assert!(world.store.tenant_set_pinned(world.tenant, true, None).await.unwrap().done().unwrap().pinned);
    assert!(world.store.tenant_fetch(world.tenant).await.unwrap().pinned);
    let key = world.store.api_key_authenticate(&[9; 32]).await.unwrap().unwrap();
    assert!(key.tenant_pinned, "whoever orders with its key is bound");
    let stored = world.store.instance_fetch(TenantScope::All, before.instance.id).await.unwrap();
    assert!(stored.siting.pinned, "what it has is bound too, from its next placement on");
    let bound = Siting { pinned: true, ..Siting::default() };
    assert_eq!(accept(world, &sited(world, a, bound.clone())).await, Err(StoreError::Raced));
    assert_eq!(accept(world, &sited(world, b, bound)).await.unwrap().instance.node_id, b);
}

async fn a_burst_never_puts_two_that_stand_apart_on_one_node(world: &World) {
    let nodes = [world.node("a", 1, 9, 20).await, world.node("b", 2, 9, 20).await];
    let orders: Vec<_> = (0..4)
        .map(|_| {
            let mut order = sited(world, nodes[0], in_group(Affinity::Apart));
            order.alternatives = vec![nodes[1]];
            order
        })
        .collect();
    let burst: Vec<_> = orders.iter().map(|accept| Candidate { accept, intention: None }).collect();
    let outcomes = world.store.order_accept_burst(&burst).await;
    let went: Vec<_> = outcomes.into_iter().map(|o| o.map(|once| once.done().unwrap().instance.node_id)).collect();
    assert_eq!(went, [Ok(nodes[0]), Ok(nodes[1]), Err(StoreError::Raced), Err(StoreError::Raced)]);
}

async fn placers_that_race_never_put_two_that_stand_apart_on_one_node(world: &World) {
    let nodes = [world.node("a", 1, 30, 60).await, world.node("b", 2, 30, 60).await, world.node("c", 3, 30, 60).await];
    for round in 0..6 {
        let group = label(&format!("round-{round}"));
        // All want the same node first: each round is a race for it, and for what is left after it.
        let placers = (0..8u8).map(|placer| {
            let siting = Siting { group: Some(group.clone()), affinity: Affinity::Apart, ..Siting::default() };
            let mut order = sited(world, nodes[0], siting);
            order.alternatives = vec![nodes[1], nodes[2]];
            async move {
                if placer % 2 == 0 {
                    return vec![world.store.order_accept(&order, None).await];
                }
                let second = OrderAccept { alternatives: vec![nodes[2], nodes[1]], ..world.order(nodes[0]) };
                let second = OrderAccept { siting: order.siting.clone(), ..second };
                let burst = [&order, &second].map(|accept| Candidate { accept, intention: None });
                world.store.order_accept_burst(&burst).await
            }
        });
        let outcomes: Vec<_> = futures::future::join_all(placers).await.into_iter().flatten().collect();
        let mut went: Vec<NodeId> = Vec::new();
        for outcome in outcomes {
            match outcome {
                Ok(once) => went.extend(Once::done(once).map(|accepted| accepted.instance.node_id)),
                Err(StoreError::Raced) => {}
                Err(other) => panic!("{other}"),
            }
        }
        assert_eq!(went.len(), 3, "as many as there are nodes: {went:?}");
        assert_eq!(went.iter().collect::<BTreeSet<_>>().len(), 3, "two on one node: {went:?}");
    }
}

async fn nobody_joins_one_that_stands_apart(world: &World) {
    let (a, b) = (world.node("a", 1, 9, 20).await, world.node("b", 2, 9, 20).await);
    accept(world, &sited(world, a, in_group(Affinity::Apart))).await.unwrap();
    for affinity in [Affinity::Any, Affinity::PreferApart, Affinity::PreferTogether] {
        assert_eq!(accept(world, &sited(world, a, in_group(affinity))).await, Err(StoreError::Raced), "{affinity}");
        accept(world, &sited(world, b, in_group(affinity))).await.unwrap();
    }
    assert_eq!(accept(world, &sited(world, b, in_group(Affinity::Apart))).await, Err(StoreError::Raced));
    let key = GroupKey { tenant: world.tenant, name: label("web") };
    let found = members(world).await;
    assert_eq!(found[&a], BTreeMap::from([(key.clone(), Members { count: 1, apart: true })]));
    assert_eq!(found[&b], BTreeMap::from([(key.clone(), Members { count: 3, apart: false })]));
    let asked = |groups: BTreeSet<GroupKey>| async move {
        let fleet = world.store.fleet_snapshot_for(None, &groups).await.unwrap();
        fleet.nodes.into_iter().map(|node| node.groups.len()).sum::<usize>()
    };
    assert_eq!(asked(BTreeSet::from([key.clone()])).await, 2);
    assert_eq!(asked(BTreeSet::from([GroupKey { name: label("other"), ..key }])).await, 0);
    assert_eq!(asked(BTreeSet::new()).await, 0);
}

/// The index knows nothing of those that do not stand apart: here only the node's row is between them.
async fn placers_that_race_never_join_one_that_stands_apart(world: &World) {
    let nodes = [world.node("a", 1, 60, 90).await, world.node("b", 2, 60, 90).await];
    let mut seen = BTreeSet::new();
    for round in 0..8 {
        let group = label(&format!("round-{round}"));
        let placers = (0..8usize).map(|placer| {
            let affinity = if placer % 2 == 0 { Affinity::Apart } else { Affinity::Any };
            let siting = Siting { group: Some(group.clone()), affinity, ..Siting::default() };
            let order = sited(world, nodes[(placer / 2) % 2], siting);
            async move { world.store.order_accept(&order, None).await }
        });
        for outcome in futures::future::join_all(placers).await {
            assert!(matches!(outcome, Ok(_) | Err(StoreError::Raced)), "{outcome:?}");
        }
        let key = GroupKey { tenant: world.tenant, name: group };
        for there in members(world).await.values().filter_map(|groups| groups.get(&key)) {
            assert!(!there.apart || there.count == 1, "{there:?}");
            seen.insert(there.apart);
        }
    }
    assert!(!seen.is_empty());
}

async fn the_database_itself_keeps_them_apart(world: &World) {
    let (a, b) = (world.node("a", 1, 9, 20).await, world.node("b", 2, 9, 20).await);
    for node in [a, b] {
        accept(world, &sited(world, node, in_group(Affinity::Apart))).await.unwrap();
    }
    let careless = "UPDATE instance SET node_id = (SELECT id FROM node ORDER BY id LIMIT 1)";
    assert!(crate::schema::execute(&world.url, careless).await.is_err());
}

async fn equal_names_of_two_tenants_do_not_meet(world: &World) {
    let node = world.node("a", 1, 9, 20).await;
    let other = another_tenant(world).await;
    accept(world, &sited(world, node, in_group(Affinity::Apart))).await.unwrap();
    let mut theirs = sited(world, node, in_group(Affinity::Apart));
    theirs.order.tenant_id = other;
    accept(world, &theirs).await.unwrap();
    assert_eq!(members(world).await[&node].len(), 2);
}

async fn a_move_keeps_group_and_labels(world: &World) {
    let nodes = [world.node("a", 1, 9, 20).await, world.node("b", 2, 9, 20).await, world.node("c", 3, 9, 20).await];
    let siting = Siting { labels: labels(&["ssd"]), ..in_group(Affinity::Apart) };
    for node in &nodes[..2] {
        world.store.node_set_labels(*node, &labels(&["ssd"]), &BTreeSet::new(), None).await.unwrap();
    }
    let moving = accept(world, &sited(world, nodes[0], siting.clone())).await.unwrap().instance.id;
    let leased = world.store.saga_claim("test", 10 * SECOND).await.unwrap().unwrap();
    accept(world, &sited(world, nodes[1], in_group(Affinity::Any))).await.unwrap();
    // One of the group lies there; the other node has no such label.
    for node in &nodes[1..] {
        let again = world.store.instance_place_again(&leased.lease, &world.place(moving, *node)).await;
        assert_eq!(again.unwrap_err(), StoreError::Raced);
    }
    world.store.node_set_labels(nodes[2], &labels(&["ssd"]), &BTreeSet::new(), None).await.unwrap();
    let (moved, _) = world.store.instance_place_again(&leased.lease, &world.place(moving, nodes[2])).await.unwrap();
    assert_eq!((moved.node_id, &moved.siting), (nodes[2], &siting));
    assert_eq!(world.store.instance_fetch(TenantScope::All, moving).await.unwrap(), moved);
    // Where it came from is free for one of the group again, where it lies is not.
    assert_eq!(accept(world, &sited(world, nodes[2], siting.clone())).await, Err(StoreError::Raced));
    accept(world, &sited(world, nodes[0], siting)).await.unwrap();
}

async fn one_that_is_over_leaves_its_place_in_the_group(world: &World) {
    let node = world.node("a", 1, 9, 20).await;
    let first = accept(world, &sited(world, node, in_group(Affinity::Apart))).await.unwrap();
    assert_eq!(accept(world, &sited(world, node, in_group(Affinity::Apart))).await, Err(StoreError::Raced));
    let leased = world.store.saga_claim("test", 10 * SECOND).await.unwrap().unwrap();
    let write = nemordp_store::SagaWrite {
        state: "{}",
        status: nemordp_model::SagaStatus::Unwound,
        step: 0,
        failure: None,
        hold: nemordp_store::Hold::Keep(SECOND),
        steps: &[],
        effects: &[nemordp_store::Effect::InstanceFailed { instance_id: first.instance.id }],
    };
    world.store.saga_write(&leased.lease, &write).await.unwrap();
    assert!(members(world).await[&node].is_empty());
    accept(world, &sited(world, node, in_group(Affinity::Apart))).await.unwrap();
}
