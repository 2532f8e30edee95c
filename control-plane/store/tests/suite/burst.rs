use std::collections::BTreeSet;

use nemordp_store::{Accepted, Candidate, Idempotency, OrderAccept, Page, StoreError, StoredResponse, TenantScope};
use nemordp_types::{NodeId, TenantId};

use crate::history;
use crate::support::{DAY, World, on_both_stores};

on_both_stores! {
    each_order_of_a_burst_has_an_outcome_of_its_own
    a_key_that_comes_twice_in_a_burst_makes_one_order
    a_burst_claims_the_numbers_that_single_orders_would
    an_order_whose_node_was_filled_gets_its_alternative
    bursts_that_meet_on_the_same_nodes_wait_for_each_other
    more_orders_than_share_a_commit_are_all_accepted
    the_history_of_a_node_has_no_gap_and_never_passes_its_capacity
}

fn respond(accepted: &Accepted) -> StoredResponse {
    StoredResponse { status: 202, body: format!("{{\"order\":\"{}\"}}", accepted.order.id) }
}

fn intention(world: &World, key: &'static str, fingerprint: u8) -> Idempotency<'static, Accepted> {
    Idempotency { api_key_id: world.key, key, fingerprint: [fingerprint; 32], lifetime: DAY, respond: &respond }
}

fn candidates(orders: &[OrderAccept]) -> Vec<Candidate<'_>> {
    orders.iter().map(|accept| Candidate { accept, intention: None }).collect()
}

async fn orders(world: &World) -> usize {
    world.store.order_list(TenantScope::All, &Default::default(), Page::first(500)).await.unwrap().items.len()
}

async fn each_order_of_a_burst_has_an_outcome_of_its_own(world: &World) {
    let (a, b) = (world.node("a", 1, 2, 10).await, world.node("b", 2, 4, 1).await);
    let known = intention(world, "known", 1);
    let first = world.store.order_accept(&world.order(a), Some(&known)).await.unwrap().done().unwrap();
    let mut nobody = world.order(b);
    nobody.order.tenant_id = TenantId::from_uuid(a.as_uuid());
    let nowhere = NodeId::from_uuid(first.order.id.as_uuid());
    let orders =
        [world.order(a), world.order(a), world.order(a), nobody, world.order(b), world.order(b), world.order(nowhere)];
    let (other, fresh) = (intention(world, "known", 2), intention(world, "fresh", 3));
    let intentions = [Some(&known), None, None, None, Some(&fresh), Some(&other), None];
    let burst: Vec<_> =
        orders.iter().zip(intentions).map(|(accept, intention)| Candidate { accept, intention }).collect();
    let outcomes = world.store.order_accept_burst(&burst).await;
    assert_eq!(outcomes[0].clone().unwrap(), nemordp_store::Once::Replayed(respond(&first)));
    let second = outcomes[1].clone().unwrap().done().unwrap();
    assert_eq!(outcomes[2], Err(StoreError::Raced), "the node holds two");
    assert!(matches!(outcomes[3], Err(StoreError::Constraint(_))), "there is no such tenant: {:?}", outcomes[3]);
    let third = outcomes[4].clone().unwrap().done().unwrap();
    assert_eq!(outcomes[5], Err(StoreError::IdempotencyKeyReused));
    assert_eq!(outcomes[6], Err(StoreError::Raced));
    // One port is all that the second node has.
    let outcomes = world.store.order_accept_burst(&candidates(&[world.order(b), world.order(b)])).await;
    assert_eq!(outcomes, [Err(StoreError::PortPoolExhausted), Err(StoreError::PortPoolExhausted)]);
    let stored = world.store.order_list(TenantScope::All, &Default::default(), Page::first(10)).await.unwrap().items;
    let ids: BTreeSet<_> = stored.iter().map(|order| order.id).collect();
    assert_eq!(ids, BTreeSet::from([first.order.id, second.order.id, third.order.id]));
    let kept = world.store.idempotency_fetch(world.key, "fresh", &[3; 32]).await.unwrap();
    assert_eq!(kept, Some(respond(&third)));
    let saga = world.store.saga_fetch(TenantScope::All, second.order.saga_id).await.unwrap();
    assert_eq!(saga.steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["first", "second"]);
    assert_eq!(world.count_events("order.accepted").await, 3);
    let instance = world.store.instance_fetch(TenantScope::All, third.instance.id).await.unwrap();
    assert_eq!(instance, third.instance);
    history::replay(world).await.assert_sound(3);
}

async fn a_key_that_comes_twice_in_a_burst_makes_one_order(world: &World) {
    let node = world.node("a", 1, 8, 10).await;
    let orders = [world.order(node), world.order(node), world.order(node)];
    let (same, other) = (intention(world, "k", 1), intention(world, "k", 2));
    let burst = [
        Candidate { accept: &orders[0], intention: Some(&same) },
        Candidate { accept: &orders[1], intention: Some(&same) },
        Candidate { accept: &orders[2], intention: Some(&other) },
    ];
    let outcomes = world.store.order_accept_burst(&burst).await;
    let accepted = outcomes[0].clone().unwrap().done().unwrap();
    assert_eq!(outcomes[1], Ok(nemordp_store::Once::Replayed(respond(&accepted))));
    assert_eq!(outcomes[2], Err(StoreError::IdempotencyKeyReused));
    assert_eq!(self::orders(world).await, 1);
    // An answer that is too old is forgotten, and the key may be used again.
    world.clock.advance(2 * DAY);
    let again = world.order(node);
    let burst = [Candidate { accept: &again, intention: Some(&other) }];
    assert!(world.store.order_accept_burst(&burst).await.remove(0).unwrap().done().is_some());
    assert_eq!(self::orders(world).await, 2);
}

async fn a_burst_claims_the_numbers_that_single_orders_would(world: &World) {
    let node = world.node("a", 1, 20, 6).await;
    let port = |a: &Accepted| a.instance.spec.network.endpoint.port;
    let orders: Vec<_> = (0..4).map(|_| world.order(node)).collect();
    let outcomes = world.store.order_accept_burst(&candidates(&orders)).await;
    let first: Vec<_> = outcomes.into_iter().map(|outcome| outcome.unwrap().done().unwrap()).collect();
    assert_eq!(first.iter().map(port).collect::<Vec<_>>(), [20_000, 20_001, 20_002, 20_003]);
    let addresses = first.iter().map(|a| a.instance.spec.network.private_ipv4.octets()[3]);
    assert_eq!(addresses.collect::<Vec<_>>(), [2, 3, 4, 5]);
    for released in [&first[2], &first[0]] {
        world.store.order_release(released.instance.id).await.unwrap();
        world.clock.advance(DAY);
    }
    world.clock.advance(28 * DAY + DAY / 2);
    // Two that nobody had, one that has rested, one that has not, none.
    let orders: Vec<_> = (0..5).map(|_| world.order(node)).collect();
    let outcomes = world.store.order_accept_burst(&candidates(&orders)).await;
    let got: Vec<_> = outcomes
        .iter()
        .map(|outcome| outcome.clone().map(|once| once.done().map(|a| (port(&a), a.rest_shortened)).unwrap()))
        .collect();
    assert_eq!(got[..2], [Ok((20_004, false)), Ok((20_005, false))]);
    assert_eq!(got[2..4], [Ok((20_002, false)), Ok((20_000, true))]);
    assert_eq!(got[4], Err(StoreError::PortPoolExhausted));
    history::replay(world).await.assert_sound(6);
}

async fn an_order_whose_node_was_filled_gets_its_alternative(world: &World) {
    let (a, b, c) = (world.node("a", 1, 1, 9).await, world.node("b", 2, 1, 9).await, world.node("c", 3, 2, 9).await);
    let orders: Vec<_> = (0..5)
        .map(|_| {
            let mut order = world.order(a);
            order.alternatives = vec![b, c];
            order
        })
        .collect();
    let outcomes = world.store.order_accept_burst(&candidates(&orders)).await;
    let nodes: Vec<_> =
        outcomes.iter().map(|outcome| outcome.clone().map(|once| once.done().unwrap().instance.node_id)).collect();
    assert_eq!(nodes, [Ok(a), Ok(b), Ok(c), Ok(c), Err(StoreError::Raced)]);
    history::replay(world).await.assert_sound(4);
}

async fn bursts_that_meet_on_the_same_nodes_wait_for_each_other(world: &World) {
    let nodes = [world.node("a", 1, 30, 60).await, world.node("b", 2, 30, 60).await, world.node("c", 3, 30, 60).await];
    let bursts = (0..6).map(|burst: usize| async move {
        let orders: Vec<_> = (0..20).map(|at| world.order(nodes[(burst + at) % 3])).collect();
        world.store.order_accept_burst(&candidates(&orders)).await
    });
    let outcomes: Vec<_> = futures::future::join_all(bursts).await.into_iter().flatten().collect();
    let accepted = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let raced = outcomes.iter().filter(|outcome| **outcome == Err(StoreError::Raced)).count();
    assert_eq!((accepted, raced), (90, 30), "{outcomes:?}");
    history::replay(world).await.assert_sound(90);
}

async fn more_orders_than_share_a_commit_are_all_accepted(world: &World) {
    let node = world.node("a", 1, 1_000, 1_000).await;
    let mut wide = crate::support::inventory(1, 1_000, 1_000);
    wide.private_subnet = "10.64.0.0/16".parse().unwrap();
    world.beat(node, wide).await;
    let orders: Vec<_> = (0..nemordp_store::BURST_MAX + 1).map(|_| world.order(node)).collect();
    let outcomes = world.store.order_accept_burst(&candidates(&orders)).await;
    assert!(outcomes.iter().all(Result::is_ok));
    history::replay(world).await.assert_sound(orders.len());
    assert!(world.store.order_accept_burst(&[]).await.is_empty());
}

async fn the_history_of_a_node_has_no_gap_and_never_passes_its_capacity(world: &World) {
    let (a, b) = (world.node("a", 1, 3, 40).await, world.node("b", 2, 3, 40).await);
    let work = (0..8).map(|placer| async move {
        for round in 0..6 {
            let mut order = world.order(if (placer + round) % 2 == 0 { a } else { b });
            order.alternatives = vec![a, b];
            match world.store.order_accept(&order, None).await {
                Ok(once) if round % 3 != 2 => {
                    world.store.order_release(once.done().unwrap().instance.id).await.unwrap();
                }
                Ok(_) | Err(StoreError::Raced) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    futures::future::join_all(work).await;
    let verdict = history::replay(world).await;
    verdict.assert_sound(verdict.held);
    assert!(verdict.entries > verdict.held);
}
