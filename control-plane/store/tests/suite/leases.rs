use std::collections::BTreeSet;

use nemordp_model::{OrderChange, OrderState, SagaStatus, StepState};
use nemordp_store::{Effect, Hold, Lease, Page, SagaFilter, SagaWrite, StoreError, TenantScope, kept_at_least};
use nemordp_types::{Clock as _, Failure, Reason};

use crate::support::{SECOND, World, on_both_stores};

on_both_stores! {
    eight_replicas_lease_each_saga_once
    whoever_lost_the_lease_changes_nothing
    a_write_prolongs_a_lease_of_which_a_third_is_used
    a_step_and_its_effects_are_one_write
    writes_that_come_together_share_a_transaction_and_no_fate
    a_saga_that_waits_is_due_at_its_time
    a_cancelled_order_tells_its_saga
    a_stuck_saga_waits_for_a_human
}

fn write<'a>(status: SagaStatus, hold: Hold, effects: &'a [Effect]) -> SagaWrite<'a> {
    SagaWrite { state: "{\"at\":1}", status, step: 1, failure: None, hold, steps: &[], effects }
}

async fn claim(world: &World, owner: &str) -> Lease {
    world.store.saga_claim(owner, 10 * SECOND).await.unwrap().expect("a saga is due").lease
}

async fn eight_replicas_lease_each_saga_once(world: &World) {
    let node = world.node("a", 1, 20, 30).await;
    let mut expected = BTreeSet::new();
    for _ in 0..20 {
        expected.insert(world.accept(node).await.unwrap().order.saga_id);
    }
    let replica = |name: String| async move {
        let mut mine = Vec::new();
        // A replica that finds the rest locked by others stops; whoever holds the lock goes on.
        while let Some(leased) = world.store.saga_claim(&name, 10 * SECOND).await.unwrap() {
            assert_eq!(leased.lease.instance.unwrap().1.fence, leased.lease.fence);
            mine.push(leased.lease.saga_id);
        }
        mine
    };
    let leased: Vec<_> =
        futures::future::join_all((0..8).map(|i| replica(format!("r{i}")))).await.into_iter().flatten().collect();
    assert_eq!(leased.len(), 20);
    assert_eq!(leased.into_iter().collect::<BTreeSet<_>>(), expected);
}

async fn whoever_lost_the_lease_changes_nothing(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let accepted = world.accept(node).await.unwrap();
    let order_id = accepted.order.id;
    let first = claim(world, "r1").await;
    assert!(world.store.saga_claim("r2", SECOND).await.unwrap().is_none(), "it is leased");
    world.clock.advance(11 * SECOND);
    let second = claim(world, "r2").await;
    assert!(second.fence > first.fence && second.instance.unwrap().1 > first.instance.unwrap().1);
    let effects = [Effect::Order { order_id, change: OrderChange::Provision }];
    let late = write(SagaStatus::Running, Hold::Keep(SECOND), &effects);
    assert_eq!(world.store.saga_write(&first, &late).await, Err(StoreError::StaleFence));
    assert_eq!(world.store.saga_renew(&first, SECOND).await, Err(StoreError::StaleFence));
    assert_eq!(world.store.saga_progress(&first, SECOND, 0, (Some(5), None)).await, Err(StoreError::StaleFence));
    let again = world.store.instance_place_again(&first, &world.place(accepted.instance.id, node)).await;
    assert_eq!(again.unwrap_err(), StoreError::StaleFence);
    let order = world.store.order_fetch(TenantScope::All, order_id).await.unwrap();
    assert_eq!(order.state, OrderState::Accepted);
    assert_eq!(world.store.saga_state(second.saga_id).await.unwrap(), "{\"at\":0}");
    world.store.saga_write(&second, &late).await.unwrap();
    assert_eq!(Failure::from(StoreError::StaleFence).reason, Reason::StaleGeneration);
}

async fn a_write_prolongs_a_lease_of_which_a_third_is_used(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    world.accept(node).await.unwrap();
    let lease_for = 10 * SECOND;
    let lease = claim(world, "r1").await;
    let due = async || world.store.saga_next_due().await.unwrap().expect("it is open");
    let first_end = due().await;
    let kept = write(SagaStatus::Running, Hold::Keep(lease_for), &[]);
    world.clock.advance(3 * SECOND);
    world.store.saga_write(&lease, &kept).await.unwrap();
    assert_eq!(due().await, first_end, "two thirds are left: as it was");
    assert!(kept_at_least(lease_for) <= 7 * SECOND, "and no less than whoever writes relies on");
    world.clock.advance(SECOND);
    world.store.saga_write(&lease, &kept).await.unwrap();
    assert_eq!(due().await, world.clock.now().checked_add(lease_for).unwrap());
    // One that reaches further than asked for is cut.
    let shorter = write(SagaStatus::Running, Hold::Keep(2 * SECOND), &[]);
    world.store.saga_write(&lease, &shorter).await.unwrap();
    assert_eq!(due().await, world.clock.now().checked_add(2 * SECOND).unwrap());
}

async fn a_step_and_its_effects_are_one_write(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let accepted = world.accept(node).await.unwrap();
    let (order_id, instance_id) = (accepted.order.id, accepted.instance.id);
    let lease = claim(world, "r1").await;
    let mut step = world.store.saga_fetch(TenantScope::All, lease.saga_id).await.unwrap().steps.remove(0);
    step.state = StepState::Done;
    step.attempts = 1;
    step.failure = Some(Failure::new(Reason::HostFailure, "again").with_context("inside"));
    let steps = [step.clone()];
    // The second effect is refused by the model: nothing of the write may stay.
    let effects = [Effect::Order { order_id, change: OrderChange::Provision }, Effect::InstanceDeleted { instance_id }];
    let mut bad = write(SagaStatus::Running, Hold::Keep(SECOND), &effects);
    bad.steps = &steps;
    assert!(matches!(world.store.saga_write(&lease, &bad).await, Err(StoreError::Refused(_))));
    let saga = world.store.saga_fetch(TenantScope::All, lease.saga_id).await.unwrap();
    assert_eq!((saga.step, saga.steps[0].state), (0, StepState::Pending));
    assert_eq!(world.store.order_fetch(TenantScope::All, order_id).await.unwrap().state, OrderState::Accepted);

    let effects = [
        Effect::Order { order_id, change: OrderChange::Fail(Failure::new(Reason::DiskFull, "full")) },
        Effect::InstanceFailed { instance_id },
    ];
    let mut good = write(SagaStatus::Unwound, Hold::Keep(SECOND), &effects);
    good.steps = &steps;
    world.store.saga_write(&lease, &good).await.unwrap();
    let saga = world.store.saga_fetch(TenantScope::All, lease.saga_id).await.unwrap();
    assert_eq!((saga.status, saga.lease_owner, &saga.steps[0]), (SagaStatus::Unwound, None, &step));
    assert_eq!(saga.finished_at, Some(world.now()));
    let order = world.store.order_fetch(TenantScope::All, order_id).await.unwrap();
    assert_eq!((order.state, order.failure.unwrap().reason), (OrderState::Failed, Reason::DiskFull));
    assert_eq!(world.store.node_fetch(node).await.unwrap().reserved, Default::default());
    for word in ["order.failed", "instance.failed", "instance.released"] {
        assert_eq!(world.count_events(word).await, 1, "{word}");
    }
    assert_eq!(world.count_events("order.provisioning").await, 0, "an event of a write that was refused");
    assert_eq!(world.store.saga_write(&lease, &good).await, Err(StoreError::StaleFence));
}

async fn writes_that_come_together_share_a_transaction_and_no_fate(world: &World) {
    let node = world.node("a", 1, 20, 30).await;
    let mut sagas = Vec::new();
    for _ in 0..12 {
        let accepted = world.accept(node).await.unwrap();
        sagas.push((claim(world, "r1").await, accepted));
    }
    let effects: Vec<Vec<Effect>> = sagas
        .iter()
        .map(|(_, accepted)| {
            let (order_id, instance_id) = (accepted.order.id, accepted.instance.id);
            let provision = Effect::Order { order_id, change: OrderChange::Provision };
            vec![provision, Effect::PinCertificate { instance_id, sha256: [7; 32] }]
        })
        .collect();
    let all = |step: u32, leases: Vec<Lease>, effects: Vec<Vec<Effect>>| async move {
        let each = leases.iter().zip(&effects).map(|(lease, effects)| async move {
            let write = SagaWrite { step, ..write(SagaStatus::Running, Hold::Keep(10 * SECOND), effects) };
            world.store.saga_write(lease, &write).await
        });
        futures::future::join_all(each).await
    };
    let mut leases: Vec<Lease> = sagas.iter().map(|(lease, _)| lease.clone()).collect();
    leases[3].fence = nemordp_types::Fence(leases[3].fence.0 + 1);
    let before = world.store.effort().transactions;
    let outcomes = all(1, leases.clone(), effects.clone()).await;
    assert!(world.store.effort().transactions < before + 12, "none was shared");
    for (index, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome, if index == 3 { Err(StoreError::StaleFence) } else { Ok(()) }, "{index}");
    }
    for (index, (lease, accepted)) in sagas.iter().enumerate() {
        let saga = world.store.saga_fetch(TenantScope::All, lease.saga_id).await.unwrap();
        let pin =
            world.store.instance_fetch(TenantScope::All, accepted.instance.id).await.unwrap().rdp_certificate_sha256;
        assert_eq!((saga.step, pin), if index == 3 { (0, None) } else { (1, Some([7; 32])) }, "{index}");
    }
    assert_eq!(world.count_events("order.provisioning").await, 11);

    // What the model refuses is one saga's own affair.
    let mut effects = vec![Vec::new(); 12];
    effects[5] = vec![Effect::InstanceDeleted { instance_id: sagas[5].1.instance.id }];
    for (index, outcome) in all(2, leases, effects).await.into_iter().enumerate() {
        match index {
            3 => assert_eq!(outcome, Err(StoreError::StaleFence)),
            5 => assert!(matches!(outcome, Err(StoreError::Refused(_))), "{outcome:?}"),
            _ => assert_eq!(outcome, Ok(()), "{index}"),
        }
    }
    let step = |index: usize| world.store.saga_fetch(TenantScope::All, sagas[index].0.saga_id);
    assert_eq!((step(5).await.unwrap().step, step(6).await.unwrap().step), (1, 2));
}

async fn a_saga_that_waits_is_due_at_its_time(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    world.accept(node).await.unwrap();
    let lease = claim(world, "r1").await;
    let at = world.later(60 * SECOND);
    world.store.saga_write(&lease, &write(SagaStatus::Running, Hold::Until(at), &[])).await.unwrap();
    assert_eq!(world.store.saga_next_due().await.unwrap(), Some(at));
    assert!(world.store.saga_claim("r2", SECOND).await.unwrap().is_none());
    assert_eq!(world.store.saga_renew(&lease, SECOND).await, Err(StoreError::StaleFence), "it was given back");
    world.clock.advance(60 * SECOND);
    let leased = world.store.saga_claim("r2", SECOND).await.unwrap().unwrap();
    assert_eq!((leased.saga.attempt, leased.state.as_str()), (2, "{\"at\":1}"));
    world.store.saga_progress(&leased.lease, SECOND, 1, (Some(40), Some("cloning"))).await.unwrap();
    let steps = world.store.saga_fetch(TenantScope::All, lease.saga_id).await.unwrap().steps;
    assert_eq!((steps[1].percent, steps[1].detail.as_deref()), (Some(40), Some("cloning")));
}

async fn a_cancelled_order_tells_its_saga(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let accepted = world.accept(node).await.unwrap();
    let lease = claim(world, "r1").await;
    assert!(!world.store.saga_renew(&lease, SECOND).await.unwrap());
    let scope = TenantScope::Only(world.tenant);
    let order = world.store.order_cancel(scope, accepted.order.id, None).await.unwrap().done().unwrap();
    assert_eq!(order.state, OrderState::Cancelling);
    assert!(world.store.saga_renew(&lease, SECOND).await.unwrap());
    let waiting = world.accept(node).await.unwrap();
    let lease = claim(world, "r1").await;
    let far = world.later(600 * SECOND);
    world.store.saga_write(&lease, &write(SagaStatus::Running, Hold::Until(far), &[])).await.unwrap();
    world.store.order_cancel(scope, waiting.order.id, None).await.unwrap();
    assert!(world.store.saga_claim("r1", SECOND).await.unwrap().unwrap().saga.cancel_requested_at.is_some());
    let active = world.active(node).await;
    let refused = world.store.order_cancel(scope, active.order.id, None).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(failure) if failure.message.contains("delete its instance")));
}

async fn a_stuck_saga_waits_for_a_human(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    world.accept(node).await.unwrap();
    let lease = claim(world, "r1").await;
    assert!(matches!(
        world.store.saga_abandon(TenantScope::All, lease.saga_id, None).await,
        Err(StoreError::Refused(_))
    ));
    world.store.saga_write(&lease, &write(SagaStatus::Stuck, Hold::Keep(SECOND), &[])).await.unwrap();
    assert_eq!(world.count_events("saga.stuck").await, 1);
    world.clock.advance(600 * SECOND);
    assert!(world.store.saga_claim("r2", SECOND).await.unwrap().is_none());
    world.store.saga_retry(lease.saga_id, true).await.unwrap();
    let leased = world.store.saga_claim("r2", SECOND).await.unwrap().unwrap();
    assert_eq!(leased.saga.status, SagaStatus::Unwinding);
    let filter = SagaFilter { status: Some(SagaStatus::Unwinding), ..SagaFilter::default() };
    assert_eq!(world.store.saga_list(TenantScope::All, filter, Page::first(5)).await.unwrap().items.len(), 1);
}
