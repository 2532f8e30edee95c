//! Memory of the control plane: many instances at rest, then many orders under way.

use std::time::{Duration, Instant};

use super::{Plan, Table, load, process};
use crate::cluster::{Cluster, Result, Shape, StoreKind};

const UNDER_WAY: usize = 500;
/// However slow the machine: no longer than this to make the instances.
const PATIENCE: Duration = Duration::from_secs(300);

pub(super) async fn measure(plan: &Plan, table: &mut Table) -> Result<()> {
    let shape = Shape { at_once: 512, boot: Duration::from_millis(1_500), ..plan.shape(StoreKind::Sqlite, 1, 8) };
    let cluster = Cluster::start(shape).await?;
    let database = cluster.database().await?;
    let fresh = cluster.replicas.first().map(process::memory_mib).unwrap_or_default();
    load::run(&cluster, &database, 600, plan.instances, PATIENCE).await?;
    let resting = load::wait(&database, Duration::from_secs(60)).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let rest = cluster.replicas.first().map(process::memory_mib).unwrap_or_default();
    let mut peak = rest;
    let mut under_way = 0;
    {
        let load = load::run(&cluster, &database, UNDER_WAY, UNDER_WAY, Duration::from_secs(60));
        tokio::pin!(load);
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            tokio::select! {
                placed = &mut load => {
                    placed?;
                    break;
                }
                () = tokio::time::sleep(Duration::from_millis(50)) => {
                    peak = peak.max(cluster.replicas.first().map(process::memory_mib).unwrap_or_default());
                    let open = "SELECT CAST(COUNT(*) AS TEXT) AS n FROM saga WHERE status = 'running'";
                    under_way = under_way.max(database.count(open).await?);
                }
            }
            if Instant::now() > end {
                break;
            }
        }
    }
    table.row("memory of the control plane after its start", format!("{fresh:.0} MiB"), "");
    table.row(format!("… with {resting} instances at rest"), format!("{rest:.0} MiB"), "");
    table.row(format!("… and {under_way} orders under way beside them"), format!("{peak:.0} MiB"), "< 150 MiB");
    Ok(())
}
