//! What is stuck calls a human, blocks everything but deletion, and goes on or is given up as the human says.

use nemordp_model::{EventKind, Lifecycle, OrderState, SagaKind, SagaStatus, Wish};
use nemordp_store::{EventFilter, Page, TenantScope};
use nemordp_types::Reason;
use nemordp_types::operation::OperationKind;

use crate::kit::{Backend, Bought, World, on_both_stores};
use crate::lifecycle::larger;
use crate::node::Fault;

async fn events(world: &World, kind: EventKind) -> usize {
    let events = world.tools.store.event_list(EventFilter::default(), Page::first(500)).await.unwrap();
    events.items.iter().filter(|event| event.kind == kind).count()
}

/// A larger size that its node refused, and whose undo it refused too.
async fn stuck_resize(world: &World) -> (Bought, nemordp_types::SagaId) {
    let bought = world.delivered().await;
    world.nodes.fault(OperationKind::EnsureInstance, Fault::Fails(Reason::NotOurs), 2);
    let saga = world.change(bought.instance, SagaKind::Resize, larger()).await;
    assert_eq!(world.settle(saga).await.status, SagaStatus::Stuck);
    assert_eq!(events(world, EventKind::SagaStuck).await, 1, "it calls");
    (bought, saga)
}

async fn a_stuck_change_blocks_the_others_until_it_goes_on(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let (bought, saga) = stuck_resize(&world).await;
    let refusal = world.refusal(bought.instance, SagaKind::Start, Wish::PowerOn).await;
    assert!(refusal.message.contains("stuck") && refusal.message.contains(&saga.to_string()), "{refusal:?}");
    let resumed = world.tools.store.saga_resume(TenantScope::All, saga, None, None).await.unwrap().done().unwrap();
    assert_eq!(resumed.status, SagaStatus::Unwinding, "where it was when it stuck");
    assert_eq!(world.settle(saga).await.status, SagaStatus::Unwound);
    world.audit().await;
}

async fn a_stuck_change_can_be_sent_forward_instead(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let (bought, saga) = stuck_resize(&world).await;
    let before = world.instance(bought.instance).await.spec.vcpu;
    let forward = Some(SagaStatus::Running);
    world.tools.store.saga_resume(TenantScope::All, saga, forward, None).await.unwrap();
    assert_eq!(world.settle(saga).await.status, SagaStatus::Done);
    assert_eq!(world.instance(bought.instance).await.spec.vcpu, before, "the undo had taken the size back already");
    world.audit().await;
}

async fn deletion_wins_over_what_is_stuck(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let (bought, saga) = stuck_resize(&world).await;
    let delete = world.change(bought.instance, SagaKind::Delete, Wish::Delete).await;
    assert_eq!(world.settle(delete).await.status, SagaStatus::Done);
    assert_eq!(world.saga(saga).await.status, SagaStatus::Cancelled, "nobody can send it on any more");
    world.audit().await;
}

async fn a_stuck_order_that_was_cleaned_up_by_hand_is_given_up_with_its_room(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    world.nodes.fault(OperationKind::SetPassword, Fault::Fails(Reason::NotOurs), 1);
    world.nodes.fault(OperationKind::DeleteInstance, Fault::Fails(Reason::NotOurs), 1);
    let bought = world.order().await;
    assert_eq!(world.settle(bought.saga).await.status, SagaStatus::Stuck);
    world.nodes.remove_by_hand(bought.instance);
    world.tools.store.saga_abandon(TenantScope::All, bought.saga, None).await.unwrap();
    assert_eq!(world.order_now(bought).await.state, OrderState::Failed);
    assert_eq!(world.instance(bought.instance).await.lifecycle, Lifecycle::Failed);
    assert_eq!(events(&world, EventKind::SagaAbandoned).await, 1);
    world.audit().await;
}

async fn a_stuck_deletion_that_was_cleaned_up_by_hand_is_done(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    world.nodes.fault(OperationKind::DeleteInstance, Fault::Fails(Reason::NotOurs), 1);
    let delete = world.change(bought.instance, SagaKind::Delete, Wish::Delete).await;
    assert_eq!(world.settle(delete).await.status, SagaStatus::Stuck);
    let again = world.change(bought.instance, SagaKind::Delete, Wish::Delete).await;
    assert_eq!(again, delete, "a second deletion finds the first one's operation");
    world.nodes.remove_by_hand(bought.instance);
    world.tools.store.saga_abandon(TenantScope::All, delete, None).await.unwrap();
    assert_eq!(world.instance(bought.instance).await.lifecycle, Lifecycle::Deleted);
    world.audit().await;
}

on_both_stores! {
    a_stuck_change_blocks_the_others_until_it_goes_on
    a_stuck_change_can_be_sent_forward_instead
    deletion_wins_over_what_is_stuck
    a_stuck_order_that_was_cleaned_up_by_hand_is_given_up_with_its_room
    a_stuck_deletion_that_was_cleaned_up_by_hand_is_done
}
