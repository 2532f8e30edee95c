//! Suspensions at their time, carried out by the agent alone.

use std::sync::atomic::Ordering;

use nemordp_agent::config::FaultCall;
use nemordp_agent::host::sim::Fault;
use nemordp_types::instance::ObservedPower;
use nemordp_types::{Clock as _, Failure, InstanceId, Mutation, Reason, SystemClock};
use nemordp_wire::{id, status, time, v1};

use crate::autonomy::{first_boot_written, power, rebooted_unheard};
use crate::support::{Node, Wanted, eventually};

async fn suspend_at(node: &Node, mutation: &Mutation, at_us: i64) -> Result<(), Failure> {
    let request = v1::ScheduleSuspensionRequest { mutation: Some(mutation.into()), suspend_at_us: at_us };
    node.client().schedule_suspension(request).await.map(drop).map_err(|s| status::from_status(&s))
}

fn in_seconds(seconds: i64) -> i64 {
    time::encode(SystemClock.now()) + seconds * 1_000_000
}

/// Off power and off the network.
async fn is_suspended(node: &Node, id: InstanceId) -> bool {
    power(node, id).await == ObservedPower::Off && !node.host.is_forwarded(id)
}

async fn beats(node: &Node, more: u64) {
    let beats = node.control.state.heartbeats.load(Ordering::SeqCst);
    eventually("more heartbeats", || async { node.control.state.heartbeats.load(Ordering::SeqCst) >= beats + more })
        .await;
}

#[tokio::test]
async fn a_scheduled_suspension_happens_with_the_control_plane_gone_and_is_told_once() {
    let mut node = Node::start("rdp = false").await;
    let (suspended, runs) = (Wanted::new(&node.control), Wanted::new(&node.control));
    for one in [&suspended, &runs] {
        node.ensured(one).await.unwrap();
    }
    suspend_at(&node, &suspended.then(1, 2), in_seconds(1)).await.unwrap();
    suspend_at(&node, &runs.then(1, 2), in_seconds(1)).await.unwrap();
    suspend_at(&node, &runs.then(1, 3), 0).await.unwrap();
    let stale = suspend_at(&node, &runs.then(1, 1), in_seconds(1)).await.unwrap_err();
    assert_eq!(stale.reason, Reason::StaleGeneration);
    let nobody = suspend_at(&node, &Wanted::new(&node.control).then(1, 1), in_seconds(1)).await.unwrap_err();
    assert_eq!(nobody.reason, Reason::NotFound);
    // The control plane is gone, and the agent starts anew before the time has come.
    node.control.state.answers_heartbeats.store(false, Ordering::SeqCst);
    node.stop().await;
    node.boot().await;
    eventually("it is suspended", || is_suspended(&node, suspended.mutation.instance_id)).await;
    node.stop().await;
    node.boot().await;
    node.control.state.suspensions.lock().unwrap().clear();
    node.control.state.answers_heartbeats.store(true, Ordering::SeqCst);
    eventually("it is told", || async { !node.control.state.suspensions.lock().unwrap().is_empty() }).await;
    let told = node.control.state.suspensions.lock().unwrap()[0].clone();
    assert_eq!(told.instance_id, id::encode(&suspended.mutation.instance_id));
    beats(&node, 3).await;
    assert!(node.control.state.suspensions.lock().unwrap().len() <= 2, "what was received is not told again");
    assert_eq!(power(&node, runs.mutation.instance_id).await, ObservedPower::Running, "it was taken back");
    assert!(node.host.is_forwarded(runs.mutation.instance_id));
    node.stop().await;
}

#[tokio::test]
async fn what_was_suspended_at_its_time_stays_so_over_reboots_until_it_is_unsuspended() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    let id = wanted.mutation.instance_id;
    node.ensured(&wanted).await.unwrap();
    first_boot_written(&node).await;
    node.control.state.answers_heartbeats.store(false, Ordering::SeqCst);
    suspend_at(&node, &wanted.then(1, 2), in_seconds(0)).await.unwrap();
    eventually("it is suspended", || is_suspended(&node, id)).await;
    node.at_once = true;
    rebooted_unheard(&mut node).await;
    let refused = node.power(&wanted.then(1, 3), v1::PowerAction::Start).await.unwrap();
    let refused = node.outcome(refused).await.unwrap_err();
    assert_eq!(refused.reason, Reason::Conflict, "{refused:?}");
    assert!(is_suspended(&node, id).await, "neither the reboot nor a start brings it back");
    // The control plane takes it up under a higher generation, and takes it back later.
    let mut taken_up = wanted.with(wanted.then(2, 4));
    taken_up.spec.suspended = true;
    node.ensured(&taken_up).await.unwrap();
    assert!(is_suspended(&node, id).await);
    node.ensured(&wanted.with(wanted.then(3, 5))).await.unwrap();
    assert_eq!(power(&node, id).await, ObservedPower::Running);
    assert!(node.host.is_forwarded(id));
    node.stop().await;
}

#[tokio::test]
async fn a_suspension_that_has_happened_cannot_be_called_off_before_it_was_told() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    let id = wanted.mutation.instance_id;
    node.ensured(&wanted).await.unwrap();
    node.control.state.receipts.store(false, Ordering::SeqCst);
    let scheduled = wanted.then(1, 2);
    suspend_at(&node, &scheduled, in_seconds(0)).await.unwrap();
    eventually("it is told", || async { !node.control.state.suspensions.lock().unwrap().is_empty() }).await;
    for at in [0, in_seconds(60)] {
        let late = suspend_at(&node, &wanted.then(1, 3), at).await.unwrap_err();
        assert_eq!((late.reason, late.field.as_deref()), (Reason::Conflict, Some("suspend_at")));
    }
    suspend_at(&node, &scheduled, in_seconds(60)).await.unwrap();
    node.control.state.receipts.store(true, Ordering::SeqCst);
    eventually("it may be scheduled anew", || async {
        suspend_at(&node, &wanted.then(1, 3), in_seconds(3_600)).await.is_ok()
    })
    .await;
    assert!(is_suspended(&node, id).await);
    node.stop().await;
}

#[tokio::test]
async fn a_suspension_that_fails_half_way_is_tried_again_until_it_is_whole() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    let id = wanted.mutation.instance_id;
    node.ensured(&wanted).await.unwrap();
    for call in [FaultCall::NetworkRemove, FaultCall::DomainDefine] {
        node.host.faults().next(call, 1, Fault::Fail(Reason::HostFailure));
    }
    suspend_at(&node, &wanted.then(1, 2), in_seconds(0)).await.unwrap();
    eventually("it is told", || async { !node.control.state.suspensions.lock().unwrap().is_empty() }).await;
    assert!(is_suspended(&node, id).await, "told only when it is true");
    node.stop().await;
}

#[tokio::test]
async fn a_suspension_that_is_due_while_nothing_may_start_happens() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    let id = wanted.mutation.instance_id;
    node.ensured(&wanted).await.unwrap();
    first_boot_written(&node).await;
    suspend_at(&node, &wanted.then(1, 2), in_seconds(2)).await.unwrap();
    rebooted_unheard(&mut node).await;
    // The host is off power, but its definition does not say yet that it is suspended: the gate must not keep that away.
    node.control.state.suspensions.lock().unwrap().clear();
    eventually("the definition says so", || async { !node.host.is_forwarded(id) }).await;
    node.control.state.answers_heartbeats.store(true, Ordering::SeqCst);
    eventually("it is told", || async { !node.control.state.suspensions.lock().unwrap().is_empty() }).await;
    beats(&node, 2).await;
    assert!(is_suspended(&node, id).await, "what ran before the reboot is not resumed");
    node.stop().await;
}
