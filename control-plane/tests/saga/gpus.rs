//! GPUs along an order's way: told to the node, kept through changes, taken along to another node, given back at the end.

use nemordp_model::{Lifecycle, SagaKind, SagaStatus};
use nemordp_store::{StoreError, Wish};
use nemordp_types::instance::GpuSpec;
use nemordp_types::operation::OperationKind;
use nemordp_types::{MiB, Reason};

use crate::kit::{Backend, World, gpu_model, on_both_stores};
use crate::node::Fault;

async fn reserved(world: &World, node: usize) -> u64 {
    let node = world.tools.store.node_fetch(world.node_ids[node]).await.unwrap();
    node.gpus.iter().map(|gpus| gpus.room.used).sum()
}

async fn an_order_has_its_gpus_until_it_is_deleted(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.order_with_gpus(0, 2).await.unwrap();
    assert_eq!(world.order_with_gpus(0, 1).await.unwrap_err(), StoreError::Raced, "there are two");
    assert_eq!(world.settle(bought.saga).await.status, SagaStatus::Done);
    let gpus = Some(GpuSpec { model: gpu_model(), count: 2 });
    assert_eq!(world.nodes.guest(bought.instance).unwrap().1.spec.gpus, gpus, "the node was told");
    for (kind, wish) in [
        (SagaKind::Resize, Wish::Resize { vcpu: None, memory: Some(MiB(8_192)), disk: None }),
        (SagaKind::Reinstall, Wish::Reinstall { template: None }),
        (SagaKind::Suspend, Wish::Suspend),
        (SagaKind::Unsuspend, Wish::Unsuspend),
    ] {
        let saga = world.change(bought.instance, kind, wish).await;
        assert_eq!(world.settle(saga).await.status, SagaStatus::Done, "{kind}");
        assert_eq!(world.nodes.guest(bought.instance).unwrap().1.spec.gpus, gpus, "{kind}");
        assert_eq!(reserved(&world, 0).await, 2, "{kind}");
    }
    world.audit().await;
    let saga = world.change(bought.instance, SagaKind::Delete, Wish::Delete).await;
    assert_eq!(world.settle(saga).await.status, SagaStatus::Done);
    assert_eq!(world.instance(bought.instance).await.lifecycle, Lifecycle::Deleted);
    assert_eq!(reserved(&world, 0).await, 0);
    world.audit().await;
    world.order_with_gpus(0, 2).await.unwrap();
}

async fn an_order_that_fails_gives_its_gpus_back(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    world.nodes.fault(OperationKind::SetPassword, Fault::Fails(Reason::NotOurs), 1);
    let bought = world.order_with_gpus(0, 1).await.unwrap();
    assert_eq!(world.settle(bought.saga).await.status, SagaStatus::Unwound);
    assert_eq!(reserved(&world, 0).await, 0);
    world.audit().await;
}

async fn a_node_that_has_none_left_after_all_is_left_for_another(backend: Backend) {
    let world = World::with_nodes(2, backend).await;
    world.nodes.fault(OperationKind::EnsureInstance, Fault::Fails(Reason::CapacityExhausted), 1);
    let bought = world.order_with_gpus(0, 1).await.unwrap();
    assert_eq!(world.settle(bought.saga).await.status, SagaStatus::Done);
    assert_eq!(world.instance(bought.instance).await.node_id, world.node_ids[1]);
    assert_eq!((reserved(&world, 0).await, reserved(&world, 1).await), (0, 1));
    world.audit().await;
}

on_both_stores! {
    an_order_has_its_gpus_until_it_is_deleted
    an_order_that_fails_gives_its_gpus_back
    a_node_that_has_none_left_after_all_is_left_for_another
}
