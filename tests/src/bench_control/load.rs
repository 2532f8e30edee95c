//! Orders in a steady stream, a bounded number of them under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::cluster::{Api, Cluster, Database, Result};

/// Customers who order at the same time.
const CUSTOMERS: usize = 24;
const COUNT: &str = "SELECT CAST(COUNT(*) AS TEXT) AS n FROM customer_order WHERE state = 'active'";

/// Orders that are active.
pub(super) async fn active(database: &Database) -> Result<usize> {
    Ok(usize::try_from(database.count(COUNT).await?).unwrap_or_default())
}

/// Places orders until the time is over or there are enough, at most `under_way` of them not yet active. Gives how many were
/// placed.
pub(super) async fn run(
    cluster: &Cluster,
    database: &Database,
    under_way: usize,
    enough: usize,
    limit: Duration,
) -> Result<usize> {
    let (placed, open, end) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Instant::now() + limit);
    let before = active(database).await?;
    let mut customers = JoinSet::new();
    for _ in 0..CUSTOMERS.min(enough) {
        let (api, placed, open) = (Arc::clone(&cluster.api), Arc::clone(&placed), Arc::clone(&open));
        customers.spawn(async move { customer(&api, &placed, &open, under_way, enough, end).await });
    }
    while !customers.is_empty() {
        let done = active(database).await?.saturating_sub(before);
        open.store(placed.load(Ordering::Relaxed).saturating_sub(done), Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(40)).await;
        while let Some(ended) = customers.try_join_next() {
            ended.unwrap_or(Ok(()))?;
        }
    }
    Ok(placed.load(Ordering::Relaxed))
}

async fn customer(
    api: &Api,
    placed: &AtomicUsize,
    open: &AtomicUsize,
    under_way: usize,
    enough: usize,
    end: Instant,
) -> Result<()> {
    while Instant::now() < end {
        if open.load(Ordering::Relaxed) >= under_way {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        if placed.fetch_add(1, Ordering::Relaxed) >= enough {
            placed.fetch_sub(1, Ordering::Relaxed);
            return Ok(());
        }
        open.fetch_add(1, Ordering::Relaxed);
        api.order(&api.intention()).await?.success()?;
    }
    Ok(())
}

/// Waits until this many orders are active, or the time is over; gives how many are.
pub(super) async fn wait(database: &Database, wanted: usize, limit: Duration) -> Result<usize> {
    let end = Instant::now() + limit;
    loop {
        let active = active(database).await?;
        if active >= wanted || Instant::now() >= end {
            return Ok(active);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
