use nemordp_store::{Page, StoreError, TicketStanding};
use nemordp_types::{Failure, Reason};

use crate::support::{DAY, World, on_both_stores, region};

on_both_stores! {
    the_same_ticket_and_key_give_the_same_certificate_again
    a_ticket_with_another_key_is_refused_and_told
    an_expired_or_unknown_ticket_is_refused
    a_bound_ticket_enrolls_its_node_again_and_revokes_the_old_certificate
    the_revocation_list_is_numbered
    a_taken_name_is_refused_and_leaves_the_ticket_fresh
}

async fn the_same_ticket_and_key_give_the_same_certificate_again(world: &World) {
    world.ticket(1, None).await;
    let fresh = TicketStanding::Fresh { bound_node_id: None, region: region() };
    assert_eq!(world.store.ticket_check(&[1; 32], &[7; 32]).await.unwrap(), fresh);
    let request = world.enroll_request(world.node_id(), "a", 1, 7);
    // The answers of some are lost: each asks with a certificate of its own, all get the first one.
    let requests: Vec<_> = (0..8)
        .map(|i| {
            let mut other = world.enroll_request(world.node_id(), "a", 1, 7);
            other.certificate.der = vec![i; 4];
            other
        })
        .chain([request])
        .collect();
    let outcomes = futures::future::join_all(requests.iter().map(|r| world.store.node_enroll(r))).await;
    let first = outcomes[0].clone().unwrap();
    assert!(outcomes.iter().all(|o| o.as_ref() == Ok(&first)), "{outcomes:?}");
    let used = TicketStanding::Used { node_id: first.node_id, certificate_der: first.certificate_der };
    assert_eq!(world.store.ticket_check(&[1; 32], &[7; 32]).await.unwrap(), used);
    assert_eq!(world.store.node_list(Page::first(10)).await.unwrap().items.len(), 1);
    assert_eq!(world.count_events("node.enrolled").await, 1);
    let ticket = world.store.ticket_list(Page::first(10)).await.unwrap().items.remove(0);
    assert_eq!(ticket.used_by, Some(first.node_id));
}

async fn a_ticket_with_another_key_is_refused_and_told(world: &World) {
    world.ticket(1, None).await;
    world.store.node_enroll(&world.enroll_request(world.node_id(), "a", 1, 7)).await.unwrap();
    let thief = world.store.node_enroll(&world.enroll_request(world.node_id(), "b", 1, 8)).await;
    assert_eq!(thief, Err(StoreError::TicketReused));
    assert_eq!(Failure::from(StoreError::TicketReused).reason, Reason::TicketReused);
    assert_eq!(world.store.ticket_check(&[1; 32], &[8; 32]).await, Err(StoreError::TicketReused));
    assert_eq!(world.count_events("ticket.reused").await, 2);
    assert_eq!(world.store.node_list(Page::first(10)).await.unwrap().items.len(), 1);
}

async fn an_expired_or_unknown_ticket_is_refused(world: &World) {
    world.ticket(1, None).await;
    assert_eq!(world.store.ticket_check(&[2; 32], &[7; 32]).await, Err(StoreError::TicketInvalid));
    world.clock.advance(2 * DAY);
    assert_eq!(world.store.ticket_check(&[1; 32], &[7; 32]).await, Err(StoreError::TicketExpired));
    let late = world.store.node_enroll(&world.enroll_request(world.node_id(), "a", 1, 7)).await;
    assert_eq!(late, Err(StoreError::TicketExpired));
}

async fn a_bound_ticket_enrolls_its_node_again_and_revokes_the_old_certificate(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let before = world.store.node_fetch(node).await.unwrap().certificate_serial;
    world.ticket(2, Some(node)).await;
    let stranger = world.store.node_enroll(&world.enroll_request(world.node_id(), "b", 2, 9)).await;
    assert!(matches!(stranger, Err(StoreError::Refused(f)) if f.reason == Reason::IdentityMismatch));
    world.store.node_enroll(&world.enroll_request(node, "a", 2, 9)).await.unwrap();
    let list = world.store.revocation_list().await.unwrap();
    assert_eq!((list.number, list.serials), (1, vec![before]));
    let now = world.store.node_fetch(node).await.unwrap();
    assert_eq!(now.certificate_serial.last(), Some(&9));
}

async fn the_revocation_list_is_numbered(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    assert_eq!(world.store.revocation_list().await.unwrap().number, 0);
    let first = world.store.node_fetch(node).await.unwrap().certificate_serial;
    let renewed = world.enroll_request(node, "a", 1, 33).certificate;
    world.store.certificate_record(node, &renewed).await.unwrap();
    assert_eq!(world.store.certificate_revoke(&first).await.unwrap(), 1);
    assert_eq!(world.store.certificate_revoke(&first).await.unwrap(), 1, "safe to repeat");
    assert_eq!(world.store.certificate_revoke(&renewed.serial).await.unwrap(), 2);
    let list = world.store.revocation_list().await.unwrap();
    assert_eq!((list.number, list.serials.len()), (2, 2));
    assert!(matches!(world.store.certificate_revoke(b"none").await, Err(StoreError::NotFound { .. })));
    world.clock.advance(31 * DAY);
    let list = world.store.revocation_list().await.unwrap();
    assert_eq!((list.number, list.serials.len()), (2, 0), "what expired needs no revocation");
}

async fn a_taken_name_is_refused_and_leaves_the_ticket_fresh(world: &World) {
    world.node("a", 1, 4, 10).await;
    world.ticket(2, None).await;
    let taken = world.store.node_enroll(&world.enroll_request(world.node_id(), "a", 2, 2)).await;
    assert_eq!(taken, Err(StoreError::AlreadyExists { field: "node_name" }));
    let standing = world.store.ticket_check(&[2; 32], &[2; 32]).await.unwrap();
    assert!(matches!(standing, TicketStanding::Fresh { .. }));
    world.store.node_enroll(&world.enroll_request(world.node_id(), "b", 2, 2)).await.unwrap();
}
