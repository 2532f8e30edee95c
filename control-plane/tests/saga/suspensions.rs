//! Suspensions at their time: told ahead, carried out by a node that nobody reaches, brought in line once.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_control_plane::reconcile::{Reconciler as _, SuspensionsAhead};
use nemordp_model::{SagaKind, SagaStatus, SuspensionState, Wish};
use nemordp_store::{Page, SagaFilter, TenantScope};
use nemordp_types::operation::OperationKind;
use nemordp_types::{Clock as _, InstanceId, OperationId, Reason, SagaId};

use crate::kit::{Backend, World, on_both_stores};
use crate::node::Fault;

const MINUTE: Duration = Duration::from_secs(60);

fn reconciler(world: &World) -> SuspensionsAhead {
    SuspensionsAhead::new(world.tools.store.clone(), Arc::clone(&world.tools.provider))
}

impl World {
    /// Has an instance suspended after this time.
    pub(crate) async fn suspend_in(&self, id: InstanceId, after: Duration) -> Timestamp {
        let at = self.clock.now().checked_add(after).unwrap();
        let operation = OperationId::new(self.clock.as_ref(), self.entropy.as_ref());
        self.tools.store.suspension_schedule(TenantScope::All, id, operation, at, None).await.unwrap();
        at
    }

    pub(crate) async fn suspend_never(&self, id: InstanceId) {
        let operation = OperationId::new(self.clock.as_ref(), self.entropy.as_ref());
        self.tools.store.suspension_cancel(TenantScope::All, id, operation).await.unwrap();
    }

    pub(crate) async fn tell_ahead(&self) -> String {
        reconciler(self).run().await.unwrap().text
    }

    /// The newest saga of an instance.
    async fn newest(&self, id: InstanceId) -> (SagaId, SagaKind) {
        let filter = SagaFilter { instance_id: Some(id), ..SagaFilter::default() };
        let sagas = self.tools.store.saga_list(TenantScope::All, filter, Page::first(200)).await.unwrap();
        sagas.items.last().map(|saga| (saga.id, saga.kind)).unwrap()
    }
}

async fn nodes_are_told_ahead_once_and_told_when_it_is_called_off(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    let node = world.node_ids[0];
    assert_eq!(world.tell_ahead().await, "0 told");
    let at = world.suspend_in(bought.instance, MINUTE).await;
    world.nodes.cut(node, true);
    let told = world.tell_ahead().await;
    assert!(told.starts_with("0 told, the next run tries again") && told.contains("no answer"), "{told}");
    world.nodes.cut(node, false);
    assert_eq!(world.tell_ahead().await, "1 told");
    assert_eq!(world.nodes.scheduled(node, bought.instance), Some(at));
    let known = world.tools.store.suspension_known(bought.instance).await.unwrap().unwrap();
    assert_eq!((known.state, known.node_id), (SuspensionState::Placed, Some(node)));
    assert_eq!(world.tell_ahead().await, "0 told", "a second run finds nothing to do");
    let later = world.suspend_in(bought.instance, 2 * MINUTE).await;
    assert_eq!(world.tell_ahead().await, "1 told");
    assert_eq!(world.nodes.scheduled(node, bought.instance), Some(later), "put off");
    world.suspend_never(bought.instance).await;
    assert_eq!(world.tell_ahead().await, "1 told");
    assert_eq!(world.nodes.scheduled(node, bought.instance), None);
    assert_eq!(world.tools.store.suspension_known(bought.instance).await.unwrap(), None);
    assert_eq!(world.tell_ahead().await, "0 told");
}

async fn what_is_scheduled_for_an_instance_that_is_gone_is_forgotten(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    world.suspend_in(bought.instance, MINUTE).await;
    let delete = world.change(bought.instance, SagaKind::Delete, Wish::Delete).await;
    assert_eq!(world.settle(delete).await.status, SagaStatus::Done);
    assert_eq!(world.tell_ahead().await, "1 told");
    assert_eq!(world.tools.store.suspension_known(bought.instance).await.unwrap(), None);
    world.audit().await;
}

async fn a_node_that_nobody_reaches_suspends_at_its_time_and_both_sides_agree_afterwards(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    let (id, node) = (bought.instance, world.node_ids[0]);
    world.suspend_in(id, MINUTE).await;
    world.tell_ahead().await;
    world.nodes.cut(node, true);
    world.clock.advance(2 * MINUTE);
    world.nodes.time_comes(world.clock.now());
    let guest = world.nodes.guest(id).unwrap().1;
    assert!(!guest.running && !guest.forwarded);
    world.nodes.cut(node, false);
    let report = world.nodes.suspended(node)[0];
    world.node_speaks(0).await;
    let (saga, kind) = world.newest(id).await;
    assert_eq!(kind, SagaKind::Suspend);
    assert_eq!(world.settle(saga).await.status, SagaStatus::Done);
    assert!(world.instance(id).await.suspended_at.is_some());
    world.audit().await;
    world.clock.advance(MINUTE);
    // The answer was lost, and the customer pays in between: the node's second word changes nothing.
    let unsuspend = world.change(id, SagaKind::Unsuspend, Wish::Unsuspend).await;
    assert_eq!(world.settle(unsuspend).await.status, SagaStatus::Done);
    assert!(world.suspension_happened(&report).await);
    assert_eq!(world.newest(id).await.0, unsuspend);
    assert!(world.nodes.guest(id).unwrap().1.running);
    world.audit().await;
}

async fn a_suspension_that_was_called_off_too_late_is_taken_back(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    let (id, node) = (bought.instance, world.node_ids[0]);
    for put_off in [false, true] {
        world.suspend_in(id, MINUTE).await;
        world.tell_ahead().await;
        world.nodes.cut(node, true);
        world.clock.advance(2 * MINUTE);
        world.nodes.time_comes(world.clock.now());
        if put_off {
            world.suspend_in(id, 60 * MINUTE).await;
        } else {
            world.suspend_never(id).await;
        }
        world.nodes.cut(node, false);
        let told = world.tell_ahead().await;
        assert!(told.contains("it has happened"), "the node tells it first: {told}");
        world.node_speaks(0).await;
        let (saga, kind) = world.newest(id).await;
        assert_eq!(kind, SagaKind::Realign);
        assert_eq!(world.settle(saga).await.status, SagaStatus::Done);
        assert!(world.nodes.guest(id).unwrap().1.running, "it is wanted on, and on it is");
        let known = world.tools.store.suspension_known(id).await.unwrap();
        assert_eq!(known.is_some(), put_off, "what was put off still stands");
        world.audit().await;
    }
}

async fn a_suspension_that_happens_amid_other_work_waits_for_its_end(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    let (id, node) = (bought.instance, world.node_ids[0]);
    world.suspend_in(id, MINUTE).await;
    world.tell_ahead().await;
    world.nodes.fault(OperationKind::PowerInstance, Fault::Fails(Reason::HostFailure), 2);
    let restart = world.change(id, SagaKind::Restart, Wish::PowerOn).await;
    world.clock.advance(2 * MINUTE);
    world.nodes.time_comes(world.clock.now());
    world.node_speaks(0).await;
    assert_eq!(world.nodes.suspended(node).len(), 1, "not received: it is told again");
    world.settle(restart).await;
    world.node_speaks(0).await;
    let (saga, kind) = world.newest(id).await;
    assert_eq!(kind, SagaKind::Suspend);
    assert_eq!(world.settle(saga).await.status, SagaStatus::Done);
    world.audit().await;
}

on_both_stores! {
    nodes_are_told_ahead_once_and_told_when_it_is_called_off
    what_is_scheduled_for_an_instance_that_is_gone_is_forgotten
    a_node_that_nobody_reaches_suspends_at_its_time_and_both_sides_agree_afterwards
    a_suspension_that_was_called_off_too_late_is_taken_back
    a_suspension_that_happens_amid_other_work_waits_for_its_end
}
