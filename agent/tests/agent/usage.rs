//! What instances use is counted while nobody listens, and told once, in order.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use nemordp_wire::{id, v1};

use crate::support::{Node, Wanted, eventually};

fn reported(node: &Node, wanted: &Wanted) -> Vec<v1::UsageEntry> {
    let all = node.control.state.usage.lock().unwrap();
    let of = id::encode(&wanted.mutation.instance_id);
    all.iter().filter(|entry| entry.instance_id == of).cloned().collect()
}

/// The entries by their number: what came twice must be the same.
fn by_number(entries: &[v1::UsageEntry]) -> BTreeMap<u64, v1::UsageEntry> {
    let mut found: BTreeMap<u64, v1::UsageEntry> = BTreeMap::new();
    for entry in entries {
        assert_eq!(entry.meter_id, entries[0].meter_id, "one count");
        let before = found.insert(entry.sequence, entry.clone());
        assert!(before.is_none_or(|before| before == *entry), "number {} stands for two amounts", entry.sequence);
    }
    found
}

#[tokio::test]
async fn what_was_used_while_the_control_plane_and_the_agent_were_away_is_told_once_and_in_order() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    node.ensured(&wanted).await.unwrap();
    eventually("its use is reported", || async { !reported(&node, &wanted).is_empty() }).await;
    node.control.state.answers_heartbeats.store(false, Ordering::SeqCst);
    node.stop().await;
    node.boot().await;
    eventually("entries wait, over a restart", || async {
        let text = node.scrape().await;
        let line = text.lines().find(|line| line.starts_with("nemordp_agent_usage_unreported ")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() >= 1.0
    })
    .await;
    let before = reported(&node, &wanted).len();
    node.control.state.answers_heartbeats.store(true, Ordering::SeqCst);
    eventually("they are told", || async { reported(&node, &wanted).len() > before }).await;
    node.stop().await;
    let entries = by_number(&reported(&node, &wanted));
    let numbers: Vec<u64> = entries.keys().copied().collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "none is missing");
    let list: Vec<&v1::UsageEntry> = entries.values().collect();
    for pair in list.windows(2) {
        assert!(pair[0].until_us <= pair[1].from_us, "{pair:?}");
    }
    for entry in &list {
        // The simulated guest receives a hundred bytes a millisecond.
        let expected = entry.running_ms * 100;
        assert!(entry.received_bytes.abs_diff(expected) <= 100 * 50, "{entry:?}");
        assert!(entry.running_ms <= u64::try_from(entry.until_us - entry.from_us).unwrap() / 1_000 + 1, "{entry:?}");
    }
}

#[tokio::test]
async fn without_a_receipt_the_same_entries_come_again_and_with_one_they_are_forgotten() {
    let mut node = Node::start("rdp = false").await;
    node.control.state.receipts.store(false, Ordering::SeqCst);
    let wanted = Wanted::new(&node.control);
    node.ensured(&wanted).await.unwrap();
    let times = |node: &Node| reported(node, &wanted).iter().filter(|entry| entry.sequence == 1).count();
    eventually("the first entry comes again", || async { times(&node) >= 2 }).await;
    by_number(&reported(&node, &wanted));
    node.control.state.receipts.store(true, Ordering::SeqCst);
    let beats = node.control.state.heartbeats.load(Ordering::SeqCst);
    eventually("a receipt was given", || async { node.control.state.heartbeats.load(Ordering::SeqCst) >= beats + 2 })
        .await;
    let so_far = times(&node);
    let beats = node.control.state.heartbeats.load(Ordering::SeqCst);
    eventually("more heartbeats", || async { node.control.state.heartbeats.load(Ordering::SeqCst) >= beats + 2 }).await;
    assert_eq!(times(&node), so_far, "what was received is not told again");
    // What a deleted instance used is told too, and then nothing of it is left.
    let gone = node.delete(&wanted.then(2, 1)).await.unwrap();
    node.outcome(gone).await.unwrap();
    let file = node.folder.path().join("data/journal").join(format!("usage-{}", wanted.mutation.instance_id));
    eventually("its meter is forgotten", || async { !std::fs::exists(&file).unwrap() }).await;
    node.stop().await;
}
