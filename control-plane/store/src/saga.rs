//! Sagas as they are shown and steered. Whoever works on one holds its lease: [`crate::lease`].

use std::collections::BTreeMap;

use nemordp_model::{EventKind, Former, OrderChange, Saga, SagaKind, SagaStatus, SagaStep};
use nemordp_types::{Failure, InstanceId, OrderId, Reason, SagaId, TenantId};

use crate::Store;
use crate::codec::json;
use crate::effect::{self, Effect};
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::idempotency::{Idempotency, Once, once};
use crate::page::{Page, Paged, TenantScope, scoped};
use crate::rows::{Kind, Rows};
use crate::sql::{Query, Row, values};
use crate::transaction::{Sql, Tx};

pub(crate) const MISSING: StoreError = StoreError::NotFound { noun: "operation" };

macro_rules! columns {
    () => {
        "id, kind, status, step, attempt, fence, lease_owner, lease_until, next_run_at, cancel_requested_at, failure, \
         tenant_id, order_id, instance_id, created_at, updated_at, finished_at"
    };
}
pub(crate) use columns;

/// A saga to be started.
#[derive(Debug, Clone)]
pub struct NewSaga {
    /// Its id.
    pub id: SagaId,
    /// What it intends.
    pub kind: SagaKind,
    /// The engine's typed state as JSON text. Never holds a password.
    pub state: String,
    /// Names of its steps in order.
    pub steps: Vec<String>,
}

/// Which sagas.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SagaFilter {
    /// Where it is.
    pub status: Option<SagaStatus>,
    /// About this order.
    pub order_id: Option<OrderId>,
    /// About this instance.
    pub instance_id: Option<InstanceId>,
}

/// A saga without its steps.
pub(crate) fn saga(row: &Row) -> Result<Saga> {
    Ok(Saga {
        id: row.get("id")?,
        kind: row.get("kind")?,
        status: row.get("status")?,
        step: row.get("step")?,
        attempt: row.get("attempt")?,
        fence: row.get("fence")?,
        lease_owner: row.get("lease_owner")?,
        lease_until: row.get("lease_until")?,
        next_run_at: row.get("next_run_at")?,
        cancel_requested_at: row.get("cancel_requested_at")?,
        failure: row.json_opt("failure")?,
        tenant_id: row.get("tenant_id")?,
        order_id: row.get("order_id")?,
        instance_id: row.get("instance_id")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
        finished_at: row.get("finished_at")?,
        steps: Vec::new(),
    })
}

fn step(row: &Row) -> Result<SagaStep> {
    Ok(SagaStep {
        position: row.get("position")?,
        name: row.get("name")?,
        state: row.get("state")?,
        attempts: row.get("attempts")?,
        started_at: row.get("started_at")?,
        finished_at: row.get("finished_at")?,
        percent: row.get("percent")?,
        detail: row.get("detail")?,
        failure: row.json_opt("failure")?,
    })
}

pub(crate) async fn steps(sql: &mut impl Sql, id: SagaId) -> Result<Vec<SagaStep>> {
    let text = "SELECT position, name, state, attempts, started_at, finished_at, percent, detail, failure \
                FROM saga_step WHERE saga_id = $1 ORDER BY position";
    let rows = sql.fetch(Query::new("saga_step", text, values![id])).await?;
    rows.iter().map(step).collect()
}

/// The steps of many sagas, whose ids are the column `wanted`.
pub(crate) async fn steps_of(tx: &mut Tx, sagas: Rows) -> Result<BTreeMap<SagaId, Vec<SagaStep>>> {
    let text = "SELECT saga_id, position, name, state, attempts, started_at, finished_at, percent, detail, failure \
                FROM saga_step WHERE saga_id IN (SELECT wanted FROM {rows} AS r) ORDER BY saga_id, position";
    let mut steps: BTreeMap<SagaId, Vec<SagaStep>> = BTreeMap::new();
    for row in tx.fetch(Query::over("saga_step", text, vec![], sagas)).await? {
        steps.entry(row.get("saga_id")?).or_default().push(step(&row)?);
    }
    Ok(steps)
}

pub(crate) async fn fetch(sql: &mut impl Sql, scope: TenantScope, id: SagaId) -> Result<Saga> {
    let text = concat!("SELECT ", columns!(), " FROM saga WHERE id = $1 AND ($2 IS NULL OR tenant_id = $2)");
    let row = sql.fetch_optional(Query::new("saga", text, values![id, scope])).await?;
    let mut saga = saga(&row.ok_or(MISSING)?)?;
    saga.steps = steps(sql, id).await?;
    Ok(saga)
}

/// Those that are open or stuck, without their steps.
pub(crate) async fn unfinished(tx: &mut Tx) -> Result<Vec<Saga>> {
    let sql = concat!("SELECT ", columns!(), " FROM saga WHERE status IN ('running', 'unwinding', 'stuck')");
    tx.fetch(Query::new("saga", sql, vec![])).await?.iter().map(saga).collect()
}

/// Whom a new saga is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct About {
    pub(crate) tenant_id: TenantId,
    pub(crate) order_id: Option<OrderId>,
    pub(crate) instance_id: Option<InstanceId>,
}

pub(crate) async fn insert_in_tx(
    tx: &mut Tx,
    new: &NewSaga,
    tenant_id: TenantId,
    order_id: Option<OrderId>,
    instance_id: Option<InstanceId>,
) -> Result<()> {
    insert_many_in_tx(tx, &[(new, About { tenant_id, order_id, instance_id })]).await
}

/// Writes sagas at their beginning, with their steps.
pub(crate) async fn insert_many_in_tx(tx: &mut Tx, sagas: &[(&NewSaga, About)]) -> Result<()> {
    let now = tx.now;
    let mut rows = Rows::new(&[
        ("id", Kind::Blob),
        ("kind", Kind::Text),
        ("state", Kind::Text),
        ("tenant_id", Kind::Blob),
        ("order_id", Kind::Blob),
        ("instance_id", Kind::Blob),
    ]);
    let mut steps = Rows::new(&[("saga_id", Kind::Blob), ("position", Kind::Int), ("name", Kind::Text)]);
    for (new, about) in sagas {
        let About { tenant_id, order_id, instance_id } = *about;
        rows.push(values![new.id, new.kind, new.state.as_str(), tenant_id, order_id, instance_id]);
        for (position, name) in (0u32..).zip(&new.steps) {
            steps.push(values![new.id, position, name.as_str()]);
        }
    }
    let sql = "INSERT INTO saga (id, kind, state, status, next_run_at, tenant_id, order_id, instance_id, created_at, \
               updated_at) SELECT id, kind, state, 'running', $1, tenant_id, order_id, instance_id, $1, $1 \
               FROM {rows} AS r";
    tx.execute_over(Query::over("saga", sql, values![now], rows)).await?;
    let sql = "INSERT INTO saga_step (saga_id, position, name, state) SELECT saga_id, position, name, 'pending' \
               FROM {rows} AS r";
    tx.execute_over(Query::over("saga_step", sql, vec![], steps)).await
}

/// The saga that is open on an instance; the schema allows one.
pub(crate) async fn open_in_tx(tx: &mut Tx, instance_id: InstanceId) -> Result<Option<(SagaId, SagaKind)>> {
    let sql = "SELECT id, kind FROM saga WHERE instance_id = $1 AND status IN ('running', 'unwinding')";
    let row = tx.fetch_optional(Query::new("saga", sql, values![instance_id])).await?;
    row.map(|row| Ok((row.get("id")?, row.get("kind")?))).transpose()
}

/// A saga that is open or stuck.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unfinished {
    pub(crate) id: SagaId,
    pub(crate) kind: SagaKind,
    pub(crate) status: SagaStatus,
}

/// The saga that is open or stuck on an instance; an open one first.
pub(crate) async fn unfinished_in_tx(tx: &mut Tx, instance_id: InstanceId) -> Result<Option<Unfinished>> {
    let sql = "SELECT id, kind, status FROM saga WHERE instance_id = $1 \
               AND status IN ('running', 'unwinding', 'stuck') \
               ORDER BY CASE status WHEN 'stuck' THEN 1 ELSE 0 END, id DESC LIMIT 1";
    let row = tx.fetch_optional(Query::new("saga", sql, values![instance_id])).await?;
    row.map(|row| Ok(Unfinished { id: row.get("id")?, kind: row.get("kind")?, status: row.get("status")? })).transpose()
}

/// Keeps what was wanted of the instance before the saga.
pub(crate) async fn remember_former_in_tx(tx: &mut Tx, id: SagaId, former: &Former) -> Result<()> {
    let sql = "UPDATE saga SET former = $2 WHERE id = $1";
    tx.execute_one(Query::new("saga", sql, values![id, json(former)?]), MISSING).await
}

/// What was wanted of the instance before the saga.
pub(crate) async fn former(sql: &mut impl Sql, id: SagaId) -> Result<Former> {
    let text = "SELECT former FROM saga WHERE id = $1";
    sql.fetch_optional(Query::new("saga", text, values![id])).await?.ok_or(MISSING)?.json("former")
}

pub(crate) async fn newest_of_kind(tx: &mut Tx, instance_id: InstanceId, kind: SagaKind) -> Result<Saga> {
    let sql = "SELECT id FROM saga WHERE instance_id = $1 AND kind = $2 ORDER BY id DESC LIMIT 1";
    let row = tx.fetch_optional(Query::new("saga", sql, values![instance_id, kind])).await?.ok_or(MISSING)?;
    fetch(tx, TenantScope::All, row.get("id")?).await
}

/// Ends what is open or stuck on an instance, because that is to be deleted; who holds a lease learns it at the next write.
pub(crate) async fn supersede_all_in_tx(tx: &mut Tx, instance_id: InstanceId) -> Result<()> {
    let now = tx.now;
    let sql = "UPDATE saga SET status = 'cancelled', lease_owner = NULL, lease_until = NULL, updated_at = $2, \
               finished_at = $2, cancel_requested_at = COALESCE(cancel_requested_at, $2) \
               WHERE instance_id = $1 AND status IN ('running', 'unwinding', 'stuck')";
    tx.execute(Query::new("saga", sql, values![instance_id, now])).await.map(|_| ())
}

/// Ends one open saga in the same way.
pub(crate) async fn supersede_in_tx(tx: &mut Tx, id: SagaId) -> Result<()> {
    let now = tx.now;
    let sql = "UPDATE saga SET status = 'cancelled', lease_owner = NULL, lease_until = NULL, updated_at = $2, \
               finished_at = $2, cancel_requested_at = COALESCE(cancel_requested_at, $2) \
               WHERE id = $1 AND status IN ('running', 'unwinding')";
    tx.execute(Query::new("saga", sql, values![id, now])).await.map(|_| ())
}

/// Tells a saga to stop. Who holds its lease learns it when renewing; without a holder it runs at once.
pub(crate) async fn request_cancel_in_tx(tx: &mut Tx, id: SagaId) -> Result<()> {
    let now = tx.now;
    let sql = "UPDATE saga SET cancel_requested_at = COALESCE(cancel_requested_at, $2), \
               next_run_at = CASE WHEN lease_owner IS NULL THEN $2 ELSE next_run_at END, updated_at = $2 \
               WHERE id = $1 AND status IN ('running', 'unwinding')";
    tx.execute(Query::new("saga", sql, values![id, now])).await.map(|_| ())
}

/// Moves a stuck saga on; `to` is one of the open states or `unwound`.
async fn unstick(tx: &mut Tx, saga: &Saga, to: SagaStatus) -> Result<()> {
    let (now, id) = (tx.now, saga.id);
    if let Some(instance_id) = saga.instance_id.filter(|_| to.is_open())
        && let Some((open, kind)) = open_in_tx(tx, instance_id).await?
        && open != id
    {
        let message = format!("operation {open} ({kind}) is under way on the instance: wait until it is done");
        return Err(Failure::new(Reason::Conflict, message).into());
    }
    let finished_at = (!to.is_open()).then_some(now);
    let sql = "UPDATE saga SET status = $2, next_run_at = $3, updated_at = $3, finished_at = $4 \
               WHERE id = $1 AND status = 'stuck'";
    let message = format!("the operation is {}: only a stuck one takes this", saga.status);
    let refused = Failure::new(Reason::Conflict, message).with_field("status");
    tx.execute_one(Query::new("saga", sql, values![id, to, now, finished_at]), StoreError::Refused(refused)).await
}

/// What a saga leaves that was given up, once everything on the node was removed by hand.
fn last_effects(saga: &Saga) -> Vec<Effect> {
    let Some(instance_id) = saga.instance_id else { return Vec::new() };
    if saga.kind == SagaKind::Provision {
        let failure = saga.failure.clone().unwrap_or_else(|| Failure::internal("given up without a cause"));
        let asked_for = saga.cancel_requested_at.is_some();
        let change = if asked_for { OrderChange::Cancel } else { OrderChange::Fail(failure) };
        let order = saga.order_id.map(|order_id| Effect::Order { order_id, change });
        return [Effect::InstanceFailed { instance_id }].into_iter().chain(order).collect();
    }
    if saga.kind == SagaKind::Delete {
        return vec![Effect::InstanceDeleted { instance_id }];
    }
    let unproven = saga.kind.voids_password().then_some(Effect::EraseSecret { instance_id });
    unproven.into_iter().collect()
}

async fn abandon_in_tx(tx: &mut Tx, scope: TenantScope, id: SagaId) -> Result<Saga> {
    let saga = fetch(tx, scope, id).await?;
    unstick(tx, &saga, SagaStatus::Unwound).await?;
    for effect in last_effects(&saga) {
        effect::apply_in_tx(tx, &effect).await?;
    }
    let body = serde_json::json!({ "operation_id": saga.id, "kind": saga.kind });
    tx.event(EventKind::SagaAbandoned, Subject::from(&saga), body).await?;
    fetch(tx, scope, id).await
}

impl Store {
    /// One saga with its steps: the operation that HTTP shows.
    pub async fn saga_fetch(&self, scope: TenantScope, id: SagaId) -> Result<Saga> {
        fetch(&mut self.reader(), scope, id).await
    }

    /// The engine's state of a saga as JSON text.
    pub async fn saga_state(&self, id: SagaId) -> Result<String> {
        let sql = "SELECT state FROM saga WHERE id = $1";
        self.reader().fetch_optional(Query::new("saga", sql, values![id])).await?.ok_or(MISSING)?.get("state")
    }

    /// What was wanted of its instance before the saga.
    pub async fn saga_former(&self, id: SagaId) -> Result<Former> {
        former(&mut self.reader(), id).await
    }

    /// Sagas by id, without their steps.
    pub async fn saga_list(
        &self,
        scope: TenantScope,
        filter: SagaFilter,
        page: Page<SagaId>,
    ) -> Result<Paged<Saga, SagaId>> {
        let sql = scoped!(
            scope,
            concat!("SELECT ", columns!(), " FROM saga"),
            "AND ($2 IS NULL OR status = $2) AND ($3 IS NULL OR order_id = $3) AND ($4 IS NULL OR instance_id = $4) \
             AND id > $5 ORDER BY id LIMIT $6"
        );
        let SagaFilter { status, order_id, instance_id } = filter;
        let values = values![scope, status, order_id, instance_id, page.begins(), page.fetch()];
        let rows = self.reader().fetch(Query::new("saga", sql, values)).await?;
        let items = rows.iter().map(saga).collect::<Result<_>>()?;
        Ok(page.cut(items, |s: &Saga| s.id))
    }

    /// Lets a stuck saga run or unwind again, as a human decided.
    pub async fn saga_retry(&self, id: SagaId, unwind: bool) -> Result<()> {
        let to = if unwind { SagaStatus::Unwinding } else { SagaStatus::Running };
        self.saga_resume(TenantScope::All, id, Some(to), None).await.map(drop)
    }

    /// Lets a stuck saga go on: where it was when it stuck, or in the direction that is named.
    pub async fn saga_resume(
        &self,
        scope: TenantScope,
        id: SagaId,
        to: Option<SagaStatus>,
        intention: Option<&Idempotency<'_, Saga>>,
    ) -> Result<Once<Saga>> {
        transaction!(self, |tx| once!(tx, intention, {
            let saga = fetch(tx, scope, id).await?;
            unstick(tx, &saga, to.unwrap_or_else(|| saga.resumes())).await?;
            fetch(tx, scope, id).await?
        }))
    }

    /// Gives a stuck saga up: a human has cleaned up what it left on nodes. What it held is given back: an order that was
    /// never delivered has failed, an instance that was being deleted is gone.
    pub async fn saga_abandon(
        &self,
        scope: TenantScope,
        id: SagaId,
        intention: Option<&Idempotency<'_, Saga>>,
    ) -> Result<Once<Saga>> {
        transaction!(self, |tx| once!(tx, intention, abandon_in_tx(tx, scope, id).await?))
    }
}
