use jiff::Timestamp;
use nemordp_store::{OrderAccept, StoreError, TenantScope};
use nemordp_types::{NodeId, Reason, TenantId};

use crate::support::{DAY, World, on_both_stores};

on_both_stores! {
    a_node_is_busy_until_the_last_known_end_of_its_instances
    a_renewal_is_told_once_and_only_while_there_is_something_to_renew
}

async fn accept(world: &World, node: NodeId, paid_until: Option<Timestamp>) -> nemordp_store::Accepted {
    let order = OrderAccept { paid_until, ..world.order(node) };
    world.store.order_accept(&order, None).await.unwrap().done().unwrap()
}

async fn busy_until(world: &World, node: NodeId) -> Option<Timestamp> {
    let fleet = world.store.fleet_snapshot(None).await.unwrap();
    fleet.nodes.iter().find(|found| found.id == node).unwrap().busy_until
}

async fn a_node_is_busy_until_the_last_known_end_of_its_instances(world: &World) {
    let (a, b) = (world.node("a", 1, 9, 20).await, world.node("b", 2, 9, 20).await);
    let (soon, late) = (world.later(DAY), world.later(30 * DAY));
    let first = accept(world, a, Some(late)).await.instance;
    assert_eq!(first.paid_until, Some(late));
    let leased = world.store.saga_claim("test", crate::support::SECOND).await.unwrap().unwrap();
    assert_eq!(world.store.instance_fetch(TenantScope::All, first.id).await.unwrap().paid_until, first.paid_until);
    accept(world, a, Some(soon)).await;
    accept(world, a, None).await;
    accept(world, b, None).await;
    assert_eq!((busy_until(world, a).await, busy_until(world, b).await), (Some(late), None));
    let renewed = |to| world.store.instance_set_paid_until(TenantScope::All, first.id, to, None);
    let later = world.later(60 * DAY);
    assert_eq!(renewed(Some(later)).await.unwrap().done().unwrap().paid_until, Some(later));
    assert_eq!(busy_until(world, a).await, Some(later));
    renewed(None).await.unwrap();
    assert_eq!(busy_until(world, a).await, Some(soon), "what nobody knows does not count");
    // It goes elsewhere with its instance.
    renewed(Some(late)).await.unwrap();
    let (moved, _) = world.store.instance_place_again(&leased.lease, &world.place(first.id, b)).await.unwrap();
    assert_eq!(moved.paid_until, Some(late));
    assert_eq!((busy_until(world, a).await, busy_until(world, b).await), (Some(soon), Some(late)));
}

async fn a_renewal_is_told_once_and_only_while_there_is_something_to_renew(world: &World) {
    let node = world.node("a", 1, 9, 20).await;
    let bought = world.active(node).await.instance;
    let generation = world.store.instance_fetch(TenantScope::All, bought.id).await.unwrap().generation;
    let until = Some(world.later(DAY));
    for _ in 0..2 {
        let renewed =
            world.store.instance_set_paid_until(TenantScope::Only(world.tenant), bought.id, until, None).await;
        assert_eq!(renewed.unwrap().done().unwrap().generation, generation, "its node has nothing to do");
    }
    assert_eq!(world.count_events("instance.renewed").await, 1);
    let stranger = TenantScope::Only(TenantId::from_uuid(node.as_uuid()));
    let hidden = world.store.instance_set_paid_until(stranger, bought.id, None, None).await;
    assert!(matches!(hidden, Err(StoreError::NotFound { .. })));
    let over = accept(world, node, until).await.instance;
    let leased = world.store.saga_claim("test", crate::support::SECOND).await.unwrap().unwrap();
    let write = nemordp_store::SagaWrite {
        state: "{}",
        status: nemordp_model::SagaStatus::Unwound,
        step: 0,
        failure: None,
        hold: nemordp_store::Hold::Keep(crate::support::SECOND),
        steps: &[],
        effects: &[nemordp_store::Effect::InstanceFailed { instance_id: over.id }],
    };
    world.store.saga_write(&leased.lease, &write).await.unwrap();
    let refused = world.store.instance_set_paid_until(TenantScope::All, over.id, None, None).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Refused(f) if f.reason == Reason::Conflict), "{refused:?}");
}
