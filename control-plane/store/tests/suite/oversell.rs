use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::placer::{Happened, PLACERS, campaign, count, crash_every, fleet, judge};
use crate::postgres;
use crate::support::World;

/// One commit of four is cut off within this time, which reaches from the snapshot behind the commit.
const CUT_OFF: (u16, Duration) = (16_384, Duration::from_millis(20));

/// SQLite is beside the test and quick: every other commit, within a time that the quickest machine needs for a few of them.
const CUT_OFF_NEARBY: (u16, Duration) = (32_768, Duration::from_millis(3));

/// How many orders share a decision.
const TOGETHER: usize = 3;

/// A crash in the middle of a turn lets one other in, whose snapshot is from before a commit that goes on; without one
/// nobody is quicker.
fn few_placed_again(again: usize, books: &[Happened]) {
    let crashes = count(books, |happened| matches!(happened, Happened::CutOff | Happened::NotReached));
    assert!(again <= TOGETHER * crashes, "{again} were placed again after {crashes} crashes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn placers_that_are_cut_off_never_oversell_on_sqlite() {
    let worlds = [World::on_sqlite().await];
    let world = &worlds[0];
    fleet(world, 5, 8).await;
    let books = campaign(&worlds, 240, TOGETHER, CUT_OFF_NEARBY, &AtomicU64::new(0)).await;
    few_placed_again(judge(world, &books, 240).await, &books);
    assert!(count(&books, |happened| *happened == Happened::CutOff) > 0, "nobody was cut off");
    // What was acknowledged is there for who opens the file anew.
    world.store.close().await;
    let fresh = world.reopen().await.unwrap();
    assert_eq!(fresh.fleet_snapshot(None).await.unwrap().nodes.len(), 5);
    fresh.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn placers_that_are_cut_off_never_oversell_while_postgres_crashes() {
    let Some(cluster) = tokio::task::spawn_blocking(|| postgres::own_cluster(false)).await.unwrap() else { return };
    let world = World::on(cluster.create("oversell").await).await;
    fleet(&world, 5, 8).await;
    let mut replicas = Vec::new();
    for seed in 0..PLACERS {
        replicas.push(World::attach(&world.url, world.tenant, world.key, 1_000 + seed).await);
    }
    let progress = AtomicU64::new(0);
    let (books, (cluster, crashes)) =
        tokio::join!(campaign(&replicas, 150, TOGETHER, CUT_OFF, &progress), crash_every(cluster, 50, 150, &progress));
    assert!(crashes >= 2, "{crashes}");
    few_placed_again(judge(&world, &books, 150).await, &books);
    world.store.close().await;
    drop(cluster);
}
