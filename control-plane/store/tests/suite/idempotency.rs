use std::sync::atomic::{AtomicU32, Ordering};

use nemordp_store::{Accepted, Idempotency, Once, Page, StoreError, StoredResponse, TenantScope};
use nemordp_types::{Failure, Reason};

use crate::support::{DAY, World, inventory, on_both_stores};

on_both_stores! {
    a_repeated_request_gets_the_first_answer_and_no_second_order
    another_request_with_the_same_key_is_refused
    the_same_key_at_the_same_time_makes_one_order
    a_request_that_failed_may_be_repeated_and_an_old_key_used_again
}

fn respond(accepted: &Accepted) -> StoredResponse {
    StoredResponse { status: 202, body: format!("{{\"order\":\"{}\"}}", accepted.order.id) }
}

fn intention(world: &World, fingerprint: u8) -> Idempotency<'static, Accepted> {
    Idempotency { api_key_id: world.key, key: "k1", fingerprint: [fingerprint; 32], lifetime: DAY, respond: &respond }
}

async fn orders(world: &World) -> usize {
    world.store.order_list(TenantScope::All, &Default::default(), Page::first(100)).await.unwrap().items.len()
}

async fn a_repeated_request_gets_the_first_answer_and_no_second_order(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    assert_eq!(world.store.idempotency_fetch(world.key, "k1", &[1; 32]).await.unwrap(), None);
    let first = world.store.order_accept(&world.order(node), Some(&intention(world, 1))).await.unwrap();
    let answer = respond(&first.done().unwrap());
    let again = world.store.order_accept(&world.order(node), Some(&intention(world, 1))).await.unwrap();
    assert_eq!(again, Once::Replayed(answer.clone()));
    assert_eq!(world.store.idempotency_fetch(world.key, "k1", &[1; 32]).await.unwrap(), Some(answer));
    assert_eq!(orders(world).await, 1);
}

async fn another_request_with_the_same_key_is_refused(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    world.store.order_accept(&world.order(node), Some(&intention(world, 1))).await.unwrap();
    let other = world.store.order_accept(&world.order(node), Some(&intention(world, 2))).await.unwrap_err();
    assert_eq!(other, StoreError::IdempotencyKeyReused);
    assert_eq!(Failure::from(other).reason, Reason::IdempotencyKeyReused);
    let early = world.store.idempotency_fetch(world.key, "k1", &[2; 32]).await.unwrap_err();
    assert_eq!(early, StoreError::IdempotencyKeyReused);
    assert_eq!(orders(world).await, 1);
}

async fn the_same_key_at_the_same_time_makes_one_order(world: &World) {
    let node = world.node("a", 1, 20, 20).await;
    let requests = (0..8)
        .map(|_| async { world.store.order_accept(&world.order(node), Some(&intention(world, 1))).await.unwrap() });
    let outcomes = futures::future::join_all(requests).await;
    let done: Vec<_> = outcomes.iter().filter_map(|o| o.clone().done()).collect();
    assert_eq!(done.len(), 1);
    let answer = Once::Replayed(respond(&done[0]));
    assert_eq!(outcomes.iter().filter(|o| **o == answer).count(), 7);
    assert_eq!(orders(world).await, 1);
}

async fn a_request_that_failed_may_be_repeated_and_an_old_key_used_again(world: &World) {
    let node = world.node("a", 1, 1, 10).await;
    let calls = AtomicU32::new(0);
    let counting = |accepted: &Accepted| {
        calls.fetch_add(1, Ordering::Relaxed);
        respond(accepted)
    };
    let key = |respond| Idempotency { api_key_id: world.key, key: "k2", fingerprint: [3; 32], lifetime: DAY, respond };
    let held = world.accept(node).await.unwrap();
    let full = world.store.order_accept(&world.order(node), Some(&key(&counting))).await;
    assert_eq!(full.unwrap_err(), StoreError::Raced);
    assert_eq!(calls.load(Ordering::Relaxed), 0, "a refusal stores no answer");
    world.store.order_release(held.instance.id).await.unwrap();
    assert!(world.store.order_accept(&world.order(node), Some(&key(&counting))).await.unwrap().done().is_some());
    world.clock.advance(2 * DAY);
    world.beat(node, inventory(1, 4, 10)).await;
    assert_eq!(world.store.idempotency_purge().await.unwrap(), 1);
    assert!(world.store.order_accept(&world.order(node), Some(&key(&counting))).await.unwrap().done().is_some());
}
