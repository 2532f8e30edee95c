//! Changing how much an instance holds on its node: the old reservation ends and a new one begins in the same transaction,
//! so that the history of reservations stays true.

use nemordp_types::instance::GpuSpec;
use nemordp_types::node::{NodeAvailability, NodePolicy};
use nemordp_types::{Bytes, Failure, InstanceId, MiB, NodeId, Reason, ReservationId, Vcpu};

use crate::accept::Shape;
use crate::error::{Result, StoreError};
use crate::node_gpu;
use crate::reservation::{self, NewReservation};
use crate::sql::{Query, values};
use crate::transaction::{Sql as _, Tx};

/// What is held, and where.
struct Held {
    id: ReservationId,
    node_id: NodeId,
    vcpu: Vcpu,
    memory: MiB,
    disk: Bytes,
    gpus: Option<GpuSpec>,
}

/// The reservation that an instance has; locks it.
async fn held(tx: &mut Tx, instance_id: InstanceId) -> Result<Held> {
    let sql = "SELECT id, node_id, vcpu, memory_mib, disk_bytes, gpu_count, gpu_model FROM reservation \
               WHERE instance_id = $1 AND released_at IS NULL";
    let locked = "SELECT id, node_id, vcpu, memory_mib, disk_bytes, gpu_count, gpu_model FROM reservation \
                  WHERE instance_id = $1 AND released_at IS NULL FOR UPDATE";
    let query = Query::new("reservation", sql, values![instance_id]).on_postgres(locked);
    let row = tx.fetch_optional(query).await?.ok_or_else(|| lost(instance_id, "an active instance holds nothing"))?;
    Ok(Held {
        id: row.get("id")?,
        node_id: row.get("node_id")?,
        vcpu: row.get("vcpu")?,
        memory: row.get("memory_mib")?,
        disk: row.get("disk_bytes")?,
        gpus: node_gpu::held(&row)?,
    })
}

fn lost(instance_id: InstanceId, detail: &str) -> StoreError {
    let (column, row) = ("instance_id".to_owned(), instance_id.to_string());
    StoreError::Inconsistency { table: "reservation", column, row, detail: detail.to_owned() }
}

/// Ends one reservation and begins the next, with the same GPUs and with two numbers of the node's history of which this is the higher.
async fn replace(tx: &mut Tx, instance_id: InstanceId, held: &Held, shape: &Shape, sequence: u64) -> Result<()> {
    let now = tx.now;
    let sql = "UPDATE reservation SET released_at = $2, released_sequence = $3 WHERE id = $1 AND released_at IS NULL";
    let ended = values![held.id, now, sequence.saturating_sub(1)];
    tx.execute_one(Query::new("reservation", sql, ended), lost(instance_id, "its reservation is gone")).await?;
    let id = ReservationId::new(tx.clock.as_ref(), tx.entropy.as_ref());
    let new = NewReservation { id, instance_id, node_id: held.node_id, shape, gpus: held.gpus.as_ref(), sequence };
    reservation::insert_in_tx(tx, &[new]).await
}

/// Takes more room for an instance on the node that it is on; a cordoned one takes no new instances, but lets those grow
/// that it has.
///
/// # Errors
/// `capacity_exhausted` with the field that does not fit; nothing is taken then.
pub(crate) async fn grow_in_tx(tx: &mut Tx, instance_id: InstanceId, shape: &Shape) -> Result<()> {
    let held = held(tx, instance_id).await?;
    let vcpu = u64::from(shape.vcpu.0.saturating_sub(held.vcpu.0));
    let memory = shape.memory.0.saturating_sub(held.memory.0);
    let disk = Bytes::from(shape.disk).saturating_sub(held.disk);
    let sql = "UPDATE node SET vcpu_used = vcpu_used + $2, memory_used_mib = memory_used_mib + $3, \
               reservation_sequence = reservation_sequence + 2 WHERE id = $1 \
               AND policy IN ('active', 'cordoned') AND availability = 'available' \
               AND ($2 = 0 OR vcpu_used + $2 <= vcpu_capacity - held_vcpu) \
               AND ($3 = 0 OR memory_used_mib + $3 <= memory_capacity_mib - held_memory_mib) RETURNING reservation_sequence";
    let row = tx.fetch_optional(Query::new("node", sql, values![held.node_id, vcpu, memory])).await?;
    let Some(row) = row else { return Err(no_room(tx, held.node_id, vcpu).await?.into()) };
    let sql = "UPDATE node_pool SET used_bytes = used_bytes + $3 WHERE node_id = $1 AND storage_class = $2 \
               AND ($3 = 0 OR used_bytes + $3 <= capacity_bytes - (SELECT held_disk_bytes FROM node WHERE id = $1))";
    let full = StoreError::Refused(lacks("disk_gib", "storage"));
    tx.execute_one(Query::new("node_pool", sql, values![held.node_id, &shape.storage_class, disk]), full).await?;
    replace(tx, instance_id, &held, shape, row.get("reservation_sequence")?).await
}

/// Gives room back that a change took which was taken back.
pub(crate) async fn shrink_in_tx(tx: &mut Tx, instance_id: InstanceId, shape: &Shape) -> Result<()> {
    let held = held(tx, instance_id).await?;
    let vcpu = u64::from(held.vcpu.0.saturating_sub(shape.vcpu.0));
    let memory = held.memory.0.saturating_sub(shape.memory.0);
    let disk = held.disk.saturating_sub(Bytes::from(shape.disk));
    let gone = || lost(instance_id, "its node or pool is gone");
    // As with a release: what a shrunken node gets back cannot be sold again.
    let sql = "UPDATE node SET vcpu_used = vcpu_used - $2, memory_used_mib = memory_used_mib - $3, \
               vcpu_bound = CASE WHEN vcpu_used - $2 > vcpu_capacity THEN vcpu_used - $2 ELSE vcpu_capacity END, \
               memory_bound_mib = CASE WHEN memory_used_mib - $3 > memory_capacity_mib \
               THEN memory_used_mib - $3 ELSE memory_capacity_mib END, \
               reservation_sequence = reservation_sequence + 2 WHERE id = $1 RETURNING reservation_sequence";
    let row = tx.fetch_optional(Query::new("node", sql, values![held.node_id, vcpu, memory])).await?;
    let sequence = row.ok_or_else(gone)?.get("reservation_sequence")?;
    let sql = "UPDATE node_pool SET used_bytes = used_bytes - $3, bound_bytes = CASE \
               WHEN used_bytes - $3 > capacity_bytes THEN used_bytes - $3 ELSE capacity_bytes END \
               WHERE node_id = $1 AND storage_class = $2";
    tx.execute_one(Query::new("node_pool", sql, values![held.node_id, &shape.storage_class, disk]), gone()).await?;
    replace(tx, instance_id, &held, shape, sequence).await
}

/// Why a node does not take more: it does not answer, or which amount lacks.
async fn no_room(tx: &mut Tx, node_id: NodeId, vcpu: u64) -> Result<Failure> {
    let sql = "SELECT policy, availability, vcpu_capacity, held_vcpu, vcpu_used FROM node WHERE id = $1";
    let row = tx.fetch_optional(Query::new("node", sql, values![node_id])).await?;
    let row = row.ok_or(StoreError::NotFound { noun: NodeId::NOUN })?;
    let usable = matches!(row.get("policy")?, NodePolicy::Active | NodePolicy::Cordoned)
        && row.get::<NodeAvailability>("availability")? == NodeAvailability::Available;
    if !usable {
        return Ok(Failure::new(
            Reason::CapacityExhausted,
            "the instance's node is away or is being emptied: try again when it is back",
        ));
    }
    let sold = row.get::<u64>("vcpu_capacity")?.saturating_sub(row.get("held_vcpu")?);
    let free = sold.saturating_sub(row.get("vcpu_used")?);
    Ok(if vcpu <= free { lacks("memory_mib", "memory") } else { lacks("vcpu", "processors") })
}

fn lacks(field: &str, what: &str) -> Failure {
    let message =
        format!("the instance's node has not enough {what} left for this size: ask for less, or order a new one");
    Failure::new(Reason::CapacityExhausted, message).with_field(field)
}
