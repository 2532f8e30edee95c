//! Instances: reading them, and changing what is wanted of them.

use nemordp_model::{EventKind, Instance, Lifecycle, Saga, SagaKind};
use nemordp_types::instance::DesiredPower;
use nemordp_types::{Failure, Generation, InstanceId, NodeId, Reason, SagaId};
use serde_json::json;

use crate::Store;
use crate::codec::{json, json_opt};
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::idempotency::{Idempotency, Once, once};
use crate::page::{Page, Paged, TenantScope};
use crate::rows::{Kind, Rows};
use crate::saga::{self, NewSaga};
use crate::sql::{Query, Row, values};
use crate::transaction::{Sql, Tx};

pub(crate) const MISSING: StoreError = StoreError::NotFound { noun: InstanceId::NOUN };

macro_rules! columns {
    () => {
        "id, order_id, tenant_id, node_id, spec, generation, fence, lifecycle, observed, observed_at, \
         rdp_certificate_sha256, frozen, frozen_at, created_at, updated_at"
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

/// What a customer wants of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// It should run.
    PowerOn,
    /// It should be off.
    PowerOff,
    /// Something is done to it that changes nothing of what it should be: restart, reset, a new password.
    Keep,
    /// It should be gone.
    Delete,
}

/// What a wish became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The instance with its new generation.
    pub instance: Instance,
    /// The saga that brings it there.
    pub saga: Saga,
}

fn instance(row: &Row) -> Result<Instance> {
    Ok(Instance {
        id: row.get("id")?,
        order_id: row.get("order_id")?,
        tenant_id: row.get("tenant_id")?,
        node_id: row.get("node_id")?,
        spec: row.json("spec")?,
        generation: row.get("generation")?,
        fence: row.get("fence")?,
        lifecycle: row.get("lifecycle")?,
        observed: row.json_opt("observed")?,
        observed_at: row.get("observed_at")?,
        rdp_certificate_sha256: row.get("rdp_certificate_sha256")?,
        frozen: row.get("frozen")?,
        frozen_at: row.get("frozen_at")?,
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
];

/// Writes instances at their beginning.
pub(crate) async fn insert_in_tx<'i>(tx: &mut Tx, instances: impl Iterator<Item = &'i Instance>) -> Result<()> {
    let sql = "INSERT INTO instance (id, order_id, tenant_id, node_id, spec, generation, fence, lifecycle, created_at, \
               updated_at) SELECT id, order_id, tenant_id, node_id, spec, generation, fence, lifecycle, created_at, \
               created_at FROM {rows} AS r";
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
        ]);
    }
    tx.execute_over(Query::over("instance", sql, vec![], rows)).await
}

/// Writes what this transaction changed; the fence is the lease's alone.
pub(crate) async fn update_in_tx(tx: &mut Tx, changed: &Instance) -> Result<()> {
    let sql = "UPDATE instance SET node_id = $2, spec = $3, generation = $4, lifecycle = $5, observed = $6, \
               rdp_certificate_sha256 = $7, updated_at = $8 WHERE id = $1 AND generation <= $4";
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
    let sql =
        concat!("SELECT ", columns!(), " FROM instance WHERE lifecycle IN ('provisioning', 'active', 'deleting')");
    tx.fetch(Query::new("instance", sql, vec![])).await?.iter().map(instance).collect()
}

pub(crate) async fn fetch_locked(tx: &mut Tx, scope: TenantScope, id: InstanceId) -> Result<Instance> {
    let text = concat!("SELECT ", columns!(), " FROM instance WHERE id = $1 AND ($2 IS NULL OR tenant_id = $2)");
    let locked =
        concat!("SELECT ", columns!(), " FROM instance WHERE id = $1 AND ($2 IS NULL OR tenant_id = $2) FOR UPDATE");
    let query = Query::new("instance", text, values![id, scope]).on_postgres(locked);
    instance(&tx.fetch_optional(query).await?.ok_or(MISSING)?)
}

/// Makes room for a new saga: deletion ends the one that is open, anything else waits for it.
async fn settle_open_saga(tx: &mut Tx, id: InstanceId, wish: Wish) -> Result<()> {
    let Some((open, kind)) = saga::open_in_tx(tx, id).await? else { return Ok(()) };
    match wish {
        Wish::Delete => saga::supersede_in_tx(tx, open).await,
        Wish::PowerOn | Wish::PowerOff | Wish::Keep => Err(under_way(open, kind)),
    }
}

fn under_way(open: SagaId, kind: SagaKind) -> StoreError {
    let message = format!("operation {open} ({kind}) is under way on this instance: wait until it is done");
    Failure::new(Reason::Conflict, message).into()
}

async fn change_in_tx(tx: &mut Tx, scope: TenantScope, id: InstanceId, wish: Wish, new: &NewSaga) -> Result<Changed> {
    let mut instance = fetch_locked(tx, scope, id).await?;
    instance.require_thawed()?;
    if wish == Wish::Delete && instance.lifecycle == Lifecycle::Deleting {
        let saga = saga::newest_of_kind(tx, id, SagaKind::Delete).await?;
        return Ok(Changed { instance, saga });
    }
    instance.require_active()?;
    settle_open_saga(tx, id, wish).await?;
    let kind = match wish {
        Wish::PowerOn => {
            instance.spec.power = DesiredPower::On;
            EventKind::InstanceChanged
        }
        Wish::PowerOff => {
            instance.spec.power = DesiredPower::Off;
            EventKind::InstanceChanged
        }
        Wish::Keep => EventKind::InstanceChanged,
        Wish::Delete => {
            instance.lifecycle = instance.lifecycle.to(Lifecycle::Deleting)?;
            EventKind::InstanceDeleting
        }
    };
    instance.generation = Generation(instance.generation.0 + 1);
    instance.updated_at = tx.now;
    update_in_tx(tx, &instance).await?;
    saga::insert_in_tx(tx, new, instance.tenant_id, Some(instance.order_id), Some(id)).await?;
    tx.event(kind, Subject::from(&instance), json!({ "operation": new.kind, "power": instance.spec.power })).await?;
    let saga = saga::fetch(tx, TenantScope::All, new.id).await?;
    Ok(Changed { instance, saga })
}

impl Store {
    /// One instance.
    pub async fn instance_fetch(&self, scope: TenantScope, id: InstanceId) -> Result<Instance> {
        fetch(&mut self.reader(), scope, id).await
    }

    /// Instances by id.
    pub async fn instance_list(
        &self,
        scope: TenantScope,
        filter: InstanceFilter,
        page: Page<InstanceId>,
    ) -> Result<Paged<Instance, InstanceId>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM instance WHERE ($1 IS NULL OR tenant_id = $1) AND ($2 IS NULL OR node_id = $2) \
             AND ($3 IS NULL OR lifecycle = $3) AND ($4 IS NULL OR id > $4) ORDER BY id LIMIT $5"
        );
        let values = values![scope, filter.node_id, filter.lifecycle, page.after, page.fetch()];
        let rows = self.reader().fetch(Query::new("instance", sql, values)).await?;
        let items = rows.iter().map(instance).collect::<Result<_>>()?;
        Ok(page.cut(items, |i: &Instance| i.id))
    }

    /// Changes what is wanted of an active instance, with the saga that brings it there. `Conflict` while another saga is
    /// open, except that deletion ends that one; a second deletion gets the first one's saga.
    pub async fn instance_change(
        &self,
        scope: TenantScope,
        id: InstanceId,
        wish: Wish,
        saga: &NewSaga,
        intention: Option<&Idempotency<'_, Changed>>,
    ) -> Result<Once<Changed>> {
        transaction!(self, |tx| once!(tx, intention, change_in_tx(tx, scope, id, wish, saga).await?))
    }
}
