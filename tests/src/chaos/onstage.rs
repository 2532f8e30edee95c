//! One saga on the stage: what it is about, where it is now.

use std::time::Duration;

use nemordp_model::SagaKind;
use serde_json::Value;

use super::Wish;
use crate::cluster::audit::Ledger;
use crate::cluster::{Cluster, Database, Result, Row, until, unusable};

const LIMIT: Duration = Duration::from_secs(60);

/// A saga under way, and what it is about.
#[derive(Debug, Clone)]
pub(super) struct OnStage {
    /// Without dashes.
    pub(super) saga: String,
    /// Without dashes.
    pub(super) instance: String,
}

/// A step as the store has it.
#[derive(Debug, Clone, Default)]
pub(super) struct Now {
    /// Of the saga.
    pub(super) status: String,
    /// Of the step.
    pub(super) step: String,
    /// Who has the saga's lease.
    pub(super) owner: String,
}

impl Now {
    pub(super) fn is_open(&self) -> bool {
        self.status == "running" || self.status == "unwinding"
    }
}

fn plain(text: &str) -> String {
    text.replace('-', "")
}

/// Orders a desktop.
pub(super) async fn order(cluster: &Cluster, ledger: &mut Ledger) -> Result<OnStage> {
    let intention = cluster.api.intention();
    ledger.asked(&intention);
    let answer = cluster.api.order(&intention).await?.success()?;
    ledger.accepted(&intention, &answer.text("id")?);
    Ok(OnStage { saga: plain(&answer.text("operation_id")?), instance: plain(&answer.text("instance_id")?) })
}

/// Orders a desktop and waits until it is active.
pub(super) async fn delivered(cluster: &Cluster, database: &Database, ledger: &mut Ledger) -> Result<String> {
    let ordered = order(cluster, ledger).await?;
    let ended = ended(database, &ordered.saga).await?;
    if ended.status == "done" {
        return Ok(ordered.instance);
    }
    Err(unusable("an order without any blow", format!("it ended {}", ended.status)))
}

/// Begins a saga about a delivered desktop.
pub(super) async fn begin(cluster: &Cluster, kind: SagaKind, instance: &str) -> Result<OnStage> {
    let wish = Wish::of(kind).ok_or_else(|| unusable(kind, "nobody knows how it is asked for"))?;
    let path = format!("/v1/instances/{}{}", dashed(instance), wish.path);
    let body = Some(&wish.body).filter(|body| !body.is_null());
    let answer = cluster.api.insist(wish.method, &path, body, &cluster.api.intention()).await?.success()?;
    let id = answer.body.get("id").and_then(Value::as_str).ok_or_else(|| unusable(path, "no operation"))?;
    Ok(OnStage { saga: plain(id), instance: instance.to_owned() })
}

/// Where a saga and one of its steps are.
pub(super) async fn now(database: &Database, saga: &str, position: usize) -> Result<Now> {
    let query = format!(
        "SELECT saga.status, COALESCE(saga.lease_owner, '') AS owner, saga_step.state AS step FROM saga \
         JOIN saga_step ON saga_step.saga_id = saga.id WHERE #saga.id# = '{saga}' AND saga_step.position = {position}"
    );
    let rows = database.rows(&query).await?;
    let row = rows.first().ok_or_else(|| unusable(saga, "no such saga in the store"))?;
    let text = |column: &str| Row::text(row, column).to_owned();
    Ok(Now { status: text("status"), step: text("step"), owner: text("owner") })
}

/// Waits for something of a saga's step; also returns when the saga is over.
pub(super) async fn watch(
    database: &Database,
    saga: &str,
    position: usize,
    wanted: impl Fn(&Now) -> bool + Copy,
) -> Result<Now> {
    until(&format!("step {position} of saga {saga}"), LIMIT, || async move {
        let now = now(database, saga, position).await?;
        Ok((wanted(&now) || !now.is_open()).then_some(now))
    })
    .await
}

/// Waits for a saga's end; a store that is away is asked again.
pub(super) async fn ended(database: &Database, saga: &str) -> Result<Now> {
    until(&format!("the end of saga {saga}"), LIMIT, || async move {
        Ok(now(database, saga, 0).await.ok().filter(|now| !now.is_open()))
    })
    .await
}

/// The node on which an instance is now, as an index into the cluster's.
pub(super) async fn place(cluster: &Cluster, database: &Database, instance: &str) -> Result<usize> {
    let query = format!(
        "SELECT node.name FROM instance JOIN node ON node.id = instance.node_id WHERE #instance.id# = '{instance}'"
    );
    let rows = database.rows(&query).await?;
    let name = rows.first().map(|row| row.text("name").to_owned()).unwrap_or_default();
    let found = cluster.nodes.iter().position(|node| node.name == name);
    found.ok_or_else(|| unusable(instance, format!("its node {name} is none of ours")))
}

/// As HTTP wants it: 8-4-4-4-12.
pub(super) fn dashed(id: &str) -> String {
    let part = |from: usize, to: usize| id.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}
