//! What a node reports: what it offers, how loaded it is, what it runs.

use std::collections::{BTreeMap, BTreeSet};

use nemordp_model::{EventKind, Instance, node::pool_capacity};
use nemordp_types::instance::InstanceStatus;
use nemordp_types::node::{NodeAvailability, NodeInventory, NodeLoad, NodePolicy};
use nemordp_types::{Bytes, Failure, InstanceId, NodeAddress, NodeId, StorageClass};
use serde_json::json;

use crate::Store;
use crate::codec;
use crate::error::Result;
use crate::event::Subject;
use crate::instance;
use crate::node::{MISSING, overcommit};
use crate::sql::{Query, values};
use crate::transaction::{Sql as _, Tx};

/// A life sign.
#[derive(Debug, Clone)]
pub struct NodeHeartbeat {
    /// Where the agent listens.
    pub agent_address: NodeAddress,
    /// What the node offers.
    pub inventory: NodeInventory,
    /// How loaded it is.
    pub load: NodeLoad,
    /// What it runs.
    pub instances: Vec<InstanceStatus>,
}

/// What a life sign showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatOutcome {
    /// What the operator wants of the node.
    pub policy: NodePolicy,
    /// What is known of its life now.
    pub availability: NodeAvailability,
    /// Whether more is reserved on it than it has to sell.
    pub oversold: bool,
    /// Instances of which the node has seen higher numbers than the store knows: it was restored from a backup.
    pub behind: Vec<InstanceId>,
    /// Instances that carry our mark but that no order owns.
    pub unknown: Vec<InstanceId>,
}

/// Writes what may be sold of a node. Never below what is reserved is what the constraint bounds, so that a node that
/// shrank can be written down; gives whether it is oversold.
pub(crate) async fn inventory_in_tx(tx: &mut Tx, id: NodeId, inventory: &NodeInventory) -> Result<bool> {
    let sql = "SELECT vcpu_percent, memory_percent, vcpu_used, memory_used_mib FROM node WHERE id = $1";
    let locked = "SELECT vcpu_percent, memory_percent, vcpu_used, memory_used_mib FROM node WHERE id = $1 FOR UPDATE";
    let query = Query::new("node", sql, values![id]).on_postgres(locked);
    let row = tx.fetch_optional(query).await?.ok_or(MISSING)?;
    let overcommit = overcommit(&row)?;
    let vcpu = u64::from(overcommit.vcpu(inventory.vcpu).0);
    let memory = overcommit.memory(inventory.memory_for_instances).0;
    let (vcpu_used, memory_used): (u64, u64) = (row.get("vcpu_used")?, row.get("memory_used_mib")?);
    let sql = "UPDATE node SET vcpu_capacity = $2, vcpu_bound = $3, memory_capacity_mib = $4, memory_bound_mib = $5, \
               inventory = $6 WHERE id = $1";
    let values = values![id, vcpu, vcpu.max(vcpu_used), memory, memory.max(memory_used), codec::json(inventory)?];
    tx.execute_one(Query::new("node", sql, values), MISSING).await?;
    let pools_oversold = pools_in_tx(tx, id, inventory).await?;
    Ok(vcpu_used > vcpu || memory_used > memory || pools_oversold)
}

async fn pools_in_tx(tx: &mut Tx, id: NodeId, inventory: &NodeInventory) -> Result<bool> {
    let sql = "SELECT storage_class, capacity_bytes, used_bytes FROM node_pool WHERE node_id = $1";
    let rows = tx.fetch(Query::new("node_pool", sql, values![id])).await?;
    let mut before: BTreeMap<StorageClass, (Bytes, Bytes)> = BTreeMap::new();
    for row in &rows {
        before.insert(row.get("storage_class")?, (row.get("capacity_bytes")?, row.get("used_bytes")?));
    }
    let mut seen = BTreeSet::new();
    let mut oversold = false;
    for pool in &inventory.pools {
        if !seen.insert(&pool.storage_class) {
            let message = format!("two pools are {}: give each a storage class of its own", pool.storage_class);
            return Err(Failure::field("inventory.pools", message).into());
        }
        let known = before.remove(&pool.storage_class);
        let used = known.map_or(Bytes::ZERO, |(_, used)| used);
        let capacity = pool_capacity(known.map(|(capacity, _)| capacity), pool);
        oversold |= used > capacity;
        let sql = "INSERT INTO node_pool (node_id, storage_class, capacity_bytes, bound_bytes, free_bytes) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT (node_id, storage_class) DO UPDATE SET \
                   capacity_bytes = excluded.capacity_bytes, bound_bytes = excluded.bound_bytes, \
                   free_bytes = excluded.free_bytes";
        let values = values![id, &pool.storage_class, capacity, capacity.max(used), pool.free];
        tx.execute(Query::new("node_pool", sql, values)).await?;
    }
    for (vanished, (_, used)) in before {
        oversold |= used > Bytes::ZERO;
        let sql = "UPDATE node_pool SET capacity_bytes = 0, bound_bytes = used_bytes, free_bytes = 0 \
                   WHERE node_id = $1 AND storage_class = $2";
        tx.execute(Query::new("node_pool", sql, values![id, &vanished])).await?;
    }
    Ok(oversold)
}

/// Whether the node's row shows more reserved than it has to sell.
async fn is_oversold(tx: &mut Tx, id: NodeId) -> Result<bool> {
    let sql = "SELECT id FROM node WHERE id = $1 AND (vcpu_used > vcpu_capacity OR memory_used_mib > memory_capacity_mib \
               OR EXISTS (SELECT 1 FROM node_pool p WHERE p.node_id = node.id AND p.used_bytes > p.capacity_bytes))";
    Ok(tx.fetch_optional(Query::new("node", sql, values![id])).await?.is_some())
}

/// The instances that the store places on a node, with what was last seen of them.
async fn known_instances(tx: &mut Tx, beat: &NodeHeartbeat) -> Result<BTreeMap<InstanceId, Instance>> {
    let mut known = BTreeMap::new();
    for status in &beat.instances {
        if let Some(found) = instance::fetch_any(tx, status.instance_id).await? {
            known.insert(found.id, found);
        }
    }
    Ok(known)
}

async fn observe_in_tx(tx: &mut Tx, id: NodeId, beat: &NodeHeartbeat, outcome: &mut HeartbeatOutcome) -> Result<()> {
    let known = known_instances(tx, beat).await?;
    let now = tx.now;
    for status in &beat.instances {
        let Some(instance) = known.get(&status.instance_id) else {
            outcome.unknown.push(status.instance_id);
            continue;
        };
        if instance.is_behind(status) {
            outcome.behind.push(instance.id);
        }
        // A node that the instance was moved away from has no say any more.
        if instance.node_id != id || instance.observed.as_ref() == Some(status) {
            continue;
        }
        let sql = "UPDATE instance SET observed = $3, observed_at = $4 WHERE id = $1 AND node_id = $2";
        tx.execute(Query::new("instance", sql, values![instance.id, id, codec::json(status)?, now])).await?;
    }
    Ok(())
}

async fn beat_in_tx(tx: &mut Tx, id: NodeId, beat: &NodeHeartbeat) -> Result<HeartbeatOutcome> {
    let now = tx.now;
    let sql = "SELECT policy, availability FROM node WHERE id = $1";
    let locked = "SELECT policy, availability FROM node WHERE id = $1 FOR UPDATE";
    let query = Query::new("node", sql, values![id]).on_postgres(locked);
    let row = tx.fetch_optional(query).await?.ok_or(MISSING)?;
    let before: NodeAvailability = row.get("availability")?;
    let availability = match before {
        // Only an operator takes that back.
        NodeAvailability::Fenced => NodeAvailability::Fenced,
        NodeAvailability::Unknown
        | NodeAvailability::Available
        | NodeAvailability::Suspect
        | NodeAvailability::Lost => NodeAvailability::Available,
    };
    let was_oversold = is_oversold(tx, id).await?;
    let oversold = inventory_in_tx(tx, id, &beat.inventory).await?;
    let sql = "UPDATE node SET load = $2, last_heartbeat_at = $3, agent_address = $4, availability = $5, \
               availability_changed_at = CASE WHEN availability = $5 THEN availability_changed_at ELSE $3 END \
               WHERE id = $1";
    let values = values![id, codec::json(&beat.load)?, now, beat.agent_address, availability];
    tx.execute_one(Query::new("node", sql, values), MISSING).await?;
    if availability != before {
        let body = json!({ "from": before, "to": availability });
        tx.event(EventKind::NodeAvailabilityChanged, Subject::node(id), body).await?;
    }
    if oversold && !was_oversold {
        tx.event(EventKind::NodeOversold, Subject::node(id), json!({})).await?;
    }
    let policy = row.get("policy")?;
    let mut outcome = HeartbeatOutcome { policy, availability, oversold, behind: Vec::new(), unknown: Vec::new() };
    observe_in_tx(tx, id, beat, &mut outcome).await?;
    Ok(outcome)
}

impl Store {
    /// Takes a life sign: the node is available again unless it was fenced.
    pub async fn node_heartbeat(&self, id: NodeId, beat: &NodeHeartbeat) -> Result<HeartbeatOutcome> {
        transaction!(self, |tx| beat_in_tx(tx, id, beat).await)
    }
}
