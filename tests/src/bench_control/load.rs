//! Orders in a steady stream, a bounded number of them under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::cluster::{Api, Cluster, Database, Result};

/// Customers who order at the same time.
const CUSTOMERS: usize = 24;
const COUNT: &str = "SELECT CAST(COUNT(*) AS TEXT) AS n FROM customer_order WHERE state = 'active'";

/// Sagas that are open; the store has an index of just these, so that asking costs the machine nothing that would be measured.
const OPEN: &str = "SELECT CAST(COUNT(*) AS TEXT) AS n FROM saga WHERE status IN ('running', 'unwinding')";

/// Orders that are under way.
pub(super) async fn open(database: &Database) -> Result<usize> {
    Ok(usize::try_from(database.count(OPEN).await?).unwrap_or_default())
}

/// Orders that are active; reads them all.
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
    let (placed, end) = (Arc::new(AtomicUsize::new(0)), Instant::now() + limit);
    let (stored, asking) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut customers = JoinSet::new();
    for _ in 0..CUSTOMERS.min(enough) {
        let (api, placed) = (Arc::clone(&cluster.api), Arc::clone(&placed));
        let open = (Arc::clone(&stored), Arc::clone(&asking));
        customers.spawn(async move { customer(&api, &placed, &open, under_way, enough, end).await });
    }
    while !customers.is_empty() {
        stored.store(open(database).await?, Ordering::Relaxed);
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
    (stored, asking): &(Arc<AtomicUsize>, Arc<AtomicUsize>),
    under_way: usize,
    enough: usize,
    end: Instant,
) -> Result<()> {
    while Instant::now() < end {
        if stored.load(Ordering::Relaxed) + asking.load(Ordering::Relaxed) >= under_way {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        if placed.fetch_add(1, Ordering::Relaxed) >= enough {
            placed.fetch_sub(1, Ordering::Relaxed);
            return Ok(());
        }
        asking.fetch_add(1, Ordering::Relaxed);
        let answer = api.order(&api.intention()).await;
        asking.fetch_sub(1, Ordering::Relaxed);
        // Counted at once, whenever the store is asked next.
        stored.fetch_add(1, Ordering::Relaxed);
        answer?.success()?;
    }
    Ok(())
}

/// Waits until no order is under way, or the time is over; gives how many are active.
pub(super) async fn wait(database: &Database, limit: Duration) -> Result<usize> {
    let end = Instant::now() + limit;
    while open(database).await? > 0 && Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    active(database).await
}
