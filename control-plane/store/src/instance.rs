//! Instances: reading them, and changing what is wanted of them.

use jiff::Timestamp;
use nemordp_model::{EventKind, Former, Instance, Lifecycle, Saga, SagaKind, SagaStatus, Siting, Wish};
use nemordp_types::node::NodeAvailability;
use nemordp_types::{Failure, InstanceId, NodeAddress, NodeId, Reason, RegionName};
use serde_json::json;

use crate::Store;
use crate::accept::Shape;
use crate::codec::{json, json_opt};
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::idempotency::{Idempotency, Once, once};
use crate::lease::{self, Lease};
use crate::page::{self, Page, Paged, TenantScope, scoped};
use crate::resize;
use crate::rows::{Kind, Rows};
use crate::saga::{self, NewSaga, Unfinished};
use crate::secret;
use crate::sql::{Query, Row, values};
use crate::transaction::{Sql, Tx};

pub(crate) const MISSING: StoreError = StoreError::NotFound { noun: InstanceId::NOUN };

macro_rules! columns {
    () => {
        "id, order_id, tenant_id, node_id, spec, generation, fence, lifecycle, observed, observed_at, \
         rdp_certificate_sha256, frozen, frozen_at, suspended_at, delete_after, misaligned_at, created_at, updated_at, \
         labels, placement_group, affinity, any_gpu_model, paid_until, \
         (SELECT t.pinned FROM tenant t WHERE t.id = instance.tenant_id) AS tenant_pinned"
    };
}

/// Which instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct InstanceFilter {
    /// On this node.
    pub node_id: Option<NodeId>,
    /// At this point of its life.
    pub lifecycle: Option<Lifecycle>,
}

/// What a wish became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The instance with its new generation.
    pub instance: Instance,
    /// The saga that brings it there.
    pub saga: Saga,
}

/// An instance and what has to be known of its node to work on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The instance.
    pub instance: Instance,
    /// Where its node's agent is reached.
    pub agent_address: NodeAddress,
    /// Whether its node answers.
    pub availability: NodeAvailability,
}

fn instance(row: &Row) -> Result<Instance> {
    Ok(Instance {
        id: row.get("id")?,
        order_id: row.get("order_id")?,
        tenant_id: row.get("tenant_id")?,
        node_id: row.get("node_id")?,
        siting: Siting {
            labels: row.json("labels")?,
            pinned: row.get("tenant_pinned")?,
            group: row.get("placement_group")?,
            affinity: row.get("affinity")?,
            any_gpu_model: row.get("any_gpu_model")?,
        },
        spec: row.json("spec")?,
        generation: row.get("generation")?,
        fence: row.get("fence")?,
        lifecycle: row.get("lifecycle")?,
        observed: row.json_opt("observed")?,
        observed_at: row.get("observed_at")?,
        rdp_certificate_sha256: row.get("rdp_certificate_sha256")?,
        frozen: row.get("frozen")?,
        frozen_at: row.get("frozen_at")?,
        suspended_at: row.get("suspended_at")?,
        delete_after: row.get("delete_after")?,
        misaligned_at: row.get("misaligned_at")?,
        paid_until: row.get("paid_until")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

const ROW: &[(&str, Kind)] = &[
    ("id", Kind::Blob),
    ("order_id", Kind::Blob),
    ("tenant_id", Kind::Blob),
    ("node_id", Kind::Blob),
    ("spec", Kind::Text),
    ("generation", Kind::Int),
    ("fence", Kind::Int),
    ("lifecycle", Kind::Text),
    ("created_at", Kind::Int),
    ("labels", Kind::Text),
    ("placement_group", Kind::Text),
    ("affinity", Kind::Text),
    ("any_gpu_model", Kind::Int),
    ("paid_until", Kind::Int),
];

/// Writes instances at their beginning.
pub(crate) async fn insert_in_tx<'i>(tx: &mut Tx, instances: impl Iterator<Item = &'i Instance>) -> Result<()> {
    let sql = "INSERT INTO instance (id, order_id, tenant_id, node_id, spec, generation, fence, lifecycle, created_at, \
               updated_at, labels, placement_group, affinity, any_gpu_model, paid_until) SELECT id, order_id, tenant_id, node_id, spec, \
               generation, fence, lifecycle, created_at, created_at, labels, placement_group, affinity, any_gpu_model, \
               paid_until FROM {rows} AS r";
    let mut rows = Rows::new(ROW);
    for new in instances {
        rows.push(values![
            new.id,
            new.order_id,
            new.tenant_id,
            new.node_id,
            json(&new.spec)?,
            new.generation,
            new.fence,
            new.lifecycle,
            new.created_at,
            json(&new.siting.labels)?,
            new.siting.group.as_ref(),
            new.siting.affinity,
            new.siting.any_gpu_model,
            new.paid_until,
        ]);
    }
    tx.execute_over(Query::over("instance", sql, vec![], rows)).await
}

/// Writes what this transaction changed; the fence is the lease's alone.
pub(crate) async fn update_in_tx(tx: &mut Tx, changed: &Instance) -> Result<()> {
    let sql = "UPDATE instance SET node_id = $2, spec = $3, generation = $4, lifecycle = $5, observed = $6, \
               rdp_certificate_sha256 = $7, updated_at = $8, suspended_at = $9, delete_after = $10, \
               misaligned_at = $11 WHERE id = $1 AND generation <= $4";
    let pin = changed.rdp_certificate_sha256.map(|sha256| sha256.to_vec());
    let values = values![
        changed.id,
        changed.node_id,
        json(&changed.spec)?,
        changed.generation,
        changed.lifecycle,
        json_opt(changed.observed.as_ref())?,
        pin,
        changed.updated_at,
        changed.suspended_at,
        changed.delete_after,
        changed.misaligned_at,
    ];
    tx.execute_one(Query::new("instance", sql, values), StoreError::StaleFence).await
}

pub(crate) async fn fetch(sql: &mut impl Sql, scope: TenantScope, id: InstanceId) -> Result<Instance> {
    let text = concat!("SELECT ", columns!(), " FROM instance WHERE id = $1 AND ($2 IS NULL OR tenant_id = $2)");
    let row = sql.fetch_optional(Query::new("instance", text, values![id, scope])).await?;
    instance(&row.ok_or(MISSING)?)
}

pub(crate) async fn fetch_any(sql: &mut impl Sql, id: InstanceId) -> Result<Option<Instance>> {
    let text = concat!("SELECT ", columns!(), " FROM instance WHERE id = $1");
    let row = sql.fetch_optional(Query::new("instance", text, values![id])).await?;
    row.as_ref().map(instance).transpose()
}

/// All that are not over.
pub(crate) async fn live(tx: &mut Tx) -> Result<Vec<Instance>> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM instance WHERE lifecycle IN ('provisioning', 'active', 'deleting') AND id > $1 ORDER BY id LIMIT $2"
    );
    page::every(tx, "instance", sql, instance, |instance| instance.id).await
}

/// Those on a node that are not over.
pub(crate) async fn live_on(tx: &mut Tx, node: NodeId) -> Result<Vec<Instance>> {
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM instance WHERE node_id = $1 AND lifecycle IN ('provisioning', 'active', 'deleting')"
    );
    tx.fetch(Query::new("instance", sql, values![node])).await?.iter().map(instance).collect()
}

pub(crate) async fn fetch_locked(tx: &mut Tx, scope: TenantScope, id: InstanceId) -> Result<Instance> {
    let text = concat!("SELECT ", columns!(), " FROM instance WHERE id = $1 AND ($2 IS NULL OR tenant_id = $2)");
    let locked =
        concat!("SELECT ", columns!(), " FROM instance WHERE id = $1 AND ($2 IS NULL OR tenant_id = $2) FOR UPDATE");
    let query = Query::new("instance", text, values![id, scope]).on_postgres(locked);
    instance(&tx.fetch_optional(query).await?.ok_or(MISSING)?)
}

/// Makes room for a new saga: deletion ends the one that is open or stuck, anything else waits for it.
async fn settle_unfinished_saga(tx: &mut Tx, id: InstanceId, wish: &Wish) -> Result<()> {
    let Some(unfinished) = saga::unfinished_in_tx(tx, id).await? else { return Ok(()) };
    if !wish.wins() {
        return Err(under_way(&unfinished));
    }
    saga::supersede_all_in_tx(tx, id).await?;
    // Of a password that was being set or left nobody knows whether the guest has it.
    if unfinished.kind.voids_password() { secret::erase_in_tx(tx, id).await } else { Ok(()) }
}

fn under_way(unfinished: &Unfinished) -> StoreError {
    let Unfinished { id, kind, status } = unfinished;
    let message = if *status == SagaStatus::Stuck {
        format!("operation {id} ({kind}) is stuck on this instance: the operator retries or abandons it first")
    } else {
        format!("operation {id} ({kind}) is under way on this instance: wait until it is done")
    };
    Failure::new(Reason::Conflict, message).into()
}

pub(crate) async fn change_in_tx(
    tx: &mut Tx,
    scope: TenantScope,
    id: InstanceId,
    wish: &Wish,
    new: &NewSaga,
) -> Result<Changed> {
    let mut instance = fetch_locked(tx, scope, id).await?;
    instance.require_thawed()?;
    if *wish == Wish::Delete && instance.lifecycle == Lifecycle::Deleting {
        let saga = saga::newest_of_kind(tx, id, SagaKind::Delete).await?;
        return Ok(Changed { instance, saga });
    }
    instance.require_active()?;
    settle_unfinished_saga(tx, id, wish).await?;
    let former = instance.former();
    let now = tx.now;
    instance.wish(wish, now)?;
    update_in_tx(tx, &instance).await?;
    let shape = Shape::of(&instance.spec);
    if shape != Shape::of(&former.spec) {
        resize::grow_in_tx(tx, id, &shape).await?;
    }
    saga::insert_in_tx(tx, new, instance.tenant_id, Some(instance.order_id), Some(id)).await?;
    saga::remember_former_in_tx(tx, new.id, &former).await?;
    let kind = if *wish == Wish::Delete { EventKind::InstanceDeleting } else { EventKind::InstanceChanged };
    let body = json!({
        "operation": new.kind,
        "power": instance.spec.power,
        "suspended": instance.suspended_at.is_some(),
        "delete_after": instance.delete_after,
    });
    tx.event(kind, Subject::from(&instance), body).await?;
    let saga = saga::fetch(tx, TenantScope::All, new.id).await?;
    Ok(Changed { instance, saga })
}

async fn take_back_in_tx(tx: &mut Tx, lease: &Lease, keeps_disk: bool) -> Result<Lease> {
    lease::guard_in_tx(tx, lease).await?;
    let (id, _) = lease.instance.ok_or(MISSING)?;
    let former: Former = saga::former(tx, lease.saga_id).await?;
    let mut instance = fetch_locked(tx, TenantScope::All, id).await?;
    let (before, now) = (Shape::of(&instance.spec), tx.now);
    if instance.take_back(former, keeps_disk, now) {
        update_in_tx(tx, &instance).await?;
        let shape = Shape::of(&instance.spec);
        if shape != before {
            resize::shrink_in_tx(tx, id, &shape).await?;
        }
        tx.event(EventKind::InstanceReverted, Subject::from(&instance), json!({ "operation_id": lease.saga_id }))
            .await?;
    }
    let mut lease = lease.clone();
    lease.instance = Some((id, instance.pair()));
    Ok(lease)
}

impl Store {
    /// One instance.
    pub async fn instance_fetch(&self, scope: TenantScope, id: InstanceId) -> Result<Instance> {
        fetch(&mut self.reader(), scope, id).await
    }

    /// One instance with its node, read at one instant.
    pub async fn instance_fetch_placed(&self, id: InstanceId) -> Result<Placed> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            ", (SELECT n.agent_address FROM node n WHERE n.id = instance.node_id) AS agent_address, \
             (SELECT n.availability FROM node n WHERE n.id = instance.node_id) AS availability \
             FROM instance WHERE id = $1"
        );
        let row = self.reader().fetch_optional(Query::new("instance", sql, values![id])).await?.ok_or(MISSING)?;
        let (agent_address, availability) = (row.get("agent_address")?, row.get("availability")?);
        Ok(Placed { instance: instance(&row)?, agent_address, availability })
    }

    /// Instances by id.
    pub async fn instance_list(
        &self,
        scope: TenantScope,
        filter: InstanceFilter,
        page: Page<InstanceId>,
    ) -> Result<Paged<Instance, InstanceId>> {
        let sql = scoped!(
            scope,
            concat!("SELECT ", columns!(), " FROM instance"),
            "AND ($2 IS NULL OR node_id = $2) AND ($3 IS NULL OR lifecycle = $3) AND id > $4 ORDER BY id LIMIT $5"
        );
        let values = values![scope, filter.node_id, filter.lifecycle, page.begins(), page.fetch()];
        let rows = self.reader().fetch(Query::new("instance", sql, values)).await?;
        let items = rows.iter().map(instance).collect::<Result<_>>()?;
        Ok(page.cut(items, |i: &Instance| i.id))
    }

    /// Delivered instances of a region that nothing is being done to, by id.
    pub async fn instance_list_movable(&self, region: &RegionName, limit: u32) -> Result<Vec<Instance>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM instance WHERE lifecycle = 'active' AND delete_after IS NULL AND frozen IS NULL \
             AND node_id IN (SELECT id FROM node WHERE region = $1) \
             AND NOT EXISTS (SELECT 1 FROM saga WHERE saga.instance_id = instance.id \
             AND saga.status IN ('running', 'unwinding', 'stuck')) ORDER BY id LIMIT $2"
        );
        let rows = self.reader().fetch(Query::new("instance", sql, values![region, limit])).await?;
        rows.iter().map(instance).collect()
    }

    /// Instances whose time to be deleted has come, the longest overdue first.
    pub async fn instance_list_overdue(&self, now: Timestamp, limit: u32) -> Result<Vec<InstanceId>> {
        let sql = "SELECT id FROM instance WHERE delete_after IS NOT NULL AND delete_after <= $1 \
                   AND lifecycle = 'active' ORDER BY delete_after, id LIMIT $2";
        let rows = self.reader().fetch(Query::new("instance", sql, values![now, limit])).await?;
        rows.iter().map(|row| row.get("id")).collect()
    }

    /// Instances whose node missed a change while it was fenced and answers again, the oldest first.
    pub async fn instance_list_misaligned(&self, limit: u32) -> Result<Vec<InstanceId>> {
        let sql = "SELECT i.id FROM instance i JOIN node n ON n.id = i.node_id WHERE i.misaligned_at IS NOT NULL \
                   AND i.lifecycle = 'active' AND i.frozen IS NULL AND n.availability = 'available' \
                   AND NOT EXISTS (SELECT 1 FROM saga s WHERE s.instance_id = i.id \
                   AND s.status IN ('running', 'unwinding', 'stuck')) ORDER BY i.misaligned_at, i.id LIMIT $1";
        let rows = self.reader().fetch(Query::new("instance", sql, values![limit])).await?;
        rows.iter().map(|row| row.get("id")).collect()
    }

    /// Takes back what this saga changed of what is wanted of its instance, room included; the generation rises. Gives the
    /// lease with the new numbers. Safe to repeat. `keeps_disk`: all but the size of the disk, which may have grown.
    pub async fn instance_take_back(&self, lease: &Lease, keeps_disk: bool) -> Result<Lease> {
        transaction!(self, |tx| take_back_in_tx(tx, lease, keeps_disk).await)
    }

    /// Changes what is wanted of an active instance, with the saga that brings it there, and the room that it needs more.
    /// `Conflict` while another saga is open or stuck, except that deletion ends that one; a second deletion gets the first
    /// one's saga. `CapacityExhausted` when its node has no room for a larger size.
    pub async fn instance_change(
        &self,
        scope: TenantScope,
        id: InstanceId,
        wish: &Wish,
        saga: &NewSaga,
        intention: Option<&Idempotency<'_, Changed>>,
    ) -> Result<Once<Changed>> {
        transaction!(self, |tx| once!(tx, intention, change_in_tx(tx, scope, id, wish, saga).await?))
    }
}
