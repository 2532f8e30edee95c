//! Nodes: enrollment, policy, availability, listing.

use jiff::SignedDuration;
use nemordp_model::{Amounts, EventKind, Label, Node, NodePin, Overcommit};
use nemordp_types::node::{NodeAvailability, NodeInventory, NodePolicy, Reserved};
use nemordp_types::{Failure, NodeAddress, NodeId, Reason, RegionName};
use serde_json::json;

use crate::Store;
use crate::certificate::{self, NewCertificate};
use crate::codec;
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::heartbeat;
use crate::idempotency::{Idempotency, Once, once};
use crate::node_gpu;
use crate::node_session;
use crate::page::{Page, Paged};
use crate::sql::{Query, Row, values};
use crate::ticket::{self, TicketStanding};
use crate::transaction::{Sql, Tx};

pub(crate) const MISSING: StoreError = StoreError::NotFound { noun: NodeId::NOUN };

macro_rules! columns {
    () => {
        "id, name, region, agent_address, policy, policy_reason, availability, availability_changed_at, vcpu_percent, memory_percent, \
         vcpu_used, memory_used_mib, inventory, load, template_presence, taken_ports, clock_skew_us, doubled_at, last_heartbeat_at, \
         certificate_serial, enrolled_at, updated_at, labels, pinned_to, held_vcpu, \
         held_memory_mib, held_disk_bytes, \
         (SELECT t.name FROM tenant t WHERE t.id = node.pinned_to) AS pinned_name, \
         (SELECT CAST(COALESCE(SUM(p.used_bytes), 0) AS BIGINT) FROM node_pool p WHERE p.node_id = node.id) AS disk_used"
    };
}

/// A machine that joins with a ticket.
#[derive(Debug, Clone)]
pub struct NodeEnroll {
    /// SHA-256 of the ticket's secret.
    pub ticket_sha256: [u8; 32],
    /// The ticket's node if it is bound, a new id otherwise; the certificate was made for it.
    pub node_id: NodeId,
    /// How operators call it; unique.
    pub name: Label,
    /// Where its agent listens.
    pub agent_address: NodeAddress,
    /// What it offers.
    pub inventory: NodeInventory,
    /// Its certificate.
    pub certificate: NewCertificate,
}

/// What an enrolled machine gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolled {
    /// Which node it is.
    pub node_id: NodeId,
    /// Its certificate (DER); the one of the first answer when that was lost.
    pub certificate_der: Vec<u8>,
}

fn node(row: &Row) -> Result<Node> {
    Ok(Node {
        id: row.get("id")?,
        name: row.get("name")?,
        region: row.get("region")?,
        agent_address: row.get("agent_address")?,
        policy: row.get("policy")?,
        policy_reason: row.get("policy_reason")?,
        labels: row.json("labels")?,
        pinned_to: pin(row)?,
        availability: row.get("availability")?,
        availability_changed_at: row.get("availability_changed_at")?,
        overcommit: overcommit(row)?,
        inventory: row.json("inventory")?,
        load: row.json_opt("load")?,
        template_presence: row.json("template_presence")?,
        taken_ports: row.json("taken_ports")?,
        clock_skew: row.get::<Option<i64>>("clock_skew_us")?.map(SignedDuration::from_micros),
        doubled_at: row.get("doubled_at")?,
        last_heartbeat_at: row.get("last_heartbeat_at")?,
        reserved: Reserved {
            vcpu: row.get("vcpu_used")?,
            memory: row.get("memory_used_mib")?,
            disk: row.get("disk_used")?,
        },
        gpus: Vec::new(),
        held_back: held_back(row)?,
        certificate_serial: row.get("certificate_serial")?,
        enrolled_at: row.get("enrolled_at")?,
        updated_at: row.get("updated_at")?,
    })
}

fn pin(row: &Row) -> Result<Option<NodePin>> {
    let Some(tenant_id) = row.get("pinned_to")? else { return Ok(None) };
    Ok(Some(NodePin { tenant_id, tenant: row.get("pinned_name")? }))
}

/// What is not sold of a node: its columns `held_*`.
pub(crate) fn held_back(row: &Row) -> Result<Amounts> {
    Ok(Amounts { vcpu: row.get("held_vcpu")?, memory: row.get("held_memory_mib")?, disk: row.get("held_disk_bytes")? })
}

pub(crate) fn overcommit(row: &Row) -> Result<Overcommit> {
    Ok(Overcommit { vcpu_percent: row.get("vcpu_percent")?, memory_percent: row.get("memory_percent")? })
}

pub(crate) async fn fetch(sql: &mut impl Sql, id: NodeId) -> Result<Node> {
    let text = concat!("SELECT ", columns!(), " FROM node WHERE id = $1");
    let row = sql.fetch_optional(Query::new("node", text, values![id])).await?;
    Ok(Node { gpus: node_gpu::of(sql, id).await?, ..node(&row.ok_or(MISSING)?)? })
}

/// Nodes with their GPUs.
async fn gather(sql: &mut impl Sql, rows: &[Row]) -> Result<Vec<Node>> {
    let mut gpus = node_gpu::all(sql).await?;
    let mut found = Vec::with_capacity(rows.len());
    for row in rows {
        let node = node(row)?;
        found.push(Node { gpus: gpus.remove(&node.id).unwrap_or_default(), ..node });
    }
    Ok(found)
}

/// All that were not decommissioned.
pub(crate) async fn present(tx: &mut Tx) -> Result<Vec<Node>> {
    let sql = concat!("SELECT ", columns!(), " FROM node WHERE policy <> 'decommissioned'");
    let rows = tx.fetch(Query::new("node", sql, vec![])).await?;
    gather(tx, &rows).await
}

async fn insert(tx: &mut Tx, new: &NodeEnroll, region: &RegionName, overcommit: Overcommit) -> Result<()> {
    let now = tx.now;
    let vcpu = overcommit.vcpu(new.inventory.vcpu);
    let memory = overcommit.memory(new.inventory.memory_for_instances);
    let sql = "INSERT INTO node (id, name, region, agent_address, policy, availability, availability_changed_at, \
               vcpu_percent, memory_percent, vcpu_capacity, vcpu_bound, memory_capacity_mib, memory_bound_mib, \
               inventory, certificate_serial, enrolled_at, updated_at) \
               VALUES ($1, $2, $3, $4, 'active', 'unknown', $5, $6, $7, $8, $8, $9, $9, $10, $11, $5, $5) \
               ON CONFLICT (name) DO NOTHING";
    let values = values![
        new.node_id,
        &new.name,
        region,
        new.agent_address,
        now,
        overcommit.vcpu_percent,
        overcommit.memory_percent,
        vcpu,
        memory,
        codec::json(&new.inventory)?,
        new.certificate.serial.as_slice(),
    ];
    tx.execute_one(Query::new("node", sql, values), StoreError::AlreadyExists { field: "node_name" }).await
}

/// A known node with a new key: what it held before is revoked, what it runs stays.
async fn enroll_again(tx: &mut Tx, new: &NodeEnroll) -> Result<()> {
    let now = tx.now;
    certificate::revoke_all_in_tx(tx, new.node_id).await?;
    node_session::forget_in_tx(tx, new.node_id).await?;
    let sql = "UPDATE node SET agent_address = $2, certificate_serial = $3, updated_at = $4 \
               WHERE id = $1 AND policy <> 'decommissioned'";
    let values = values![new.node_id, new.agent_address, new.certificate.serial.as_slice(), now];
    let gone = Failure::new(Reason::Conflict, "the node was decommissioned: enroll the machine as a new node");
    tx.execute_one(Query::new("node", sql, values), StoreError::Refused(gone)).await?;
    heartbeat::inventory_in_tx(tx, new.node_id, &new.inventory).await.map(|_| ())
}

async fn enroll_in_tx(tx: &mut Tx, new: &NodeEnroll) -> Result<Result<Enrolled>> {
    let presented = ticket::present_in_tx(tx, &new.ticket_sha256, &new.certificate.public_key_sha256).await?;
    let (ticket, standing) = match presented {
        Ok(presented) => presented,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let TicketStanding::Used { node_id, certificate_der } = standing {
        return Ok(Ok(Enrolled { node_id, certificate_der }));
    }
    ticket::require_node(&ticket, new.node_id)?;
    if ticket.bound_node_id.is_some() {
        enroll_again(tx, new).await?;
    } else {
        insert(tx, new, &ticket.region, ticket.overcommit).await?;
        heartbeat::inventory_in_tx(tx, new.node_id, &new.inventory).await?;
    }
    certificate::insert_in_tx(tx, new.node_id, &new.certificate).await?;
    let now = tx.now;
    let sql = "UPDATE ticket SET used_at = $2, used_by = $3, certificate_serial = $4 WHERE id = $1 AND used_at IS NULL";
    let values = values![ticket.id, now, new.node_id, new.certificate.serial.as_slice()];
    tx.execute_one(Query::new("ticket", sql, values), StoreError::TicketReused).await?;
    let body = json!({ "name": new.name, "region": ticket.region, "again": ticket.bound_node_id.is_some() });
    tx.event(EventKind::NodeEnrolled, Subject::node(new.node_id), body).await?;
    Ok(Ok(Enrolled { node_id: new.node_id, certificate_der: new.certificate.der.clone() }))
}

impl Store {
    /// Makes a node of a machine with a ticket. The same ticket with the same key gives the same node and certificate
    /// again until the ticket expires; with another key it is `TicketReused`, told in an event.
    pub async fn node_enroll(&self, new: &NodeEnroll) -> Result<Enrolled> {
        let enrolled: Result<_> = transaction!(self, |tx| enroll_in_tx(tx, new).await);
        enrolled?
    }

    /// One node.
    pub async fn node_fetch(&self, id: NodeId) -> Result<Node> {
        fetch(&mut self.reader(), id).await
    }

    /// The node of a name.
    pub async fn node_fetch_by_name(&self, name: &Label) -> Result<Option<Node>> {
        let sql = concat!("SELECT ", columns!(), " FROM node WHERE name = $1");
        let row = self.reader().fetch_optional(Query::new("node", sql, values![name])).await?;
        let mut found = gather(&mut self.reader(), row.as_slice()).await?;
        Ok(found.pop())
    }

    /// Nodes, decommissioned ones too.
    pub async fn node_list(&self, page: Page<NodeId>) -> Result<Paged<Node, NodeId>> {
        let sql = concat!("SELECT ", columns!(), " FROM node WHERE id > $1 ORDER BY id LIMIT $2");
        let rows = self.reader().fetch(Query::new("node", sql, values![page.begins(), page.fetch()])).await?;
        let items = gather(&mut self.reader(), &rows).await?;
        Ok(page.cut(items, |n: &Node| n.id))
    }

    /// Regions in which a node stands.
    pub async fn region_list(&self) -> Result<Vec<RegionName>> {
        let sql = "SELECT DISTINCT region FROM node WHERE policy <> 'decommissioned' ORDER BY region";
        let rows = self.reader().fetch(Query::new("node", sql, vec![])).await?;
        rows.iter().map(|row| row.get("region")).collect()
    }

    /// Sets what the operator wants of a node. A decommissioned node stays so; one that holds reservations cannot become
    /// so.
    pub async fn node_set_policy(
        &self,
        id: NodeId,
        policy: NodePolicy,
        intention: Option<&Idempotency<'_, Node>>,
    ) -> Result<Once<Node>> {
        transaction!(self, |tx| once!(tx, intention, {
            let before = fetch(tx, id).await?;
            if before.policy != policy {
                set_policy(tx, &before, policy).await?;
            }
            fetch(tx, id).await?
        }))
    }

    /// Notes that a node came, went silent, was lost or fenced, if it still is what the caller saw; gives whether it
    /// was.
    pub async fn node_set_availability(
        &self,
        id: NodeId,
        from: NodeAvailability,
        to: NodeAvailability,
    ) -> Result<bool> {
        transaction!(self, |tx| {
            let now = tx.now;
            let sql = "UPDATE node SET availability = $3, availability_changed_at = $4 \
                       WHERE id = $1 AND availability = $2 AND availability <> $3";
            if tx.execute(Query::new("node", sql, values![id, from, to, now])).await? == 0 {
                return Ok(false);
            }
            let body = json!({ "from": from, "to": to });
            tx.event(EventKind::NodeAvailabilityChanged, Subject::node(id), body).await?;
            Ok(true)
        })
    }

    /// Sets how much more is sold than a node has.
    pub async fn node_set_overcommit(&self, id: NodeId, overcommit: Overcommit) -> Result<Node> {
        transaction!(self, |tx| {
            let now = tx.now;
            overcommit.check()?;
            let sql = "UPDATE node SET vcpu_percent = $2, memory_percent = $3, updated_at = $4 WHERE id = $1";
            let values = values![id, overcommit.vcpu_percent, overcommit.memory_percent, now];
            tx.execute_one(Query::new("node", sql, values), MISSING).await?;
            let body = json!({ "overcommit": overcommit });
            tx.event(EventKind::NodeChanged, Subject::node(id), body).await?;
            let inventory = fetch(tx, id).await?.inventory;
            heartbeat::inventory_in_tx(tx, id, &inventory).await?;
            fetch(tx, id).await
        })
    }
}

async fn set_policy(tx: &mut Tx, before: &Node, policy: NodePolicy) -> Result<()> {
    if before.doubled_at.is_some() && policy == NodePolicy::Active {
        let message = "two agents speak for this node, its certificate was copied: revoke it, and enroll the machine \
                       again with a ticket that is bound to this node";
        return Err(StoreError::Refused(Failure::new(Reason::Conflict, message).with_field("policy")));
    }
    let now = tx.now;
    let sql = "UPDATE node SET policy = $2, policy_reason = NULL, updated_at = $3 \
               WHERE id = $1 AND policy <> 'decommissioned' \
               AND ($2 <> 'decommissioned' OR (vcpu_used = 0 AND memory_used_mib = 0))";
    let message = if before.policy == NodePolicy::Decommissioned {
        "the node was decommissioned: enroll the machine as a new node"
    } else {
        "the node still holds instances: drain it first"
    };
    let refused = Failure::new(Reason::Conflict, message).with_field("policy");
    let query = Query::new("node", sql, values![before.id, policy, now]);
    tx.execute_one(query, StoreError::Refused(refused)).await?;
    let body = json!({ "from": before.policy, "to": policy });
    tx.event(EventKind::NodePolicyChanged, Subject::node(before.id), body).await
}
