//! From `kill -9` of a replica until others have all its work.

use std::time::{Duration, Instant};

use super::{Plan, Table, load};
use crate::cluster::{Cluster, Result, Shape, StoreKind};

const ORDERS: usize = 60;

pub(super) async fn measure(plan: &Plan, table: &mut Table) -> Result<()> {
    let shape = Shape { boot: Duration::from_secs(4), ..plan.shape(StoreKind::Postgres, 2, 2) };
    let mut cluster = Cluster::start(shape).await?;
    let database = cluster.database().await?;
    load::run(&cluster, &database, ORDERS, ORDERS, Duration::from_secs(30)).await?;
    let held = "SELECT lease_owner, CAST(COUNT(*) AS TEXT) AS n FROM saga WHERE status IN ('running', 'unwinding') \
                AND lease_owner IS NOT NULL GROUP BY lease_owner";
    let log = std::fs::read_to_string(cluster.dir().join("replica-0.log")).unwrap_or_default();
    let rows = database.rows(held).await?;
    let victim = rows.iter().find(|row| log.contains(row.text("lease_owner")));
    let (owner, sagas) = victim.map(|row| (row.text("lease_owner").to_owned(), row.number("n"))).unwrap_or_default();
    cluster.kill_replica(0);
    let killed = Instant::now();
    let left = format!(
        "SELECT CAST(COUNT(*) AS TEXT) AS n FROM saga WHERE status IN ('running', 'unwinding') AND lease_owner = '{owner}'"
    );
    while database.count(&left).await? > 0 && killed.elapsed() < Duration::from_secs(60) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let adopted = killed.elapsed().as_secs_f64();
    table.row(
        format!("kill -9 of a replica with {sagas} sagas to adoption of the last"),
        format!("{adopted:.1} s"),
        "< 10 s",
    );
    let active = load::wait(&database, Duration::from_secs(60)).await?;
    table.row("… of these orders became active", format!("{active} of {ORDERS}"), "all");
    Ok(())
}
