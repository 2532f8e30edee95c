//! Orders: reading, changing, calling off.

use nemordp_model::{EventKind, Label, Order, OrderChange, OrderState};
use nemordp_types::OrderId;
use serde_json::json;

use crate::Store;
use crate::audit::of_interest;
use crate::codec;
use crate::decision::Decision;
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::idempotency::{Idempotency, Once, once};
use crate::page::{Page, Paged, TenantScope, scoped};
use crate::rows::{Kind, Rows};
use crate::saga;
use crate::sql::{Query, Row, values};
use crate::transaction::{Sql, Tx};

pub(crate) const MISSING: StoreError = StoreError::NotFound { noun: OrderId::NOUN };

macro_rules! columns {
    () => {
        "id, tenant_id, external_reference, plan, template, region, host_name, time_zone, keyboard, state, failure, \
         instance_id, saga_id, created_at, updated_at"
    };
}

/// Which orders.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OrderFilter {
    /// In this state.
    pub state: Option<OrderState>,
    /// With the storefront's name for it.
    pub external_reference: Option<Label>,
}

fn order(row: &Row) -> Result<Order> {
    Ok(Order {
        id: row.get("id")?,
        tenant_id: row.get("tenant_id")?,
        external_reference: row.get("external_reference")?,
        plan: row.get("plan")?,
        template: row.get("template")?,
        region: row.get("region")?,
        host_name: row.get("host_name")?,
        time_zone: row.get("time_zone")?,
        keyboard: row.get("keyboard")?,
        state: row.get("state")?,
        failure: row.json_opt("failure")?,
        instance_id: row.get("instance_id")?,
        saga_id: row.get("saga_id")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

const ROW: &[(&str, Kind)] = &[
    ("id", Kind::Blob),
    ("tenant_id", Kind::Blob),
    ("external_reference", Kind::Text),
    ("plan", Kind::Text),
    ("template", Kind::Text),
    ("region", Kind::Text),
    ("host_name", Kind::Text),
    ("time_zone", Kind::Text),
    ("keyboard", Kind::Text),
    ("state", Kind::Text),
    ("instance_id", Kind::Blob),
    ("saga_id", Kind::Blob),
    ("created_at", Kind::Int),
    ("placement", Kind::Text),
];

/// Writes orders at their beginning, each with the decision where it went.
pub(crate) async fn insert_in_tx<'o>(
    tx: &mut Tx,
    orders: impl Iterator<Item = (&'o Order, Option<Decision>)>,
) -> Result<()> {
    let sql = "INSERT INTO customer_order (id, tenant_id, external_reference, plan, template, region, host_name, \
               time_zone, keyboard, state, instance_id, saga_id, created_at, updated_at, placement) \
               SELECT id, tenant_id, external_reference, plan, template, region, host_name, time_zone, keyboard, state, \
               instance_id, saga_id, created_at, created_at, placement FROM {rows} AS r";
    let mut rows = Rows::new(ROW);
    for (order, decision) in orders {
        rows.push(values![
            order.id,
            order.tenant_id,
            order.external_reference.as_ref(),
            &order.plan,
            &order.template,
            &order.region,
            &order.host_name,
            order.time_zone.as_ref(),
            order.keyboard.as_ref(),
            order.state,
            order.instance_id,
            order.saga_id,
            order.created_at,
            codec::json_opt(decision.as_ref())?,
        ]);
    }
    tx.execute_over(Query::over("customer_order", sql, vec![], rows)).await
}

pub(crate) async fn fetch(sql: &mut impl Sql, scope: TenantScope, id: OrderId) -> Result<Order> {
    let text = concat!("SELECT ", columns!(), " FROM customer_order WHERE id = $1 AND ($2 IS NULL OR tenant_id = $2)");
    let row = sql.fetch_optional(Query::new("customer_order", text, values![id, scope])).await?;
    order(&row.ok_or(MISSING)?)
}

/// Those that an audit compares.
pub(crate) async fn of_interest(tx: &mut Tx) -> Result<Vec<Order>> {
    let sql = concat!("SELECT ", columns!(), " FROM customer_order o WHERE ", of_interest!());
    tx.fetch(Query::new("customer_order", sql, vec![])).await?.iter().map(order).collect()
}

async fn fetch_locked(tx: &mut Tx, scope: TenantScope, id: OrderId) -> Result<Order> {
    let text = concat!("SELECT ", columns!(), " FROM customer_order WHERE id = $1 AND ($2 IS NULL OR tenant_id = $2)");
    let locked = concat!(
        "SELECT ",
        columns!(),
        " FROM customer_order WHERE id = $1 AND ($2 IS NULL OR tenant_id = $2) FOR UPDATE"
    );
    let query = Query::new("customer_order", text, values![id, scope]).on_postgres(locked);
    order(&tx.fetch_optional(query).await?.ok_or(MISSING)?)
}

/// Changes an order as the model allows, with its event; the state that is reached already is no change.
pub(crate) async fn change_in_tx(tx: &mut Tx, scope: TenantScope, id: OrderId, change: OrderChange) -> Result<Order> {
    let before = fetch_locked(tx, scope, id).await?;
    let state = before.state;
    let after = before.change(change, tx.now)?;
    if after.state == state {
        return Ok(after);
    }
    let sql = "UPDATE customer_order SET state = $2, failure = $3, updated_at = $4 WHERE id = $1";
    let values = values![id, after.state, codec::json_opt(after.failure.as_ref())?, after.updated_at];
    tx.execute_one(Query::new("customer_order", sql, values), MISSING).await?;
    // The operator's context stays inside.
    let reason = after.failure.as_ref().map(|failure| json!({ "reason": failure.reason, "message": failure.message }));
    let body = json!({ "state": after.state, "failure": reason, "external_reference": after.external_reference });
    tx.event(EventKind::from(after.state), Subject::from(&after), body).await?;
    Ok(after)
}

impl Store {
    /// One order.
    pub async fn order_fetch(&self, scope: TenantScope, id: OrderId) -> Result<Order> {
        fetch(&mut self.reader(), scope, id).await
    }

    /// Orders by id.
    pub async fn order_list(
        &self,
        scope: TenantScope,
        filter: &OrderFilter,
        page: Page<OrderId>,
    ) -> Result<Paged<Order, OrderId>> {
        let sql = scoped!(
            scope,
            concat!("SELECT ", columns!(), " FROM customer_order"),
            "AND ($2 IS NULL OR state = $2) AND ($3 IS NULL OR external_reference = $3) AND id > $4 ORDER BY id LIMIT $5"
        );
        let values = values![scope, filter.state, filter.external_reference.as_ref(), page.begins(), page.fetch()];
        let rows = self.reader().fetch(Query::new("customer_order", sql, values)).await?;
        let items = rows.iter().map(order).collect::<Result<_>>()?;
        Ok(page.cut(items, |o: &Order| o.id))
    }

    /// Calls an order off: it is cancelling from now on, and its saga is told. An active order is refused: its instance
    /// is to be deleted instead.
    pub async fn order_cancel(
        &self,
        scope: TenantScope,
        id: OrderId,
        intention: Option<&Idempotency<'_, Order>>,
    ) -> Result<Once<Order>> {
        transaction!(self, |tx| once!(tx, intention, {
            let order = change_in_tx(tx, scope, id, OrderChange::RequestCancel).await?;
            saga::request_cancel_in_tx(tx, order.saga_id).await?;
            order
        }))
    }
}
