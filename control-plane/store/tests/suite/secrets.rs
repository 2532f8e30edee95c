use nemordp_store::StoreError;
use nemordp_types::{Failure, Reason};

use crate::support::{SECOND, World, on_both_stores};

on_both_stores! {
    a_link_opens_exactly_once_under_concurrency
    an_expired_or_replaced_link_opens_nothing
}

async fn a_link_opens_exactly_once_under_concurrency(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let id = world.active(node).await.instance.id;
    world.store.secret_link(id, &[1; 32], world.later(60 * SECOND)).await.unwrap();
    assert!(world.store.secret_link_standing(&[1; 32]).await.unwrap().unwrap().1.revealed_at.is_none());
    let outcomes = futures::future::join_all((0..8).map(|_| world.store.secret_consume(&[1; 32]))).await;
    let opened: Vec<_> = outcomes.iter().filter_map(|o| o.as_ref().ok()).collect();
    assert_eq!(opened.len(), 1);
    assert_eq!((opened[0].instance_id, opened[0].sealed.as_slice()), (id, b"sealed".as_slice()));
    assert!(!format!("{:?}", opened[0]).contains("sealed"));
    assert_eq!(outcomes.iter().filter(|o| **o == Err(StoreError::AlreadyRevealed)).count(), 7);
    assert_eq!(Failure::from(StoreError::AlreadyRevealed).reason, Reason::AlreadyRevealed);
    assert_eq!(world.store.secret_fetch(id).await.unwrap(), None, "nobody has it any more");
    assert_eq!(world.store.secret_standing(id).await.unwrap().unwrap().revealed_at, Some(world.now()));
    assert_eq!(world.count_events("credentials.revealed").await, 1);
    let again = world.store.secret_link(id, &[2; 32], world.later(SECOND)).await;
    assert_eq!(again, Err(StoreError::AlreadyRevealed));
}

async fn an_expired_or_replaced_link_opens_nothing(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let id = world.active(node).await.instance.id;
    world.store.secret_link(id, &[1; 32], world.later(60 * SECOND)).await.unwrap();
    world.store.secret_link(id, &[2; 32], world.later(60 * SECOND)).await.unwrap();
    let missing = StoreError::NotFound { noun: "credentials" };
    assert_eq!(world.store.secret_consume(&[1; 32]).await, Err(missing.clone()));
    world.clock.advance(60 * SECOND);
    assert_eq!(world.store.secret_consume(&[2; 32]).await, Err(missing.clone()));
    assert_eq!(world.store.secret_link_standing(&[2; 32]).await.unwrap(), None);
    assert_eq!(world.store.secret_fetch(id).await.unwrap().as_deref(), Some(b"sealed".as_slice()));
    world.store.secret_link(id, &[3; 32], world.later(SECOND)).await.unwrap();
    assert_eq!(world.store.secret_consume(&[3; 32]).await.unwrap().instance_id, id);
}
