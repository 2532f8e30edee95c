//! Deletion wins over everything, at any instant; everything else waits its turn with a clear answer.

use std::time::Duration;

use nemordp_control_plane::reconcile::{Deletion, Reconciler as _};
use nemordp_control_plane::saga::carry::{Rest, carry};
use nemordp_control_plane::saga::{Engine, plan};
use nemordp_model::{Lifecycle, SagaKind, SagaStatus, Wish};
use nemordp_store::TenantScope;
use nemordp_types::operation::OperationKind;
use nemordp_types::{Reason, SagaId};
use tokio_util::sync::CancellationToken;

use crate::crash::crashed_at;
use crate::kit::{Backend, World, on_both_stores};
use crate::lifecycle::{cases, larger, later};
use crate::node::Fault;

/// Instants of each change at which the deletion comes: spread over all of it.
const INSTANTS: [u32; 6] = [0, 3, 9, 18, 33, 60];

async fn deletion_wins_over_every_change_at_any_instant(backend: Backend) {
    for case in cases() {
        let world = World::with_nodes(1, backend).await;
        for n in INSTANTS {
            let bought = world.ready_for(&case).await;
            let saga = world.change(bought.instance, case.kind, case.wish.clone()).await;
            crashed_at(&world, saga, n).await;
            let delete = world.change(bought.instance, SagaKind::Delete, Wish::Delete).await;
            assert_eq!(world.settle(delete).await.status, SagaStatus::Done, "{}, instant {n}", case.kind);
            assert!(!world.saga(saga).await.status.is_open());
            world.audit().await;
        }
    }
}

async fn a_deletion_with_grace_wins_too_and_what_was_under_way_can_be_had_back(backend: Backend) {
    for case in cases() {
        let world = World::with_nodes(1, backend).await;
        for n in INSTANTS {
            let bought = world.ready_for(&case).await;
            let saga = world.change(bought.instance, case.kind, case.wish.clone()).await;
            crashed_at(&world, saga, n).await;
            let (kind, wish) = later();
            let delete = world.change(bought.instance, kind, wish).await;
            assert_eq!(world.settle(delete).await.status, SagaStatus::Done, "{}, instant {n}", case.kind);
            assert!(!world.nodes.guest(bought.instance).unwrap().1.running);
            let restore = world.change(bought.instance, SagaKind::Restore, Wish::Restore).await;
            assert_eq!(world.settle(restore).await.status, SagaStatus::Done, "{}, instant {n}", case.kind);
            world.audit().await;
            let delete = world.change(bought.instance, SagaKind::Delete, Wish::Delete).await;
            assert_eq!(world.settle(delete).await.status, SagaStatus::Done);
            world.audit().await;
        }
    }
}

/// Begins a deletion, as two customers do at once.
async fn delete(world: &World, instance: nemordp_types::InstanceId) -> SagaId {
    let (clock, entropy) = (world.tools.clock.as_ref(), world.tools.entropy.as_ref());
    let saga = plan::begin(SagaKind::Delete, clock, entropy).unwrap();
    let changed = world.tools.store.instance_change(TenantScope::All, instance, &Wish::Delete, &saga, None).await;
    changed.unwrap().done().unwrap().saga.id
}

async fn two_deletions_at_once_are_one(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    for _ in 0..10 {
        let bought = world.delivered().await;
        let (one, other) = tokio::join!(delete(&world, bought.instance), delete(&world, bought.instance));
        assert_eq!(one, other);
        assert_eq!(world.settle(one).await.status, SagaStatus::Done);
    }
    world.audit().await;
}

async fn a_deletion_during_a_clone_ends_it_and_leaves_nothing(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    world.nodes.fault(OperationKind::EnsureInstance, Fault::Hangs, 1);
    let reinstall = world.change(bought.instance, SagaKind::Reinstall, Wish::Reinstall { template: None }).await;
    let leased = world.claim("clones", reinstall).await.unwrap();
    let stop = CancellationToken::new();
    let clones = carry(&world.tools, leased, Duration::from_millis(90), &stop);
    let (rest, deletion) = tokio::join!(clones, delete(&world, bought.instance));
    assert_eq!(rest, Rest::Lost, "whoever clones learns it at the next sign of life");
    assert_eq!(world.saga(reinstall).await.status, SagaStatus::Cancelled);
    assert_eq!(world.settle(deletion).await.status, SagaStatus::Done);
    world.audit().await;
}

async fn conflicting_requests_wait_and_are_told_for_what(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    let reinstall = world.change(bought.instance, SagaKind::Reinstall, Wish::Reinstall { template: None }).await;
    for (kind, wish) in [
        (SagaKind::Resize, larger()),
        (SagaKind::Suspend, Wish::Suspend),
        (SagaKind::PasswordReset, Wish::Keep),
        (SagaKind::Start, Wish::PowerOn),
    ] {
        let refusal = world.refusal(bought.instance, kind, wish).await;
        assert_eq!(refusal.reason, Reason::Conflict);
        let names = refusal.message.contains(&reinstall.to_string()) && refusal.message.contains("reinstall");
        assert!(names, "the answer names what is under way: {refusal:?}");
    }
    assert_eq!(world.settle(reinstall).await.status, SagaStatus::Done);
    world.audit().await;
}

async fn what_is_to_be_deleted_is_off_until_then_and_goes_by_itself(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    let at = world.tools.clock.now().checked_add(Duration::from_secs(3_600)).unwrap();
    let saga = world.change(bought.instance, SagaKind::DeleteLater, Wish::DeleteLater { at }).await;
    assert_eq!(world.settle(saga).await.status, SagaStatus::Done);
    let refusal = world.refusal(bought.instance, SagaKind::Start, Wish::PowerOn).await;
    assert_eq!((refusal.reason, refusal.field.as_deref()), (Reason::Conflict, Some("delete_after")));
    let tools = &world.tools;
    let reaper = Deletion::new(tools.store.clone(), tools.clock.clone(), tools.entropy.clone(), Engine::new());
    assert_eq!(reaper.run().await.unwrap().text, "0 instances overdue, 0 deletions begun");
    assert_eq!(world.instance(bought.instance).await.lifecycle, Lifecycle::Active);
    world.clock.advance(Duration::from_secs(3_601));
    assert_eq!(reaper.run().await.unwrap().text, "1 instances overdue, 1 deletions begun");
    assert_eq!(reaper.run().await.unwrap().text, "0 instances overdue, 0 deletions begun", "once");
    let (clock, entropy) = (tools.clock.as_ref(), tools.entropy.as_ref());
    let again = plan::begin(SagaKind::Delete, clock, entropy).unwrap();
    let changed = tools.store.instance_change(TenantScope::All, bought.instance, &Wish::Delete, &again, None).await;
    let begun = changed.unwrap().done().unwrap().saga.id;
    assert_eq!(world.settle(begun).await.status, SagaStatus::Done);
    world.audit().await;
}

on_both_stores! {
    deletion_wins_over_every_change_at_any_instant
    a_deletion_with_grace_wins_too_and_what_was_under_way_can_be_had_back
    two_deletions_at_once_are_one
    a_deletion_during_a_clone_ends_it_and_leaves_nothing
    conflicting_requests_wait_and_are_told_for_what
    what_is_to_be_deleted_is_off_until_then_and_goes_by_itself
}
