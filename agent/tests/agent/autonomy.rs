//! What the agent does when nobody tells it, and what it does not do before somebody has.

use std::sync::atomic::Ordering;

use nemordp_types::instance::ObservedPower;
use nemordp_types::{InstanceId, Reason};
use nemordp_wire::{id, v1};

use crate::support::{Node, Wanted, eventually};

pub(crate) async fn power(node: &Node, id: InstanceId) -> ObservedPower {
    node.status(id).await.unwrap().power
}

fn withdraw(node: &Node, instance: InstanceId, generation: u64) {
    let withdrawal = v1::Withdrawal { instance_id: id::encode(&instance), generation };
    node.control.state.withdrawals.lock().unwrap().push(withdrawal);
}

/// The host loses power and comes back; the agent starts while the control plane does not answer.
pub(crate) async fn rebooted_unheard(node: &mut Node) {
    node.stop().await;
    node.control.state.answers_heartbeats.store(false, Ordering::SeqCst);
    node.host.reboot().unwrap();
    let before = node.control.state.heartbeats.load(Ordering::SeqCst);
    node.boot().await;
    eventually("a heartbeat goes unanswered", || async {
        node.control.state.heartbeats.load(Ordering::SeqCst) > before
    })
    .await;
}

pub(crate) async fn first_boot_written(node: &Node) {
    eventually("the first boot was written down", || async {
        std::fs::exists(node.folder.path().join("data/journal/node")).unwrap()
    })
    .await;
}

#[tokio::test]
async fn after_a_reboot_commands_that_start_something_wait_for_a_heartbeat_too() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    let id = wanted.mutation.instance_id;
    node.ensured(&wanted).await.unwrap();
    first_boot_written(&node).await;
    rebooted_unheard(&mut node).await;
    let start = node.power(&wanted.then(1, 2), v1::PowerAction::Start).await.unwrap_err();
    assert_eq!(start.reason, Reason::Unavailable, "{start:?}");
    assert!(start.message.contains("heartbeat"), "{start:?}");
    let fresh = node.ensure(&Wanted::new(&node.control)).await.unwrap_err();
    assert_eq!(fresh.reason, Reason::Unavailable, "nothing new is built either");
    assert_eq!(power(&node, id).await, ObservedPower::Off);
    let stop = node.power(&wanted.then(1, 2), v1::PowerAction::Stop).await.unwrap();
    node.outcome(stop).await.unwrap();
    node.control.state.answers_heartbeats.store(true, Ordering::SeqCst);
    eventually("a start is taken", || async { node.power(&wanted.then(1, 3), v1::PowerAction::Start).await.is_ok() })
        .await;
    eventually("it runs", || async { power(&node, id).await == ObservedPower::Running }).await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_whose_instances_are_never_moved_may_start_them_at_once() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    node.ensured(&wanted).await.unwrap();
    first_boot_written(&node).await;
    node.at_once = true;
    rebooted_unheard(&mut node).await;
    eventually("it runs", || async { power(&node, wanted.mutation.instance_id).await == ObservedPower::Running }).await;
    node.stop().await;
}

#[tokio::test]
async fn what_was_moved_away_does_not_start_after_a_reboot_and_what_stays_does() {
    let mut node = Node::start("rdp = false").await;
    let (moved, stays) = (Wanted::new(&node.control), Wanted::new(&node.control));
    for one in [&moved, &stays] {
        node.ensured(one).await.unwrap();
    }
    first_boot_written(&node).await;
    rebooted_unheard(&mut node).await;
    withdraw(&node, moved.mutation.instance_id, 2);
    node.control.state.answers_heartbeats.store(true, Ordering::SeqCst);
    eventually("what stays is started", || async {
        power(&node, stays.mutation.instance_id).await == ObservedPower::Running
    })
    .await;
    assert_eq!(power(&node, moved.mutation.instance_id).await, ObservedPower::Off);
    let late = node.power(&moved.then(1, 9), v1::PowerAction::Start).await.unwrap_err();
    assert_eq!((late.reason, late.field.as_deref()), (Reason::StaleGeneration, Some("mutation.generation")));
    // It is remembered when the control plane is gone, and the agent starts again.
    node.control.state.withdrawals.lock().unwrap().clear();
    node.control.state.answers_heartbeats.store(false, Ordering::SeqCst);
    node.stop().await;
    node.boot().await;
    let late = node.power(&moved.then(2, 9), v1::PowerAction::Start).await.unwrap_err();
    assert_eq!(late.reason, Reason::StaleGeneration);
    // Back again, under a higher generation.
    let back = node.power(&moved.then(3, 10), v1::PowerAction::Start).await.unwrap();
    node.outcome(back).await.unwrap();
    assert_eq!(power(&node, moved.mutation.instance_id).await, ObservedPower::Running);
    node.stop().await;
}

#[tokio::test]
async fn what_was_moved_away_while_the_node_was_cut_off_is_stopped_and_kept() {
    let mut node = Node::start("rdp = false").await;
    let (moved, newer) = (Wanted::new(&node.control), Wanted::new(&node.control));
    node.ensured(&moved).await.unwrap();
    node.ensured(&newer.with(newer.then(5, 1))).await.unwrap();
    withdraw(&node, moved.mutation.instance_id, 2);
    withdraw(&node, newer.mutation.instance_id, 4);
    eventually("it is off", || async { power(&node, moved.mutation.instance_id).await == ObservedPower::Off }).await;
    let heard = node.control.state.heartbeats.load(Ordering::SeqCst);
    eventually("it was said again", || async { node.control.state.heartbeats.load(Ordering::SeqCst) > heard + 1 })
        .await;
    assert_eq!(
        power(&node, newer.mutation.instance_id).await,
        ObservedPower::Running,
        "an answer that was overtaken withdraws nothing"
    );
    let gone = node.delete(&moved.then(2, 3)).await.unwrap();
    node.outcome(gone).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_fenced_node_starts_nothing_until_it_is_unfenced() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    let id = wanted.mutation.instance_id;
    node.ensured(&wanted).await.unwrap();
    first_boot_written(&node).await;
    node.control.state.fenced.store(true, Ordering::SeqCst);
    rebooted_unheard(&mut node).await;
    node.control.state.answers_heartbeats.store(true, Ordering::SeqCst);
    eventually("the agent knows", || async {
        let refused = node.power(&wanted.then(1, 2), v1::PowerAction::Start).await;
        refused.is_err_and(|failure| failure.message.contains("fenced"))
    })
    .await;
    assert_eq!(power(&node, id).await, ObservedPower::Off);
    assert!(node.scrape().await.contains("nemordp_agent_start_gate_closed 1"), "{}", node.scrape().await);
    node.control.state.fenced.store(false, Ordering::SeqCst);
    eventually("what ran before runs again", || async { power(&node, id).await == ObservedPower::Running }).await;
    node.stop().await;
}

#[tokio::test]
async fn each_process_counts_its_heartbeats_under_a_session_of_its_own() {
    let mut node = Node::start("rdp = false").await;
    let last = |node: &Node| node.control.state.last_heartbeat.lock().unwrap().clone().unwrap();
    eventually("a second heartbeat", || async {
        node.control.state.last_heartbeat.lock().unwrap().as_ref().is_some_and(|beat| beat.beat >= 2)
    })
    .await;
    let first = last(&node);
    assert_eq!(first.session_id.len(), 16);
    assert!(first.sent_at_us > 0);
    node.stop().await;
    *node.control.state.last_heartbeat.lock().unwrap() = None;
    node.boot().await;
    eventually("it beats again", || async { node.control.state.last_heartbeat.lock().unwrap().is_some() }).await;
    let again = last(&node);
    assert_ne!(again.session_id, first.session_id);
    assert_eq!(again.beat, 1);
    node.stop().await;
}

#[tokio::test]
async fn a_wrong_clock_and_a_second_agent_show_in_the_metrics() {
    let mut node = Node::start("rdp = false").await;
    node.control.state.clock_skew_us.store(-7_200_000_000, Ordering::SeqCst);
    node.control.state.doubled.store(true, Ordering::SeqCst);
    assert!(node.scrape().await.contains("nemordp_agent_abandoned_calls 0"), "{}", node.scrape().await);
    eventually("both are shown", || async {
        let text = node.scrape().await;
        text.contains("nemordp_agent_clock_skew_seconds -7200") && text.contains("nemordp_agent_doubled 1")
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn ports_that_something_else_uses_are_told() {
    let mut node = Node::start("rdp = false").await;
    let last = |node: &Node| node.control.state.last_heartbeat.lock().unwrap().clone();
    eventually("a heartbeat", || async { last(&node).is_some_and(|beat| beat.taken_ports.is_empty()) }).await;
    node.host.take_port(20_007);
    eventually("it is told", || async { last(&node).is_some_and(|beat| beat.taken_ports == [20_007]) }).await;
    node.stop().await;
}
