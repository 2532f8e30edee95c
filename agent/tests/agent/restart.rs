//! The agent ends, by itself or without a warning, and comes back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nemordp_agent::run;
use nemordp_types::instance::ObservedPower;
use nemordp_types::operation::{OperationState, Stage};
use nemordp_types::{Reason, SystemClock, SystemEntropy};
use nemordp_wire::v1;
use tokio_util::sync::CancellationToken;

use crate::login::{Login, login};
use crate::support::{Node, Wanted, eventually};

#[tokio::test]
async fn a_restarted_agent_adopts_what_runs_and_remembers_what_was_done() {
    let mut node = Node::start("").await;
    let wanted = Wanted::new(&node.control);
    let id = wanted.mutation.instance_id;
    node.ensured(&wanted).await.unwrap();
    let set = node.set_password(&wanted.then(1, 2), "right horse").await.unwrap();
    node.outcome(set).await.unwrap();
    let before = node.status(id).await.unwrap();
    node.stop().await;
    node.reopen_host();
    node.boot().await;
    eventually("what is inside was read again", || async { node.status(id).await.unwrap() == before }).await;
    let recorded = node.ensure(&wanted).await.unwrap();
    assert_eq!(recorded.state, OperationState::Succeeded);
    let stale = node.power(&wanted.then(1, 1), v1::PowerAction::Reset).await.unwrap_err();
    assert_eq!(stale.reason, Reason::StaleGeneration);
    let endpoint = wanted.spec.network.endpoint.socket_addr();
    eventually("the guest answers", || async { login(endpoint, "user", "right horse").await.is_ok() }).await;
    let (outcome, certificate) = login(endpoint, "user", "right horse").await.unwrap();
    assert_eq!(outcome, Login::Accepted);
    assert_eq!(before.rdp_certificate_sha256, Some(certificate));
    node.stop().await;
}

#[tokio::test]
async fn a_lost_journal_is_refilled_from_the_marks() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    node.ensured(&wanted.with(wanted.then(7, 3))).await.unwrap();
    node.stop().await;
    std::fs::remove_dir_all(node.folder.path().join("data/journal")).unwrap();
    node.boot().await;
    let below = node.power(&wanted.then(6, 9), v1::PowerAction::Reset).await.unwrap_err();
    assert_eq!(below.reason, Reason::StaleGeneration);
    node.stop().await;
}

#[tokio::test]
async fn a_damaged_journal_stops_the_agent() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    node.ensured(&wanted).await.unwrap();
    node.stop().await;
    let file = node.folder.path().join("data/journal").join(wanted.mutation.instance_id.to_string());
    let content = std::fs::read(&file).unwrap();
    std::fs::write(&file, &content[..content.len() / 2]).unwrap();
    let host = node.host.clone();
    let open = move |_| std::future::ready(Ok(host.clone()));
    let stop = CancellationToken::new();
    let refused = Box::pin(run(node.config(), open, Arc::new(SystemClock), Arc::new(SystemEntropy), stop)).await;
    assert!(refused.unwrap_err().message.contains("damaged"));
}

/// The process dies while a clone is under way: its runtime is gone from one instant to the next.
#[test]
fn a_killed_agent_tells_that_the_outcome_is_unknown_and_runs_it_again_when_asked() {
    let outer = tokio::runtime::Runtime::new().unwrap();
    let mut node = outer.block_on(Node::start("clone_delay_ms = 60000\nrdp = false"));
    let wanted = outer.block_on(async { Wanted::new(&node.control) });
    outer.block_on(node.stop());
    let inner = tokio::runtime::Runtime::new().unwrap();
    inner.block_on(async {
        node.boot().await;
        node.ensure(&wanted).await.unwrap();
        eventually("it clones", || async {
            node.operation(wanted.mutation.operation_id).await.unwrap().stage == Stage::Disk
        })
        .await;
    });
    inner.shutdown_timeout(Duration::from_secs(1));
    outer.block_on(async {
        "rdp = false".clone_into(&mut node.extra);
        node.running = None;
        node.reopen_host();
        node.boot().await;
        let operation = node.operation(wanted.mutation.operation_id).await.unwrap();
        let OperationState::Failed(failure) = operation.state else { panic!("{operation:?}") };
        assert_eq!(failure.reason, Reason::Unavailable);
        assert!(node.status(wanted.mutation.instance_id).await.is_err(), "nothing runs by itself");
        node.ensured(&wanted).await.unwrap();
        node.stop().await;
    });
}

#[tokio::test]
async fn after_a_reboot_of_the_host_nothing_starts_before_the_control_plane_has_answered() {
    let mut node = Node::start("rdp = false").await;
    let (runs, stopped) = (Wanted::new(&node.control), Wanted::new(&node.control));
    for one in [&runs, &stopped] {
        node.ensured(one).await.unwrap();
    }
    let off = node.power(&stopped.then(1, 1), v1::PowerAction::Stop).await.unwrap();
    node.outcome(off).await.unwrap();
    eventually("the first boot was written down", || async {
        std::fs::exists(node.folder.path().join("data/journal/node")).unwrap()
    })
    .await;
    node.stop().await;
    node.control.state.answers_heartbeats.store(false, Ordering::SeqCst);
    node.host.reboot().unwrap();
    let before = node.control.state.heartbeats.load(Ordering::SeqCst);
    node.boot().await;
    eventually("heartbeats go unanswered", || async {
        node.control.state.heartbeats.load(Ordering::SeqCst) >= before + 2
    })
    .await;
    assert_eq!(node.status(runs.mutation.instance_id).await.unwrap().power, ObservedPower::Off);
    node.control.state.answers_heartbeats.store(true, Ordering::SeqCst);
    eventually("what should run is started", || async {
        node.status(runs.mutation.instance_id).await.unwrap().power == ObservedPower::Running
    })
    .await;
    assert_eq!(node.status(stopped.mutation.instance_id).await.unwrap().power, ObservedPower::Off);
    node.stop().await;
}

#[tokio::test]
async fn an_agent_that_is_told_to_stop_leaves_guests_running_and_ends_what_waits() {
    let mut node = Node::start("").await;
    let runs = Wanted::new(&node.control);
    node.ensured(&runs).await.unwrap();
    node.host.faults().never_boots(true);
    let waits = Wanted::new(&node.control);
    node.ensure(&waits).await.unwrap();
    eventually("it waits", || async {
        node.operation(waits.mutation.operation_id).await.unwrap().stage == Stage::GuestAgent
    })
    .await;
    node.stop().await;
    let endpoint = runs.spec.network.endpoint.socket_addr();
    assert!(login(endpoint, "user", "x").await.is_ok(), "the guest still answers");
    node.boot().await;
    let operation = node.operation(waits.mutation.operation_id).await.unwrap();
    assert!(matches!(operation.state, OperationState::Failed(f) if f.reason == Reason::Unavailable));
    node.stop().await;
}
