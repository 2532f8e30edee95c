//! Capacity that is held: taken by one conditional write, given back once.
//!
//! The reservations are their own history. Each reserve and each release takes the next number of its node while the
//! node's row is locked, so the numbers of a node are the order of its commits: who replays them finds what was held after
//! every commit, and a number that is missing is an entry that was lost.

use std::collections::BTreeSet;

use jiff::Timestamp;
use nemordp_model::Label;
use nemordp_types::instance::GpuSpec;
use nemordp_types::node::NodeInventory;
use nemordp_types::{Bytes, InstanceId, MiB, NodeId, ReservationId, StorageClass, TenantId, Vcpu};

use crate::Store;
use crate::accept::Shape;
use crate::claim;
use crate::error::{Result, StoreError};
use crate::node_gpu;
use crate::page::{Page, Paged};
use crate::rows::{Kind, Rows};
use crate::sql::{Query, Row, values};
use crate::transaction::{Sql as _, Tx};

/// Capacity held on a node for an instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reservation {
    /// Its id.
    pub id: ReservationId,
    /// For whom.
    pub instance_id: InstanceId,
    /// Where.
    pub node_id: NodeId,
    /// Processors.
    pub vcpu: Vcpu,
    /// Memory.
    pub memory: MiB,
    /// The pool of the disk.
    pub storage_class: StorageClass,
    /// Disk.
    pub disk: Bytes,
    /// GPUs.
    pub gpus: Option<GpuSpec>,
    /// Since when.
    pub created_at: Timestamp,
    /// When it was given back.
    pub released_at: Option<Timestamp>,
    /// Its number in the history of its node; none from before there was one.
    pub reserved_sequence: Option<u64>,
    /// The number of its release.
    pub released_sequence: Option<u64>,
}

/// What a node gave.
pub(crate) struct Taken {
    /// What the node offers.
    pub(crate) inventory: NodeInventory,
    /// What operators call it by.
    pub(crate) labels: BTreeSet<Label>,
    /// The only tenant that it is kept for.
    pub(crate) pinned_to: Option<TenantId>,
    /// GPUs, of the model that there was.
    pub(crate) gpus: Option<GpuSpec>,
    /// The number in the node's history.
    pub(crate) sequence: u64,
}

macro_rules! columns {
    () => {
        "id, instance_id, node_id, vcpu, memory_mib, storage_class, disk_bytes, created_at, released_at, \
         reserved_sequence, released_sequence, gpu_count, gpu_model"
    };
}

fn reservation(row: &Row) -> Result<Reservation> {
    Ok(Reservation {
        id: row.get("id")?,
        instance_id: row.get("instance_id")?,
        node_id: row.get("node_id")?,
        vcpu: row.get("vcpu")?,
        memory: row.get("memory_mib")?,
        storage_class: row.get("storage_class")?,
        disk: row.get("disk_bytes")?,
        gpus: node_gpu::held(row)?,
        created_at: row.get("created_at")?,
        released_at: row.get("released_at")?,
        reserved_sequence: row.get("reserved_sequence")?,
        released_sequence: row.get("released_sequence")?,
    })
}

/// Takes the room if it is still there, or says `Raced`. Locks the node's row.
pub(crate) async fn take_in_tx(tx: &mut Tx, node_id: NodeId, shape: &Shape) -> Result<Taken> {
    let sql = "UPDATE node SET vcpu_used = vcpu_used + $2, memory_used_mib = memory_used_mib + $3, \
               reservation_sequence = reservation_sequence + 1 \
               WHERE id = $1 AND policy = 'active' AND availability = 'available' \
               AND vcpu_used + $2 <= vcpu_capacity - held_vcpu \
               AND memory_used_mib + $3 <= memory_capacity_mib - held_memory_mib \
               RETURNING inventory, labels, pinned_to, reservation_sequence";
    let row = tx.fetch_optional(Query::new("node", sql, values![node_id, shape.vcpu, shape.memory])).await?;
    let row = row.ok_or(StoreError::Raced)?;
    let mut taken = Taken {
        inventory: row.json("inventory")?,
        labels: row.json("labels")?,
        pinned_to: row.get("pinned_to")?,
        gpus: None,
        sequence: row.get("reservation_sequence")?,
    };
    let sql = "UPDATE node_pool SET used_bytes = used_bytes + $3 \
               WHERE node_id = $1 AND storage_class = $2 \
               AND used_bytes + $3 <= capacity_bytes - (SELECT held_disk_bytes FROM node WHERE id = $1)";
    let values = values![node_id, &shape.storage_class, Bytes::from(shape.disk)];
    tx.execute_one(Query::new("node_pool", sql, values), StoreError::Raced).await?;
    if let Some(wanted) = &shape.gpus {
        taken.gpus = Some(node_gpu::take_in_tx(tx, node_id, wanted).await?);
    }
    Ok(taken)
}

/// Capacity that was taken, to be written down.
pub(crate) struct NewReservation<'a> {
    pub(crate) id: ReservationId,
    pub(crate) instance_id: InstanceId,
    pub(crate) node_id: NodeId,
    pub(crate) shape: &'a Shape,
    /// The GPUs that were taken for it.
    pub(crate) gpus: Option<&'a GpuSpec>,
    /// The number in the node's history.
    pub(crate) sequence: u64,
}

pub(crate) async fn insert_in_tx(tx: &mut Tx, new: &[NewReservation<'_>]) -> Result<()> {
    let now = tx.now;
    let sql = "INSERT INTO reservation (id, instance_id, node_id, vcpu, memory_mib, storage_class, disk_bytes, created_at, \
               reserved_sequence, gpu_count, gpu_model) SELECT id, instance_id, node_id, vcpu, memory_mib, storage_class, \
               disk_bytes, $1, sequence, gpu_count, gpu_model FROM {rows} AS r";
    let mut rows = Rows::new(&[
        ("id", Kind::Blob),
        ("instance_id", Kind::Blob),
        ("node_id", Kind::Blob),
        ("vcpu", Kind::Int),
        ("memory_mib", Kind::Int),
        ("storage_class", Kind::Text),
        ("disk_bytes", Kind::Int),
        ("sequence", Kind::Int),
        ("gpu_count", Kind::Int),
        ("gpu_model", Kind::Text),
    ]);
    for NewReservation { id, instance_id, node_id, shape, gpus, sequence } in new {
        let disk = Bytes::from(shape.disk);
        rows.push(values![
            *id,
            *instance_id,
            *node_id,
            shape.vcpu,
            shape.memory,
            &shape.storage_class,
            disk,
            *sequence,
            gpus.map_or(0, |gpus| gpus.count),
            gpus.map(|gpus| &gpus.model),
        ]);
    }
    tx.execute_over(Query::over("reservation", sql, values![now], rows)).await
}

/// Gives back all that an instance holds: capacity, port, private address. Safe to repeat; gives whether it held any
/// capacity.
pub(crate) async fn release_in_tx(tx: &mut Tx, instance_id: InstanceId) -> Result<bool> {
    let sql = concat!("SELECT ", columns!(), " FROM reservation WHERE instance_id = $1 AND released_at IS NULL");
    let locked = concat!(
        "SELECT ",
        columns!(),
        " FROM reservation WHERE instance_id = $1 AND released_at IS NULL ORDER BY node_id FOR UPDATE"
    );
    let rows = tx.fetch(Query::new("reservation", sql, values![instance_id]).on_postgres(locked)).await?;
    for row in &rows {
        give_back(tx, &reservation(row)?).await?;
    }
    claim::release_in_tx(tx, instance_id).await?;
    Ok(!rows.is_empty())
}

async fn give_back(tx: &mut Tx, held: &Reservation) -> Result<()> {
    let now = tx.now;
    let lost = || StoreError::Inconsistency {
        table: "reservation",
        column: "node_id".to_owned(),
        row: held.id.to_string(),
        detail: "its node or pool is gone".to_owned(),
    };
    // The bound follows down at once: what a shrunken node gives back cannot be sold again.
    let sql = "UPDATE node SET vcpu_used = vcpu_used - $2, memory_used_mib = memory_used_mib - $3, \
               vcpu_bound = CASE WHEN vcpu_used - $2 > vcpu_capacity THEN vcpu_used - $2 ELSE vcpu_capacity END, \
               memory_bound_mib = CASE WHEN memory_used_mib - $3 > memory_capacity_mib \
               THEN memory_used_mib - $3 ELSE memory_capacity_mib END, \
               reservation_sequence = reservation_sequence + 1 WHERE id = $1 RETURNING reservation_sequence";
    let row = tx.fetch_optional(Query::new("node", sql, values![held.node_id, held.vcpu, held.memory])).await?;
    let sequence: u64 = row.ok_or_else(lost)?.get("reservation_sequence")?;
    let sql = "UPDATE node_pool SET used_bytes = used_bytes - $3, bound_bytes = CASE \
               WHEN used_bytes - $3 > capacity_bytes THEN used_bytes - $3 ELSE capacity_bytes END \
               WHERE node_id = $1 AND storage_class = $2";
    let values = values![held.node_id, &held.storage_class, held.disk];
    tx.execute_one(Query::new("node_pool", sql, values), lost()).await?;
    if let Some(gpus) = &held.gpus {
        node_gpu::give_back_in_tx(tx, held.node_id, gpus, lost()).await?;
    }
    let sql = "UPDATE reservation SET released_at = $2, released_sequence = $3 WHERE id = $1 AND released_at IS NULL";
    tx.execute_one(Query::new("reservation", sql, values![held.id, now, sequence]), lost()).await
}

impl Store {
    /// Reservations, those that were given back too: their history is what an auditor replays.
    pub async fn reservation_list(&self, page: Page<ReservationId>) -> Result<Paged<Reservation, ReservationId>> {
        let sql = concat!("SELECT ", columns!(), " FROM reservation WHERE id > $1 ORDER BY id LIMIT $2");
        let rows = self.reader().fetch(Query::new("reservation", sql, values![page.begins(), page.fetch()])).await?;
        let items = rows.iter().map(reservation).collect::<Result<_>>()?;
        Ok(page.cut(items, |r: &Reservation| r.id))
    }
}
