//! Steps that never end, each in its own way: the node works for ever, the login hangs, the replica dies each time.

use std::time::{Duration, Instant};

use nemordp_control_plane::saga::Limits;
use nemordp_control_plane::saga::carry::carry;
use nemordp_model::{OrderState, SagaKind, SagaStatus};
use nemordp_types::Reason;
use nemordp_types::operation::OperationKind;
use tokio_util::sync::CancellationToken;

use crate::kit::{Backend, LEASE, World, on_both_stores};
use crate::lifecycle::larger;
use crate::node::Fault;

/// As short as a busy machine allows.
fn hurry(world: &mut World) {
    let short = Duration::from_millis(150);
    world.tools.limits =
        Limits { ensure: short, change: short, readiness: short, proof: short / 4, certificate: short, slack: short };
}

async fn a_change_that_never_ends_on_its_node_is_taken_back(backend: Backend) {
    let mut world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    hurry(&mut world);
    let began = Instant::now();
    world.nodes.fault(OperationKind::EnsureInstance, Fault::Hangs, 6);
    let saga = world.change(bought.instance, SagaKind::Resize, larger()).await;
    let ended = world.settle(saga).await;
    assert_eq!(ended.status, SagaStatus::Unwound, "{ended:?}");
    assert_eq!(ended.failure.unwrap().reason, Reason::DeadlineExceeded);
    assert!(began.elapsed() < Duration::from_secs(30));
    world.audit().await;
}

async fn a_login_that_hangs_for_ever_is_cut_and_the_order_undone(backend: Backend) {
    let mut world = World::with_nodes(1, backend).await;
    hurry(&mut world);
    world.nodes.proofs_hang();
    let bought = world.order().await;
    let ended = world.settle(bought.saga).await;
    assert_eq!(ended.status, SagaStatus::Unwound, "{ended:?}");
    assert_eq!(ended.failure.unwrap().reason, Reason::DeadlineExceeded);
    assert_eq!(world.order_now(bought).await.state, OrderState::Failed);
    world.audit().await;
}

async fn a_step_that_takes_its_replica_with_it_each_time_is_given_up(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    world.nodes.fault(OperationKind::EnsureInstance, Fault::Hangs, 1);
    let bought = world.order().await;
    let mut deaths = 0;
    while world.saga(bought.saga).await.status == SagaStatus::Running {
        let leased = world.claim("dies", bought.saga).await.unwrap();
        let stop = CancellationToken::new();
        let carried = carry(&world.tools, leased, LEASE, &stop);
        if tokio::time::timeout(Duration::from_millis(120), carried).await.is_err() {
            deaths += 1;
        }
        world.clock.advance(LEASE);
        assert!(deaths < 100, "it is begun for ever");
    }
    let ended = world.settle(bought.saga).await;
    assert_eq!(ended.status, SagaStatus::Unwound);
    assert!(ended.failure.unwrap().message.contains("never ended"));
    assert!(deaths > 10, "{deaths}: a rolling restart must not look like this");
    world.audit().await;
}

on_both_stores! {
    a_change_that_never_ends_on_its_node_is_taken_back
    a_login_that_hangs_for_ever_is_cut_and_the_order_undone
    a_step_that_takes_its_replica_with_it_each_time_is_given_up
}
