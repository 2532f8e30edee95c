//! Every step fails, for a while and for good; every undo too.

use std::collections::BTreeSet;
use std::time::Duration;

use nemordp_control_plane::reconcile::{Reconciler as _, SecondChance};
use nemordp_control_plane::saga::Engine;
use nemordp_control_plane::saga::carry::{Rest, carry};
use nemordp_model::{Affinity, Label, OrderState, Refusal, SagaKind, SagaStatus, Siting};
use nemordp_proof::{AccountCause, Verdict};
use nemordp_store::{TenantScope, Wish};
use nemordp_types::Reason;
use nemordp_types::guest::AccountState;
use nemordp_types::operation::OperationKind;
use tokio_util::sync::CancellationToken;

use crate::kit::{Backend, Bought, LEASE, World, on_both_stores};
use crate::node::Fault;

/// The changes that providing an order makes on its node.
const CHANGES: [OperationKind; 3] =
    [OperationKind::EnsureInstance, OperationKind::SetPassword, OperationKind::EndSessions];

async fn failed(world: &World, bought: Bought, reason: Reason) {
    let saga = world.settle(bought.saga).await;
    assert_eq!(saga.status, SagaStatus::Unwound, "{saga:?}");
    assert_eq!(saga.failure.map(|failure| failure.reason), Some(reason));
    let order = world.order_now(bought).await;
    assert_eq!((order.state, order.failure.map(|failure| failure.reason)), (OrderState::Failed, Some(reason)));
    world.audit().await;
}

async fn a_step_that_fails_for_good_is_undone(backend: Backend) {
    let world = World::with_nodes(2, backend).await;
    for kind in CHANGES {
        world.nodes.fault(kind, Fault::Fails(Reason::NotOurs), 1);
        failed(&world, world.order().await, Reason::NotOurs).await;
    }
    let cause = AccountCause::State(AccountState::Locked);
    world.nodes.verdict(Verdict::AccountState { cause });
    failed(&world, world.order().await, Reason::LoginAccountState).await;
}

async fn a_step_that_fails_for_a_while_is_tried_again_with_the_same_operation(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    for kind in CHANGES {
        for fault in [Fault::Fails(Reason::HostFailure), Fault::Unreachable, Fault::AnswerLost] {
            world.nodes.fault(kind, fault, 2);
            let bought = world.order().await;
            let saga = world.settle(bought.saga).await;
            assert_eq!(saga.status, SagaStatus::Done, "{kind:?}: {saga:?}");
        }
    }
    world.audit().await;
}

async fn tries_are_bounded(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    for kind in CHANGES {
        world.nodes.fault(kind, Fault::Fails(Reason::HostFailure), 1_000);
        failed(&world, world.order().await, Reason::HostFailure).await;
        world.nodes.heal();
    }
}

async fn what_one_node_cannot_do_another_does(backend: Backend) {
    let world = World::with_nodes(2, backend).await;
    world.nodes.fault(OperationKind::EnsureInstance, Fault::Fails(Reason::DiskFull), 1);
    let bought = world.delivered().await;
    assert_eq!(world.nodes.guest(bought.instance).unwrap().0, world.node_ids[1]);
    world.audit().await;
}

async fn whoever_goes_to_another_node_takes_its_group_and_its_labels_along(backend: Backend) {
    let world = World::with_nodes(4, backend).await;
    let label = |text: &str| Label::new(text, "name").unwrap();
    for node in [0, 1, 3] {
        let labels = BTreeSet::from([label("ssd")]);
        world.tools.store.node_set_labels(world.node_ids[node], &labels, &BTreeSet::new(), None).await.unwrap();
    }
    let group = Siting { group: Some(label("web")), affinity: Affinity::Apart, ..Siting::default() };
    let other = world.order_sited(1, group.clone()).await.unwrap();
    assert_eq!(world.settle(other.saga).await.status, SagaStatus::Done);
    world.nodes.fault(OperationKind::EnsureInstance, Fault::Fails(Reason::DiskFull), 1);
    let picky = Siting { labels: BTreeSet::from([label("ssd")]), ..group };
    let bought = world.order_sited(0, picky.clone()).await.unwrap();
    assert_eq!(world.settle(bought.saga).await.status, SagaStatus::Done);
    // One of its group lies on the second node, the third has not the label.
    let instance = world.tools.store.instance_fetch(TenantScope::All, bought.instance).await.unwrap();
    assert_eq!((instance.node_id, instance.siting), (world.node_ids[3], picky));
    let decided = world.tools.store.order_decision(TenantScope::All, bought.order).await.unwrap().unwrap();
    assert_eq!(decided.reserved, Some(world.node_ids[3]), "the decision that is kept is the one of its node");
    assert_eq!(decided.refusals.get(&Refusal::Affinity), Some(&1));
    assert_eq!(decided.refusals.get(&Refusal::Label), Some(&1));
    world.audit().await;
}

async fn a_node_that_cannot_be_left_at_once_is_left_later(backend: Backend) {
    let world = World::with_nodes(2, backend).await;
    world.nodes.fault(OperationKind::EnsureInstance, Fault::Fails(Reason::DiskFull), 1);
    world.nodes.fault(OperationKind::DeleteInstance, Fault::Unreachable, 3);
    let bought = world.delivered().await;
    assert_eq!(world.nodes.guest(bought.instance).unwrap().0, world.node_ids[1]);
    world.audit().await;
}

async fn what_no_node_can_do_is_undone(backend: Backend) {
    let world = World::with_nodes(4, backend).await;
    world.nodes.fault(OperationKind::EnsureInstance, Fault::Fails(Reason::DiskFull), 1_000);
    failed(&world, world.order().await, Reason::DiskFull).await;
}

async fn an_undo_that_fails_for_a_while_is_done_in_the_end(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    for fault in [Fault::Unreachable, Fault::AnswerLost, Fault::Fails(Reason::HostFailure)] {
        world.nodes.fault(OperationKind::SetPassword, Fault::Fails(Reason::NotOurs), 1);
        world.nodes.fault(OperationKind::DeleteInstance, fault, 3);
        failed(&world, world.order().await, Reason::NotOurs).await;
    }
}

/// An order whose undo finds the node away for longer than anybody waits.
async fn stuck(world: &World) -> Bought {
    world.nodes.fault(OperationKind::SetPassword, Fault::Fails(Reason::NotOurs), 1);
    world.nodes.fault(OperationKind::DeleteInstance, Fault::Unreachable, 1_000);
    let bought = world.order().await;
    let saga = world.settle(bought.saga).await;
    assert_eq!(saga.status, SagaStatus::Stuck);
    assert_eq!(saga.failure.unwrap().reason, Reason::NodeUnreachable);
    let node = world.tools.store.node_fetch(world.node_ids[0]).await.unwrap();
    assert_ne!(node.reserved.vcpu.0, 0, "what may still be there keeps its room");
    assert!(world.nodes.guest(bought.instance).is_some());
    bought
}

async fn a_stuck_undo_goes_on_when_a_human_says_so_and_keeps_its_cause(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = stuck(&world).await;
    world.nodes.heal();
    world.tools.store.saga_retry(bought.saga, true).await.unwrap();
    failed(&world, bought, Reason::NotOurs).await;
}

async fn a_stuck_undo_goes_on_by_itself_when_its_node_is_back(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = stuck(&world).await;
    world.nodes.heal();
    let reconciler = SecondChance::new(world.tools.store.clone(), world.tools.clock.clone(), Engine::new());
    assert_eq!(reconciler.run().await.unwrap().text, "1 stuck sagas, 0 taken up again");
    world.clock.advance(Duration::from_secs(301));
    assert_eq!(reconciler.run().await.unwrap().text, "1 stuck sagas, 1 taken up again");
    failed(&world, bought, Reason::NotOurs).await;
}

async fn a_refused_undo_waits_for_a_human_only(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    world.nodes.fault(OperationKind::SetPassword, Fault::Fails(Reason::NotOurs), 1);
    world.nodes.fault(OperationKind::DeleteInstance, Fault::Fails(Reason::NotOurs), 1);
    let bought = world.order().await;
    assert_eq!(world.settle(bought.saga).await.status, SagaStatus::Stuck);
    world.clock.advance(Duration::from_secs(3_000));
    let reconciler = SecondChance::new(world.tools.store.clone(), world.tools.clock.clone(), Engine::new());
    assert_eq!(reconciler.run().await.unwrap().text, "1 stuck sagas, 0 taken up again");
}

async fn a_deletion_outlasts_the_absence_of_its_node(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    world.nodes.fault(OperationKind::DeleteInstance, Fault::Unreachable, 40);
    let saga = world.change(bought.instance, SagaKind::Delete, Wish::Delete).await;
    assert_eq!(world.settle(saga).await.status, SagaStatus::Done);
    world.audit().await;
}

async fn an_order_is_called_off_while_its_node_works(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    world.nodes.fault(OperationKind::EnsureInstance, Fault::Hangs, 1);
    let bought = world.order().await;
    let leased = world.claim("works", bought.saga).await.unwrap();
    // A short lease is renewed often, and each renewal sees whether somebody asked to stop.
    let lease = Duration::from_millis(60);
    let stop = CancellationToken::new();
    let work = carry(&world.tools, leased, lease, &stop);
    let cancel = async {
        world.tools.store.order_cancel(TenantScope::All, bought.order, None).await.unwrap();
    };
    let (rest, ()) = tokio::join!(work, cancel);
    assert_eq!(rest, Rest::Ended);
    assert_eq!(world.saga(bought.saga).await.status, SagaStatus::Cancelled);
    assert_eq!(world.order_now(bought).await.state, OrderState::Cancelled);
    world.audit().await;
}

async fn an_order_is_called_off_just_before_its_first_step(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.order().await;
    let leased = world.claim("works", bought.saga).await.unwrap();
    world.tools.store.order_cancel(TenantScope::All, bought.order, None).await.unwrap();
    assert_eq!(carry(&world.tools, leased, LEASE, &CancellationToken::new()).await, Rest::Ended);
    assert_eq!(world.order_now(bought).await.state, OrderState::Cancelled);
    world.audit().await;
}

async fn a_replica_that_lost_its_lease_stops_and_changes_nothing(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    world.nodes.fault(OperationKind::EnsureInstance, Fault::Hangs, 1);
    let bought = world.order().await;
    let old = world.claim("old", bought.saga).await.unwrap();
    let stop = CancellationToken::new();
    let work = carry(&world.tools, old, Duration::from_millis(60), &stop);
    let adopt = async {
        while world.saga(bought.saga).await.steps[0].attempts == 0 {
            tokio::task::yield_now().await;
        }
        // A renewal that is under way may still see the time after the jump; then the next jump decides.
        for _ in 0..100 {
            world.clock.advance(LEASE * 2);
            if let Some(adopted) = world.tools.store.saga_claim("new", LEASE).await.unwrap() {
                return adopted;
            }
        }
        panic!("a lease that ended is not adopted");
    };
    let (rest, adopted) = tokio::join!(work, adopt);
    assert_eq!(rest, Rest::Lost);
    assert_eq!(adopted.lease.owner, "new");
    // The node still works on it: the new one is stopped too, and leaves the saga to whoever comes next.
    let stop = CancellationToken::new();
    stop.cancel();
    assert_eq!(carry(&world.tools, adopted, LEASE, &stop).await, Rest::Stopped);
    let third = world.claim("third", bought.saga).await;
    assert!(third.is_some(), "a lease that was given back can be taken at once");
}

on_both_stores! {
    a_step_that_fails_for_good_is_undone
    a_step_that_fails_for_a_while_is_tried_again_with_the_same_operation
    tries_are_bounded
    what_one_node_cannot_do_another_does
    whoever_goes_to_another_node_takes_its_group_and_its_labels_along
    a_node_that_cannot_be_left_at_once_is_left_later
    what_no_node_can_do_is_undone
    an_undo_that_fails_for_a_while_is_done_in_the_end
    a_stuck_undo_goes_on_when_a_human_says_so_and_keeps_its_cause
    a_stuck_undo_goes_on_by_itself_when_its_node_is_back
    a_refused_undo_waits_for_a_human_only
    a_deletion_outlasts_the_absence_of_its_node
    an_order_is_called_off_while_its_node_works
    an_order_is_called_off_just_before_its_first_step
    a_replica_that_lost_its_lease_stops_and_changes_nothing
}
