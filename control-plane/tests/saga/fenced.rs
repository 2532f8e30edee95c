//! A node that is off, as its operator says: what waits for it ends at once or goes elsewhere, and what it missed is done
//! before anything starts there again.

use nemordp_control_plane::reconcile::{Realignment, Reconciler as _};
use nemordp_control_plane::saga::Engine;
use nemordp_control_plane::saga::carry::{Rest, carry};
use nemordp_model::{Lifecycle, OrderState, SagaKind, SagaStatus, Wish};
use nemordp_types::operation::OperationKind;
use nemordp_types::{InstanceId, NodeId, Reason, SagaId};
use tokio_util::sync::CancellationToken;

use crate::kit::{Backend, LEASE, World, on_both_stores};
use crate::lifecycle::{cases, later};
use crate::node::Fault;

impl World {
    /// What is due now, without any time passing, until nothing is; false when the saga is still open.
    async fn ends_at_once(&self, saga: SagaId) -> bool {
        while self.saga(saga).await.status.is_open() {
            let Some(leased) = self.claim("at once", saga).await else { return false };
            carry(&self.tools, leased, LEASE, &CancellationToken::new()).await;
        }
        true
    }

    /// Brings in line what is out of it; how many there were.
    pub(crate) async fn realign(&self) -> usize {
        let store = &self.tools.store;
        let found = store.instance_list_misaligned(200).await.unwrap().len();
        let (clock, entropy) = (self.tools.clock.clone(), self.tools.entropy.clone());
        let told = Realignment::new(store.clone(), clock, entropy, Engine::new()).run().await.unwrap().text;
        assert!(told.starts_with(&format!("{found} instances")), "{told}");
        found
    }

    /// The node is well again, and everything that it missed is done.
    async fn comes_back(&self, index: usize, expected: usize) {
        self.unfence(index).await;
        self.node_speaks(index).await;
        assert_eq!(self.realign().await, expected);
        assert_eq!(self.realign().await, 0, "a second run finds nothing to do");
        while let Some(leased) = self.tools.store.saga_claim("realigns", LEASE).await.unwrap() {
            carry(&self.tools, leased, LEASE, &CancellationToken::new()).await;
        }
        self.node_speaks(index).await;
    }

    /// What an operator does with what is left on a machine: it must not run.
    fn clean_up(&self, node: NodeId, id: InstanceId) {
        let left = self.nodes.guests().into_iter().find(|(of, found, _)| (*of, *found) == (node, id));
        assert!(!left.expect("its disk is kept").2.running, "{id} runs where it may not");
        self.nodes.remove_from(node, id);
    }
}

async fn an_order_that_waits_for_a_dead_node_goes_to_another_at_once(backend: Backend) {
    let world = World::with_nodes(2, backend).await;
    world.nodes.switch_off(world.node_ids[0], true);
    let bought = world.order_at(0).await;
    assert!(!world.ends_at_once(bought.saga).await, "it waits for the node");
    world.fence(0).await;
    assert!(world.ends_at_once(bought.saga).await);
    assert_eq!(world.order_now(bought).await.state, OrderState::Active);
    assert_eq!(world.nodes.guest(bought.instance).unwrap().0, world.node_ids[1]);
    world.audit().await;
}

async fn an_order_that_was_half_built_on_a_dead_node_never_runs_there_again(backend: Backend) {
    let world = World::with_nodes(2, backend).await;
    world.nodes.fault(OperationKind::SetPassword, Fault::Unreachable, 1);
    let bought = world.order_at(0).await;
    assert!(!world.ends_at_once(bought.saga).await);
    world.fence(0).await;
    assert!(world.ends_at_once(bought.saga).await);
    assert_eq!(world.order_now(bought).await.state, OrderState::Active);
    world.comes_back(0, 0).await;
    world.clean_up(world.node_ids[0], bought.instance);
    world.audit().await;
}

async fn without_another_node_the_order_fails_and_says_why(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    world.nodes.switch_off(world.node_ids[0], true);
    let bought = world.order().await;
    assert!(!world.ends_at_once(bought.saga).await);
    world.fence(0).await;
    assert!(world.ends_at_once(bought.saga).await);
    let order = world.order_now(bought).await;
    assert_eq!((order.state, order.failure.unwrap().reason), (OrderState::Failed, Reason::NodeFenced));
    world.audit().await;
}

async fn every_change_ends_at_once_and_what_the_node_missed_is_done_when_it_is_back(backend: Backend) {
    let mut cases = cases();
    cases.push(crate::lifecycle::Case { before: None, kind: SagaKind::PasswordReset, wish: Wish::Keep });
    for case in cases {
        let world = World::with_nodes(1, backend).await;
        let bought = world.ready_for(&case).await;
        let before = world.instance(bought.instance).await;
        world.nodes.switch_off(world.node_ids[0], true);
        let saga = world.change(bought.instance, case.kind, case.wish.clone()).await;
        if !case.kind.is_patient() {
            assert!(!world.ends_at_once(saga).await, "{}", case.kind);
        }
        world.fence(0).await;
        assert!(world.ends_at_once(saga).await, "{}", case.kind);
        let (ended, now) = (world.saga(saga).await, world.instance(bought.instance).await);
        if case.kind.is_patient() {
            assert_eq!(ended.status, SagaStatus::Done, "{}", case.kind);
            assert_ne!(now.former(), before.former(), "what is wanted holds");
        } else {
            assert_eq!(ended.status, SagaStatus::Unwound, "{}", case.kind);
            assert_eq!(ended.failure.unwrap().reason, Reason::NodeFenced, "{}", case.kind);
            assert_eq!(now.former().spec.power, before.former().spec.power, "what was wanted before holds again");
        }
        let missed = now.misaligned_at.is_some();
        assert_eq!(missed, case.kind != SagaKind::PasswordReset, "{}", case.kind);
        if missed {
            let refused = world.refusal(bought.instance, SagaKind::Stop, Wish::PowerOff).await;
            assert_eq!(refused.reason, Reason::Conflict);
        }
        world.comes_back(0, usize::from(missed)).await;
        world.audit().await;
    }
}

async fn a_change_that_was_done_on_the_dead_node_is_taken_back_before_it_starts(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    world.nodes.fault(OperationKind::EnsureInstance, Fault::FailsLate(Reason::HostFailure), 1);
    let reinstall = world.change(bought.instance, SagaKind::Reinstall, Wish::Reinstall { template: None }).await;
    assert!(!world.ends_at_once(reinstall).await);
    assert_eq!(world.nodes.guest(bought.instance).unwrap().1.disks.len(), 2);
    world.fence(0).await;
    assert!(world.ends_at_once(reinstall).await);
    assert_eq!(world.saga(reinstall).await.status, SagaStatus::Unwound);
    world.unfence(0).await;
    world.node_speaks(0).await;
    assert!(!world.nodes.guest(bought.instance).unwrap().1.running, "not before it is as it was");
    world.comes_back(0, 1).await;
    assert!(world.nodes.guest(bought.instance).unwrap().1.running);
    world.audit().await;
}

async fn a_deletion_does_not_wait_for_a_machine_that_is_off(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    world.nodes.switch_off(world.node_ids[0], true);
    let delete = world.change(bought.instance, SagaKind::Delete, Wish::Delete).await;
    assert!(!world.ends_at_once(delete).await);
    world.fence(0).await;
    assert!(world.ends_at_once(delete).await);
    assert_eq!(world.saga(delete).await.status, SagaStatus::Done);
    assert_eq!(world.instance(bought.instance).await.lifecycle, Lifecycle::Deleted);
    world.comes_back(0, 0).await;
    world.clean_up(world.node_ids[0], bought.instance);
    world.audit().await;
}

async fn deletions_win_over_what_the_node_missed(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    world.fence(0).await;
    let suspend = world.change(bought.instance, SagaKind::Suspend, Wish::Suspend).await;
    assert!(world.ends_at_once(suspend).await);
    let (kind, wish) = later();
    let grace = world.change(bought.instance, kind, wish).await;
    assert!(world.ends_at_once(grace).await);
    world.comes_back(0, 1).await;
    world.audit().await;
    let delete = world.change(bought.instance, SagaKind::Delete, Wish::Delete).await;
    assert_eq!(world.settle(delete).await.status, SagaStatus::Done);
    world.audit().await;
}

async fn whoever_holds_the_lease_loses_it_when_the_node_is_fenced(backend: Backend) {
    let world = World::with_nodes(2, backend).await;
    world.nodes.fault(OperationKind::EnsureInstance, Fault::Hangs, 1);
    let bought = world.order_at(0).await;
    let leased = world.claim("waits", bought.saga).await.unwrap();
    let stop = CancellationToken::new();
    let waits = carry(&world.tools, leased, std::time::Duration::from_millis(90), &stop);
    let fences = async {
        while world.nodes.memory().journal.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        world.fence(0).await;
    };
    let (rest, ()) = tokio::join!(waits, fences);
    assert_eq!(rest, Rest::Lost, "and not only when its deadline is over");
    assert!(world.ends_at_once(bought.saga).await);
    assert_eq!(world.order_now(bought).await.state, OrderState::Active);
    world.audit().await;
}

on_both_stores! {
    an_order_that_waits_for_a_dead_node_goes_to_another_at_once
    an_order_that_was_half_built_on_a_dead_node_never_runs_there_again
    without_another_node_the_order_fails_and_says_why
    every_change_ends_at_once_and_what_the_node_missed_is_done_when_it_is_back
    a_change_that_was_done_on_the_dead_node_is_taken_back_before_it_starts
    a_deletion_does_not_wait_for_a_machine_that_is_off
    deletions_win_over_what_the_node_missed
    whoever_holds_the_lease_loses_it_when_the_node_is_fenced
}
