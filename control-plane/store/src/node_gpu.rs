//! GPUs of nodes, by model: counted like storage, taken and given back while the node's row is locked.
//!
//! Here only numbers are kept. Which card an instance gets is its agent's affair, which refuses to give one away twice.

use std::collections::BTreeMap;

use nemordp_model::{GpuDemand, GpuRoom, Room};
use nemordp_types::instance::GpuSpec;
use nemordp_types::node::NodeInventory;
use nemordp_types::{Failure, GpuModel, NodeId};

use crate::error::{Result, StoreError};
use crate::heartbeat::Shortage;
use crate::sql::{Query, Row, values};
use crate::transaction::{Sql, Tx};

fn room(row: &Row) -> Result<GpuRoom> {
    let room = Room { capacity: row.get("capacity")?, used: row.get("used")? };
    Ok(GpuRoom { model: row.get("model")?, room })
}

/// The GPUs of every node that has any, or had.
pub(crate) async fn all(sql: &mut impl Sql) -> Result<BTreeMap<NodeId, Vec<GpuRoom>>> {
    let text = "SELECT node_id, model, capacity, used FROM node_gpu ORDER BY node_id, model";
    let mut found: BTreeMap<NodeId, Vec<GpuRoom>> = BTreeMap::new();
    for row in sql.fetch(Query::new("node_gpu", text, vec![])).await? {
        found.entry(row.get("node_id")?).or_default().push(room(&row)?);
    }
    Ok(found)
}

/// Those of one node.
pub(crate) async fn of(sql: &mut impl Sql, id: NodeId) -> Result<Vec<GpuRoom>> {
    let text = "SELECT model, capacity, used FROM node_gpu WHERE node_id = $1 ORDER BY model";
    sql.fetch(Query::new("node_gpu", text, values![id])).await?.iter().map(room).collect()
}

/// GPUs that a row says are held: its columns `gpu_count` and `gpu_model`.
pub(crate) fn held(row: &Row) -> Result<Option<GpuSpec>> {
    let Some(model) = row.get("gpu_model")? else { return Ok(None) };
    Ok(Some(GpuSpec { model, count: row.get("gpu_count")? }))
}

/// GPUs that a row asks for: the same columns, where the model may be missing.
pub(crate) fn wanted(row: &Row) -> Result<Option<GpuDemand>> {
    let count: u32 = row.get("gpu_count")?;
    Ok(if count == 0 { None } else { Some(GpuDemand { count, model: row.get("gpu_model")? }) })
}

/// Which model of these would be taken: the named one, else the one with the fewest left that suffice.
pub(crate) fn suiting<'g>(wanted: &GpuDemand, left: impl Iterator<Item = (&'g GpuModel, u64)>) -> Option<&'g GpuModel> {
    let suits = |(model, free): &(&GpuModel, u64)| {
        *free >= u64::from(wanted.count) && wanted.model.as_ref().is_none_or(|named| named == *model)
    };
    left.filter(suits).min_by_key(|(_, free)| *free).map(|(model, _)| model)
}

/// Takes GPUs of a node whose row the transaction has locked, or says `Raced`.
pub(crate) async fn take_in_tx(tx: &mut Tx, id: NodeId, wanted: &GpuDemand) -> Result<GpuSpec> {
    let rooms = of(tx, id).await?;
    let left = rooms.iter().map(|gpus| (&gpus.model, gpus.room.free()));
    let model = suiting(wanted, left).ok_or(StoreError::Raced)?.clone();
    let sql = "UPDATE node_gpu SET used = used + $3 WHERE node_id = $1 AND model = $2 AND used + $3 <= capacity";
    tx.execute_one(Query::new("node_gpu", sql, values![id, &model, wanted.count]), StoreError::Raced).await?;
    Ok(GpuSpec { model, count: wanted.count })
}

/// Gives GPUs back. The bound follows down at once: what a node gives back that lost some cannot be had again.
pub(crate) async fn give_back_in_tx(tx: &mut Tx, id: NodeId, gpus: &GpuSpec, lost: StoreError) -> Result<()> {
    let sql = "UPDATE node_gpu SET used = used - $3, \
               bound = CASE WHEN used - $3 > capacity THEN used - $3 ELSE capacity END \
               WHERE node_id = $1 AND model = $2";
    tx.execute_one(Query::new("node_gpu", sql, values![id, &gpus.model, gpus.count]), lost).await
}

/// Writes down what a node says it has. Models that it lost stay as long as anything is reserved of them.
pub(crate) async fn report_in_tx(
    tx: &mut Tx,
    id: NodeId,
    inventory: &NodeInventory,
    shortage: &mut Shortage,
) -> Result<()> {
    let mut before: BTreeMap<GpuModel, u64> =
        of(tx, id).await?.into_iter().map(|gpus| (gpus.model, gpus.room.used)).collect();
    if before.is_empty() && inventory.gpus.is_empty() {
        return Ok(());
    }
    let mut now: BTreeMap<&GpuModel, u64> = BTreeMap::new();
    for found in &inventory.gpus {
        if now.insert(&found.model, u64::from(found.count)).is_some() {
            let message = format!("GPU model {} stands twice: count it once", found.model);
            return Err(Failure::field("inventory.gpus", message).into());
        }
    }
    for (model, capacity) in now {
        let used = before.remove(model).unwrap_or_default();
        shortage.note(&format!("GPUs {model}"), used, capacity);
        let sql = "INSERT INTO node_gpu (node_id, model, capacity, bound) VALUES ($1, $2, $3, $4) \
                   ON CONFLICT (node_id, model) DO UPDATE SET capacity = excluded.capacity, bound = excluded.bound";
        tx.execute(Query::new("node_gpu", sql, values![id, model, capacity, capacity.max(used)])).await?;
    }
    for (vanished, used) in before {
        shortage.note(&format!("GPUs {vanished}"), used, 0);
        let sql = "UPDATE node_gpu SET capacity = 0, bound = used WHERE node_id = $1 AND model = $2";
        tx.execute(Query::new("node_gpu", sql, values![id, &vanished])).await?;
    }
    let sql = "DELETE FROM node_gpu WHERE node_id = $1 AND capacity = 0 AND used = 0";
    tx.execute(Query::new("node_gpu", sql, values![id])).await.map(drop)
}
