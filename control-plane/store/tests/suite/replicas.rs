use std::time::Duration;

use nemordp_store::{ReconcilerRun, Wake};
use nemordp_types::{Failure, Reason};

use crate::postgres::fresh_database;
use crate::support::{DAY, SECOND, World, on_both_stores};

on_both_stores! {
    a_role_has_one_owner_until_its_lease_ends
    what_reconcilers_found_is_kept_for_every_replica
    what_has_ended_is_forgotten_and_nothing_else
}

async fn a_role_has_one_owner_until_its_lease_ends(world: &World) {
    let hold = async |owner: &str| world.store.role_hold("sweeper", owner, 6 * SECOND).await.unwrap();
    let takers = futures::future::join_all(
        (0..8).map(|i| async move { world.store.role_hold("sweeper", &format!("r{i}"), 6 * SECOND).await.unwrap() }),
    );
    assert_eq!(takers.await.into_iter().filter(|held| *held).count(), 1, "one of eight gets it");
    let owner = world.store.role_owner("sweeper").await.unwrap().unwrap();
    world.clock.advance(5 * SECOND);
    assert!(hold(&owner).await, "kept");
    world.clock.advance(5 * SECOND);
    assert!(!hold("other").await);
    world.clock.advance(2 * SECOND);
    assert!(hold("other").await, "whoever died is replaced");
    assert!(!hold(&owner).await);
    world.store.role_release("sweeper", &owner).await.unwrap();
    assert!(!hold(&owner).await, "only its owner gives it back");
    world.store.role_release("sweeper", "other").await.unwrap();
    assert_eq!(world.store.role_owner("sweeper").await.unwrap(), None);
    assert!(hold(&owner).await);
}

async fn what_reconcilers_found_is_kept_for_every_replica(world: &World) {
    world.store.reconciler_want("drift").await.unwrap();
    world.store.reconciler_want("drift").await.unwrap();
    assert_eq!(world.store.reconciler_wanted().await.unwrap(), ["drift"]);
    let mut run = ReconcilerRun {
        name: "drift".to_owned(),
        runs: 1,
        at: world.now(),
        took: Duration::from_millis(7),
        outcome: Ok("1 domain_missing".to_owned()),
        details: Some(serde_json::json!([{ "finding": "domain_missing" }])),
    };
    world.store.reconciler_record(&run).await.unwrap();
    assert_eq!(world.store.reconciler_wanted().await.unwrap(), [""; 0], "the wish is granted");
    let other = world.reopen().await.unwrap();
    assert_eq!(other.reconciler_list().await.unwrap(), [run.clone()]);
    run.outcome = Err(Failure::new(Reason::Unavailable, "no"));
    (run.runs, run.details) = (2, None);
    other.reconciler_record(&run).await.unwrap();
    assert_eq!(world.store.reconciler_list().await.unwrap(), [run]);
    other.close().await;
}

async fn what_has_ended_is_forgotten_and_nothing_else(world: &World) {
    let node = world.node("a", 1, 8, 20).await;
    let active = world.active(node).await;
    world.store.secret_link(active.instance.id, &[5; 32], world.later(DAY)).await.unwrap();
    let store = &world.store;
    assert_eq!(store.secret_link_purge().await.unwrap(), 0);
    assert_eq!(store.certificate_ending(29 * DAY).await.unwrap(), []);
    world.clock.advance(2 * DAY);
    assert_eq!(store.secret_link_purge().await.unwrap(), 1);
    assert!(store.secret_fetch(active.instance.id).await.unwrap().is_some(), "the password stays for another link");
    assert_eq!(store.ticket_purge(30 * DAY).await.unwrap(), 0);
    let ending = store.certificate_ending(29 * DAY).await.unwrap();
    assert_eq!((ending.len(), ending[0].node_id), (1, node));
    assert_eq!(store.saga_details_purge(90 * DAY).await.unwrap(), 0);
    world.clock.advance(100 * DAY);
    assert_eq!(store.saga_details_purge(90 * DAY).await.unwrap(), 1);
    assert_eq!(store.saga_details_purge(90 * DAY).await.unwrap(), 0);
    let saga = store.saga_fetch(nemordp_store::TenantScope::All, active.order.saga_id).await.unwrap();
    assert!(saga.steps.is_empty() && saga.finished_at.is_some());
    assert_eq!(store.certificate_purge(30 * DAY).await.unwrap(), 0, "its node still shows it");
    assert_eq!(store.ticket_purge(30 * DAY).await.unwrap(), 1);
    let ports = store.port_pool(30 * DAY).await.unwrap();
    assert_eq!((ports.held, ports.resting, ports.rested), (1, 0, 0));
    store.order_release(active.instance.id).await.unwrap();
    assert_eq!(store.port_pool(30 * DAY).await.unwrap().resting, 1);
    world.clock.advance(31 * DAY);
    assert_eq!(store.port_pool(30 * DAY).await.unwrap().rested, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn replicas_wake_each_other() {
    let Some(url) = fresh_database().await else { return };
    let world = World::at(url, tempfile::tempdir().unwrap()).await;
    let other = world.reopen().await.unwrap();
    let mut wakes = other.wakes().await.unwrap();
    world.store.wake(Wake::Saga).await.unwrap();
    world.store.wake(Wake::Reconciler).await.unwrap();
    for told in [Wake::Saga, Wake::Reconciler] {
        assert_eq!(tokio::time::timeout(5 * SECOND, wakes.next()).await.unwrap().unwrap(), told);
    }
    drop(wakes);
    other.close().await;
    world.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_has_nobody_to_wake() {
    let world = World::on_sqlite().await;
    world.store.wake(Wake::Saga).await.unwrap();
    let mut wakes = world.store.wakes().await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(50), wakes.next()).await.is_err());
}
