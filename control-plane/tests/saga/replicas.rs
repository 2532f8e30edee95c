//! Several replicas on one store, and what operators are told.

use std::sync::Arc;
use std::time::Duration;

use nemordp_control_plane::reconcile::{Drift, Finding, Reconciler as _, ReservationReaper};
use nemordp_control_plane::saga::{Engine, Settings};
use nemordp_model::{OrderState, SagaKind};
use nemordp_providers::{Change, Place, Provider as _};
use nemordp_store::Wish;
use nemordp_types::operation::OperationKind;
use nemordp_types::{Generation, InstanceId, Mutation, NodeAddress, OperationId, Pair, Reason};
use tokio_util::sync::CancellationToken;

use crate::kit::{Backend, World, on_both_stores};
use crate::node::Fault;

async fn two_replicas_share_the_work_and_do_nothing_twice(backend: Backend) {
    let world = World::with_nodes(2, backend).await;
    let mut orders = Vec::new();
    for _ in 0..30 {
        orders.push(world.order().await);
    }
    let stop = CancellationToken::new();
    let replicas: Vec<_> = ["one", "two"]
        .into_iter()
        .map(|name| {
            let settings = Settings { at_once: 4, ..Settings::named(name.to_owned()) };
            tokio::spawn(Engine::new().run(world.tools.clone(), settings, stop.clone()))
        })
        .collect();
    let all_ended = async {
        for bought in &orders {
            while !world.order_now(*bought).await.state.is_final() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all_ended).await.unwrap();
    stop.cancel();
    for replica in replicas {
        replica.await.unwrap();
    }
    for bought in orders {
        assert_eq!(world.order_now(bought).await.state, OrderState::Active);
    }
    assert_eq!(world.nodes.stale(), 0);
    assert_eq!(world.nodes.proofs(), 30);
    world.audit().await;
}

async fn drift_names_what_is_missing_and_what_nobody_owns_and_touches_neither(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let kept = world.delivered().await;
    let lost = world.delivered().await;
    let drift = Drift::new(world.tools.store.clone(), world.nodes.clone());
    assert_eq!(drift.run().await.unwrap(), "nodes and store agree");
    let address = world.tools.store.node_fetch(world.node_ids[0]).await.unwrap().agent_address;
    let place = Place { node: world.node_ids[0], address };
    let (clock, entropy) = (world.tools.clock.as_ref(), world.tools.entropy.as_ref());
    let by_hand = |instance_id: InstanceId| Mutation {
        operation_id: OperationId::new(clock, entropy),
        instance_id,
        pair: Pair { generation: Generation(9), ..Pair::default() },
    };
    world.nodes.send(&place, by_hand(lost.instance), &Change::Delete).await.unwrap();
    let stranger = InstanceId::new(clock, entropy);
    let spec = world.nodes.guest(kept.instance).unwrap().1.spec;
    world.nodes.send(&place, by_hand(stranger), &Change::Ensure(Box::new(spec))).await.unwrap();
    let (findings, silent) = drift.audit().await.unwrap();
    assert!(silent.is_empty());
    assert_eq!(findings[&Finding::Unknown], [stranger]);
    assert_eq!(findings[&Finding::Missing], [lost.instance]);
    assert_eq!(findings.len(), 2);
    assert!(world.nodes.guest(stranger).is_some(), "nothing is removed by itself");
}

async fn drift_knows_a_store_that_was_restored_from_a_backup(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    let place = Place { node: world.node_ids[0], address: NodeAddress(([127, 0, 0, 1], 1).into()) };
    let (clock, entropy) = (world.tools.clock.as_ref(), world.tools.entropy.as_ref());
    let mutation = Mutation {
        operation_id: OperationId::new(clock, entropy),
        instance_id: bought.instance,
        pair: Pair { generation: Generation(9), ..Pair::default() },
    };
    let action = nemordp_types::instance::PowerAction::Restart;
    world.nodes.send(&place, mutation, &Change::Power(action)).await.unwrap();
    let drift = Drift::new(world.tools.store.clone(), Arc::clone(&world.nodes) as _);
    let (findings, _) = drift.audit().await.unwrap();
    assert_eq!(findings[&Finding::StoreBehind], [bought.instance]);
    // Work that the store still believes in is refused by the node, and ends with the reason.
    let saga = world.change(bought.instance, SagaKind::Restart, Wish::Keep).await;
    let ended = world.settle(saga).await;
    assert_eq!(ended.failure.unwrap().reason, Reason::StaleGeneration);
}

async fn the_reaper_finds_nothing_after_failures(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    world.delivered().await;
    world.nodes.fault(OperationKind::SetPassword, Fault::Fails(Reason::NotOurs), 1);
    let failed = world.order().await;
    world.settle(failed.saga).await;
    let reaper = ReservationReaper::new(world.tools.store.clone());
    assert_eq!(reaper.run().await.unwrap(), "1 open reservations, 0 given back");
}

on_both_stores! {
    two_replicas_share_the_work_and_do_nothing_twice
    drift_names_what_is_missing_and_what_nobody_owns_and_touches_neither
    drift_knows_a_store_that_was_restored_from_a_backup
    the_reaper_finds_nothing_after_failures
}
