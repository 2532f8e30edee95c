//! Listing many instances page by page, at a fixed rate, whatever the answers take.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::table::percentile;
use super::{Plan, Table, load};
use crate::cluster::{Cluster, Result, StoreKind};

const RATE: f64 = 300.0;
const PAGE: usize = 100;

pub(super) async fn measure(plan: &Plan, table: &mut Table) -> Result<()> {
    let cluster = Cluster::start(plan.shape(StoreKind::Sqlite, 1, 1)).await?;
    let database = cluster.database().await?;
    load::run(&cluster, &database, 1, 1, Duration::from_secs(30)).await?;
    load::wait(&database, Duration::from_secs(30)).await?;
    multiply(&cluster, plan.listed).await?;
    let pages = Arc::new(pages(&cluster).await?);
    let (mut requests, began) = (JoinSet::new(), Instant::now());
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / RATE));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let (mut number, mut took, mut failed) = (0, Vec::new(), 0);
    while began.elapsed() < Duration::from_secs(plan.seconds) {
        ticks.tick().await;
        let (api, pages) = (Arc::clone(&cluster.api), Arc::clone(&pages));
        let index = number % pages.len().max(1);
        number += 1;
        requests.spawn(async move {
            let (path, asked) = (pages.get(index).cloned().unwrap_or_default(), Instant::now());
            let answered = api.read(&path).await;
            answered.is_ok_and(|status| status.is_success()).then(|| asked.elapsed().as_secs_f64() * 1_000.0)
        });
    }
    while let Some(ended) = requests.join_next().await {
        match ended.ok().flatten() {
            Some(milliseconds) => took.push(milliseconds),
            None => failed += 1,
        }
    }
    let rate = f64::from(u32::try_from(number).unwrap_or(u32::MAX)) / began.elapsed().as_secs_f64();
    let what = format!("{} instances in pages of {PAGE} at {rate:.0} requests/s", plan.listed);
    table.row(format!("{what}: p50"), format!("{:.1} ms", percentile(&mut took, 50)), "");
    table.row(format!("{what}: p99"), format!("{:.1} ms", percentile(&mut took, 99)), "< 50 ms");
    table.row(format!("{what}: failed"), failed, "0");
    Ok(())
}

/// The paths of all pages, walked once.
async fn pages(cluster: &Cluster) -> Result<Vec<String>> {
    let mut paths = vec![format!("/v1/instances?limit={PAGE}")];
    loop {
        let Some(path) = paths.last() else { return Ok(paths) };
        let page = cluster.api.get(path).await?;
        match page.get("next_cursor").and_then(serde_json::Value::as_str) {
            Some(cursor) => paths.push(format!("/v1/instances?limit={PAGE}&cursor={cursor}")),
            None => return Ok(paths),
        }
    }
}

/// Copies the one order and its instance in the store, until there are so many: listing reads nothing else.
async fn multiply(cluster: &Cluster, wanted: usize) -> Result<()> {
    let database = cluster.writable_database().await?;
    let orders = [
        ("id", "randomblob(16)"),
        ("instance_id", "randomblob(16)"),
        ("saga_id", "randomblob(16)"),
        ("external_reference", "NULL"),
    ];
    let numbers = format!(
        "(WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT i FROM n)",
        wanted - 1
    );
    let columns = database.columns("customer_order").await?;
    database
        .execute(&copy(
            "customer_order",
            &columns,
            &orders,
            "o",
            &format!("customer_order o, {numbers} WHERE o.rowid = 1"),
        ))
        .await?;
    let columns = database.columns("instance").await?;
    let instance = [("id", "o.instance_id"), ("order_id", "o.id")];
    let from = "instance i, customer_order o WHERE i.rowid = 1 AND o.instance_id <> i.id";
    database.execute(&copy("instance", &columns, &instance, "i", from)).await
}

fn copy(table: &str, columns: &[String], others: &[(&str, &str)], from: &str, source: &str) -> String {
    let values = columns.iter().map(|column| {
        let other = others.iter().find(|(name, _)| name == column).map(|(_, value)| (*value).to_owned());
        other.unwrap_or_else(|| format!("{from}.{column}"))
    });
    format!(
        "INSERT INTO {table} ({}) SELECT {} FROM {source}",
        columns.join(", "),
        values.collect::<Vec<_>>().join(", ")
    )
}
