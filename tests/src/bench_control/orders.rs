//! Orders per second, from the HTTP request to the proven login, and what the store has to do with it.

use std::time::{Duration, Instant};

use super::{Plan, Table, load, process};
use crate::cluster::{Cluster, Database, Program, Result, StoreKind};

/// Orders under way: enough to keep everything busy.
const UNDER_WAY: usize = 160;
/// The first seconds, in which templates are fetched and connections made, do not count.
const WARM: Duration = Duration::from_secs(3);

pub(super) async fn measure(plan: &Plan, store: StoreKind, replicas: u8, table: &mut Table) -> Result<()> {
    let cluster = Cluster::start(plan.shape(store, replicas, 4)).await?;
    let database = cluster.database().await?;
    let name = match (store, replicas) {
        (StoreKind::Sqlite, _) => "SQLite".to_owned(),
        (StoreKind::Postgres, replicas) => format!("PostgreSQL, {replicas} replica(s)"),
    };
    let bare = bare_commits(&cluster).await?;
    load::run(&cluster, &database, UNDER_WAY, usize::MAX, WARM).await?;
    let (before, began) = (Sample::take(&cluster, &database).await?, Instant::now());
    load::run(&cluster, &database, UNDER_WAY, usize::MAX, Duration::from_secs(plan.seconds)).await?;
    let after = Sample::take(&cluster, &database).await?;
    let seconds = began.elapsed().as_secs_f64();
    let orders = after.active - before.active;
    table.row(format!("{name}: orders/s to active"), format!("{:.0}", orders / seconds), "≥ 200 on two cores");
    let per_order = |of: fn(&Sample) -> f64| (of(&after) - of(&before)) / orders.max(1.0);
    table.row(
        format!("{name}: commits, and transactions, per order"),
        format!("{:.1}, {:.1}", per_order(|s| s.commits), per_order(|s| s.transactions)),
        "",
    );
    let commits = (after.commits - before.commits) / seconds;
    table.row(format!("{name}: commits/s, and bare in the same run"), format!("{commits:.0}, {bare:.0}"), "");
    let share = (after.held - before.held) / seconds;
    let writers = if store == StoreKind::Sqlite { "of the one writer's time" } else { "connections busy" };
    table.row(format!("{name}: store, {writers}"), format!("{share:.2}"), "");
    let milliseconds = |of: fn(&Sample) -> f64| format!("{:.1}", per_order(of) * 1_000.0);
    let spent = [milliseconds(|s| s.control), milliseconds(|s| s.agents), milliseconds(|s| s.bench)].join(", ");
    table.row(format!("{name}: processor ms per order: control planes, agents with guests, this program"), spent, "");
    Ok(())
}

struct Sample {
    active: f64,
    commits: f64,
    transactions: f64,
    /// Seconds for which transactions were open.
    held: f64,
    /// Seconds of processors.
    control: f64,
    agents: f64,
    bench: f64,
}

impl Sample {
    async fn take(cluster: &Cluster, database: &Database) -> Result<Self> {
        let text = cluster.metrics().await?;
        let sum = |name: &str| -> f64 {
            let lines = text.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
        };
        Ok(Self {
            active: f64::from(u32::try_from(load::active(database).await?).unwrap_or(u32::MAX)),
            commits: sum("nemordp_control_plane_store_commits_total"),
            transactions: sum("nemordp_control_plane_store_transactions_total"),
            held: sum("nemordp_control_plane_store_transactions_seconds"),
            control: cluster.replicas.iter().filter_map(Program::id).map(process::processor_seconds).sum(),
            agents: cluster.nodes.iter().filter_map(|node| node.agent.id()).map(process::processor_seconds).sum(),
            bench: process::processor_seconds(std::process::id()),
        })
    }
}

/// Commits of one row each by one connection: what this store does at most on this disk.
async fn bare_commits(cluster: &Cluster) -> Result<f64> {
    const TIME: Duration = Duration::from_secs(2);
    let database = cluster.scratch_database().await?;
    database.execute("CREATE TABLE bare (n BIGINT NOT NULL)").await?;
    let (mut commits, began) = (0.0, Instant::now());
    while began.elapsed() < TIME {
        database.execute("INSERT INTO bare (n) VALUES (1)").await?;
        commits += 1.0;
    }
    let rate = commits / began.elapsed().as_secs_f64();
    database.execute("DROP TABLE bare").await?;
    Ok(rate)
}
