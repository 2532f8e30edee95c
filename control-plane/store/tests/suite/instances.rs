use nemordp_model::{Lifecycle, SagaKind, SagaStatus};
use nemordp_store::{Effect, Hold, InstanceFilter, Page, SagaWrite, StoreError, TenantScope, Wish};
use nemordp_types::Reason;
use nemordp_types::instance::DesiredPower;

use crate::support::{SECOND, World, on_both_stores};

on_both_stores! {
    a_wish_raises_the_generation_and_starts_its_saga
    conflicting_wishes_are_refused_and_deletion_wins
    a_deleted_instance_holds_nothing
    pages_follow_each_other_without_gaps
}

async fn a_wish_raises_the_generation_and_starts_its_saga(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let id = world.active(node).await.instance.id;
    let scope = TenantScope::Only(world.tenant);
    let saga = world.saga(SagaKind::Stop);
    let changed = world.store.instance_change(scope, id, &Wish::PowerOff, &saga, None).await.unwrap().done().unwrap();
    assert_eq!((changed.instance.generation.0, changed.instance.desired_power()), (2, DesiredPower::Off));
    assert_eq!((changed.saga.id, changed.saga.status, changed.saga.steps.len()), (saga.id, SagaStatus::Running, 2));
    assert_eq!(world.store.instance_fetch(scope, id).await.unwrap(), changed.instance);
    assert_eq!(world.count_events("instance.changed").await, 1);
    let provisioning = world.accept(node).await.unwrap().instance.id;
    let restart = world.saga(SagaKind::Restart);
    let early = world.store.instance_change(scope, provisioning, &Wish::Keep, &restart, None);
    assert!(matches!(early.await, Err(StoreError::Refused(f)) if f.reason == Reason::Conflict));
}

async fn conflicting_wishes_are_refused_and_deletion_wins(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let id = world.active(node).await.instance.id;
    let stop = world.saga(SagaKind::Stop);
    world.store.instance_change(TenantScope::All, id, &Wish::PowerOff, &stop, None).await.unwrap();
    let lease = world.store.saga_claim("r1", 10 * SECOND).await.unwrap().unwrap().lease;
    let restart = world.saga(SagaKind::Restart);
    let refused = world.store.instance_change(TenantScope::All, id, &Wish::Keep, &restart, None).await;
    assert!(matches!(refused, Err(StoreError::Refused(f)) if f.message.contains("stop")));

    let deletes: Vec<_> = (0..8).map(|_| world.saga(SagaKind::Delete)).collect();
    let changes =
        deletes.iter().map(|saga| world.store.instance_change(TenantScope::All, id, &Wish::Delete, saga, None));
    let outcomes: Vec<_> = futures::future::join_all(changes).await;
    let sagas: std::collections::BTreeSet<_> =
        outcomes.into_iter().map(|o| o.unwrap().done().unwrap().saga.id).collect();
    assert_eq!(sagas.len(), 1, "eight deletions are one");
    let stopped = world.store.saga_fetch(TenantScope::All, stop.id).await.unwrap();
    assert_eq!(stopped.status, SagaStatus::Cancelled);
    assert_eq!(world.store.saga_renew(&lease, SECOND).await, Err(StoreError::StaleFence));
    let instance = world.store.instance_fetch(TenantScope::All, id).await.unwrap();
    assert_eq!((instance.lifecycle, instance.generation.0), (Lifecycle::Deleting, 3));
}

async fn a_deleted_instance_holds_nothing(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let id = world.active(node).await.instance.id;
    let saga = world.saga(SagaKind::Delete);
    world.store.instance_change(TenantScope::All, id, &Wish::Delete, &saga, None).await.unwrap();
    let lease = world.store.saga_claim("r1", SECOND).await.unwrap().unwrap().lease;
    let effects = [Effect::InstanceDeleted { instance_id: id }, Effect::InstanceDeleted { instance_id: id }];
    let write = SagaWrite {
        state: "{}",
        status: SagaStatus::Done,
        step: 2,
        failure: None,
        hold: Hold::Keep(SECOND),
        steps: &[],
        effects: &effects,
    };
    world.store.saga_write(&lease, &write).await.unwrap();
    assert_eq!(world.store.instance_fetch(TenantScope::All, id).await.unwrap().lifecycle, Lifecycle::Deleted);
    assert_eq!(world.store.secret_fetch(id).await.unwrap(), None);
    assert_eq!(world.store.node_fetch(node).await.unwrap().reserved, Default::default());
    assert_eq!(world.count_events("instance.deleted").await, 1);
}

async fn pages_follow_each_other_without_gaps(world: &World) {
    let node = world.node("a", 1, 20, 30).await;
    let mut expected = Vec::new();
    for _ in 0..7 {
        world.clock.advance(SECOND);
        expected.push(world.accept(node).await.unwrap().instance.id);
    }
    let (mut seen, mut page) = (Vec::new(), Page::first(3));
    loop {
        let got = world.store.instance_list(TenantScope::All, InstanceFilter::default(), page).await.unwrap();
        assert!(got.items.len() <= 3);
        seen.extend(got.items.iter().map(|i| i.id));
        let Some(next) = got.next else { break };
        page = Page::after(next, 3);
    }
    assert_eq!(seen, expected);
    let here = InstanceFilter { node_id: Some(world.node_id()), lifecycle: Some(Lifecycle::Provisioning) };
    assert!(world.store.instance_list(TenantScope::All, here, Page::first(3)).await.unwrap().items.is_empty());
}
