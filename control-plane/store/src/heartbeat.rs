//! What a node reports: what it offers, how loaded it is, what it runs.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use nemordp_model::EventKind;
use nemordp_model::node::{inventory_changes, is_clock_wrong, pool_capacity};
use nemordp_types::instance::InstanceStatus;
use nemordp_types::node::{NodeAvailability, NodeInventory, NodeLoad, NodePolicy};
use nemordp_types::template::TemplatePresence;
use nemordp_types::{Bytes, Failure, Generation, InstanceId, NodeAddress, NodeId, StorageClass};
use serde_json::json;

use crate::Store;
use crate::claim;
use crate::codec;
use crate::error::Result;
use crate::event::Subject;
use crate::node::{MISSING, overcommit};
use crate::node_gpu;
use crate::node_session::{self, Sender};
use crate::observation;
use crate::sql::{Query, Row, values};
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
    /// What it says of itself beside that.
    pub signs: Signs,
}

/// What a life sign says of the agent; an older agent says less.
#[derive(Debug, Clone, Default)]
pub struct Signs {
    /// Which process sent it.
    pub sender: Option<Sender>,
    /// What the node's clock showed.
    pub sent_at: Option<Timestamp>,
    /// Templates on the node and on their way to it.
    pub templates: Vec<TemplatePresence>,
    /// Ports of its range that something else on the machine uses, ascending.
    pub taken_ports: Vec<u16>,
}

/// An instance that a node reported and may not run any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Withdrawal {
    /// Which.
    pub instance_id: InstanceId,
    /// The generation of what is wanted now, on another node or nowhere.
    pub generation: Generation,
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
    /// Those of them that were frozen for it by this life sign.
    pub frozen: Vec<InstanceId>,
    /// Instances that carry our mark but that no order owns.
    pub unknown: Vec<InstanceId>,
    /// Instances that it may not run any more.
    pub withdrawn: Vec<Withdrawal>,
    /// Its clock minus ours.
    pub clock_skew: Option<SignedDuration>,
    /// Whether two agents speak for it.
    pub doubled: bool,
}

/// What of a node is reserved beyond what it has to sell, in words for the operator; empty when nothing is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Shortage(Vec<String>);

impl Shortage {
    pub(crate) fn note(&mut self, what: &str, used: u64, capacity: u64) {
        if used > capacity {
            self.0.push(format!("{what} {used} of {capacity}"));
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn reason(&self) -> String {
        format!("more is reserved than the node has to sell: {}", self.0.join(", "))
    }
}

/// Writes what may be sold of a node. Never below what is reserved is what the constraint bounds, so that a node that
/// shrank can be written down. A node that is found short takes no new instances from then on and is told of once; an
/// operator who lets it take some again is not overruled until it has recovered and shrinks anew.
pub(crate) async fn inventory_in_tx(tx: &mut Tx, id: NodeId, inventory: &NodeInventory) -> Result<Shortage> {
    let sql = "SELECT vcpu_percent, memory_percent, vcpu_used, memory_used_mib FROM node WHERE id = $1";
    let locked = "SELECT vcpu_percent, memory_percent, vcpu_used, memory_used_mib FROM node WHERE id = $1 FOR UPDATE";
    let query = Query::new("node", sql, values![id]).on_postgres(locked);
    let row = tx.fetch_optional(query).await?.ok_or(MISSING)?;
    let was_short = is_oversold(tx, id).await?;
    let overcommit = overcommit(&row)?;
    let vcpu = u64::from(overcommit.vcpu(inventory.vcpu).0);
    let memory = overcommit.memory(inventory.memory_for_instances).0;
    let (vcpu_used, memory_used): (u64, u64) = (row.get("vcpu_used")?, row.get("memory_used_mib")?);
    let sql = "UPDATE node SET vcpu_capacity = $2, vcpu_bound = $3, memory_capacity_mib = $4, memory_bound_mib = $5, \
               inventory = $6 WHERE id = $1";
    let values = values![id, vcpu, vcpu.max(vcpu_used), memory, memory.max(memory_used), codec::json(inventory)?];
    tx.execute_one(Query::new("node", sql, values), MISSING).await?;
    let mut shortage = Shortage::default();
    shortage.note("processors", vcpu_used, vcpu);
    shortage.note("MiB of memory", memory_used, memory);
    pools_in_tx(tx, id, inventory, &mut shortage).await?;
    node_gpu::report_in_tx(tx, id, inventory, &mut shortage).await?;
    if !shortage.is_empty() && !was_short {
        cordon_in_tx(tx, id, &shortage).await?;
    }
    Ok(shortage)
}

/// Alarms, and lets the node take no new instances if it does.
async fn cordon_in_tx(tx: &mut Tx, id: NodeId, shortage: &Shortage) -> Result<()> {
    let (now, reason) = (tx.now, shortage.reason());
    tx.event(EventKind::NodeOversold, Subject::node(id), json!({ "reason": reason, "short": shortage.0 })).await?;
    let sql = "UPDATE node SET policy = 'cordoned', policy_reason = $2, updated_at = $3 \
               WHERE id = $1 AND policy = 'active'";
    if tx.execute(Query::new("node", sql, values![id, reason.as_str(), now])).await? == 1 {
        let body = json!({ "from": NodePolicy::Active, "to": NodePolicy::Cordoned, "reason": reason });
        tx.event(EventKind::NodePolicyChanged, Subject::node(id), body).await?;
    }
    Ok(())
}

async fn pools_in_tx(tx: &mut Tx, id: NodeId, inventory: &NodeInventory, shortage: &mut Shortage) -> Result<()> {
    let sql = "SELECT storage_class, capacity_bytes, used_bytes FROM node_pool WHERE node_id = $1";
    let rows = tx.fetch(Query::new("node_pool", sql, values![id])).await?;
    let mut before: BTreeMap<StorageClass, (Bytes, Bytes)> = BTreeMap::new();
    for row in &rows {
        before.insert(row.get("storage_class")?, (row.get("capacity_bytes")?, row.get("used_bytes")?));
    }
    let mut seen = BTreeSet::new();
    for pool in &inventory.pools {
        if !seen.insert(&pool.storage_class) {
            let message = format!("two pools are {}: give each a storage class of its own", pool.storage_class);
            return Err(Failure::field("inventory.pools", message).into());
        }
        let known = before.remove(&pool.storage_class);
        let used = known.map_or(Bytes::ZERO, |(_, used)| used);
        let capacity = pool_capacity(known.map(|(capacity, _)| capacity), pool);
        shortage.note(&format!("bytes on {}", pool.storage_class), used.0, capacity.0);
        let sql = "INSERT INTO node_pool (node_id, storage_class, capacity_bytes, bound_bytes, free_bytes) \
                   VALUES ($1, $2, $3, $4, $5) ON CONFLICT (node_id, storage_class) DO UPDATE SET \
                   capacity_bytes = excluded.capacity_bytes, bound_bytes = excluded.bound_bytes, \
                   free_bytes = excluded.free_bytes";
        let values = values![id, &pool.storage_class, capacity, capacity.max(used), pool.free];
        tx.execute(Query::new("node_pool", sql, values)).await?;
    }
    for (vanished, (_, used)) in before {
        shortage.note(&format!("bytes on {vanished}"), used.0, 0);
        let sql = "UPDATE node_pool SET capacity_bytes = 0, bound_bytes = used_bytes, free_bytes = 0 \
                   WHERE node_id = $1 AND storage_class = $2";
        tx.execute(Query::new("node_pool", sql, values![id, &vanished])).await?;
    }
    Ok(())
}

/// Whether the node's row shows more reserved than it has to sell.
async fn is_oversold(tx: &mut Tx, id: NodeId) -> Result<bool> {
    let sql = "SELECT id FROM node WHERE id = $1 AND (vcpu_used > vcpu_capacity OR memory_used_mib > memory_capacity_mib \
               OR EXISTS (SELECT 1 FROM node_pool p WHERE p.node_id = node.id AND p.used_bytes > p.capacity_bytes) \
               OR EXISTS (SELECT 1 FROM node_gpu g WHERE g.node_id = node.id AND g.used > g.capacity))";
    Ok(tx.fetch_optional(Query::new("node", sql, values![id])).await?.is_some())
}

async fn beat_in_tx(tx: &mut Tx, id: NodeId, beat: &NodeHeartbeat) -> Result<HeartbeatOutcome> {
    let now = tx.now;
    let sql = "SELECT availability, clock_skew_us, inventory, taken_ports, agent_address, doubled_at FROM node \
               WHERE id = $1";
    let locked = "SELECT availability, clock_skew_us, inventory, taken_ports, agent_address, doubled_at FROM node \
                  WHERE id = $1 FOR UPDATE";
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
    tell_changes(tx, id, &row, beat).await?;
    let oversold = !inventory_in_tx(tx, id, &beat.inventory).await?.is_empty();
    let clock_skew = beat.signs.sent_at.map(|sent_at| sent_at.duration_since(now));
    // While two agents speak for the node, commands keep going where the first of them listens.
    let sql = "UPDATE node SET load = $2, last_heartbeat_at = $3, availability = $5, template_presence = $6, \
               clock_skew_us = $7, taken_ports = $8, agent_address = CASE WHEN doubled_at IS NULL THEN $4 ELSE agent_address END, \
               availability_changed_at = CASE WHEN availability = $5 THEN availability_changed_at ELSE $3 END \
               WHERE id = $1";
    let skew_us = clock_skew.map(|skew| i64::try_from(skew.as_micros()).unwrap_or(i64::MAX));
    let (load, templates) = (codec::json(&beat.load)?, codec::json(&beat.signs.templates)?);
    let taken = codec::json(&beat.signs.taken_ports)?;
    let values = values![id, load, now, beat.agent_address, availability, templates, skew_us, taken];
    tx.execute_one(Query::new("node", sql, values), MISSING).await?;
    claim::keep_from_sale_in_tx(tx, id, &beat.inventory, &beat.signs.taken_ports).await?;
    if availability != before {
        let body = json!({ "from": before, "to": availability });
        tx.event(EventKind::NodeAvailabilityChanged, Subject::node(id), body).await?;
    }
    let skew_before = row.get::<Option<i64>>("clock_skew_us")?.map(SignedDuration::from_micros);
    tell_clock(tx, id, skew_before, clock_skew).await?;
    let doubled = sender_in_tx(tx, id, beat).await?;
    let sql = "SELECT policy FROM node WHERE id = $1";
    let policy = tx.fetch_optional(Query::new("node", sql, values![id])).await?.ok_or(MISSING)?.get("policy")?;
    let mut outcome = HeartbeatOutcome {
        policy,
        availability,
        oversold,
        behind: Vec::new(),
        frozen: Vec::new(),
        unknown: Vec::new(),
        withdrawn: Vec::new(),
        clock_skew,
        doubled,
    };
    observation::observe_in_tx(tx, id, &beat.instances, &mut outcome).await?;
    Ok(outcome)
}

/// Tells what of a node is not as it said before.
async fn tell_changes(tx: &mut Tx, id: NodeId, row: &Row, beat: &NodeHeartbeat) -> Result<()> {
    let mut changed = inventory_changes(&row.json("inventory")?, &beat.inventory);
    if row.json::<Vec<u16>>("taken_ports")? != beat.signs.taken_ports {
        changed.push("taken_ports");
    }
    let doubled: Option<Timestamp> = row.get("doubled_at")?;
    if doubled.is_none() && row.get::<NodeAddress>("agent_address")? != beat.agent_address {
        changed.push("agent_address");
    }
    if changed.is_empty() {
        return Ok(());
    }
    let body = json!({ "changed": changed, "taken_ports": beat.signs.taken_ports });
    tx.event(EventKind::NodeChanged, Subject::node(id), body).await
}

/// Tells when a clock went wrong, and when it is right again.
async fn tell_clock(
    tx: &mut Tx,
    id: NodeId,
    before: Option<SignedDuration>,
    now: Option<SignedDuration>,
) -> Result<()> {
    let Some(skew) = now else { return Ok(()) };
    let wrong = is_clock_wrong(skew);
    if wrong == before.is_some_and(is_clock_wrong) {
        return Ok(());
    }
    let body = json!({ "skew_seconds": skew.as_secs(), "wrong": wrong });
    tx.event(EventKind::NodeClockSkewed, Subject::node(id), body).await
}

/// Takes note of which process speaks; gives whether two do.
async fn sender_in_tx(tx: &mut Tx, id: NodeId, beat: &NodeHeartbeat) -> Result<bool> {
    let Some(sender) = beat.signs.sender else { return Ok(false) };
    if node_session::note_in_tx(tx, id, sender, beat.agent_address).await? {
        node_session::doubled_in_tx(tx, id).await?;
    }
    let sql = "SELECT id FROM node WHERE id = $1 AND doubled_at IS NOT NULL";
    Ok(tx.fetch_optional(Query::new("node", sql, values![id])).await?.is_some())
}

impl Store {
    /// Takes a life sign: the node is available again unless it was fenced.
    pub async fn node_heartbeat(&self, id: NodeId, beat: &NodeHeartbeat) -> Result<HeartbeatOutcome> {
        transaction!(self, |tx| beat_in_tx(tx, id, beat).await)
    }
}
