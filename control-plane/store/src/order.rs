//! Orders: reading, changing, calling off.

use std::collections::BTreeSet;

use jiff::Timestamp;
use nemordp_model::{EventKind, Label, Order, OrderChange, OrderState};
use nemordp_types::OrderId;
use serde_json::{Value as Json, json};

use crate::Store;
use crate::audit::of_interest;
use crate::codec;
use crate::decision::Decision;
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::idempotency::{Idempotency, Once, once};
use crate::page::{self, Page, Paged, TenantScope, scoped};
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
    let sql = concat!(
        "SELECT ",
        columns!(),
        " FROM customer_order o WHERE ",
        of_interest!(),
        " AND o.id > $1 ORDER BY o.id LIMIT $2"
    );
    page::every(tx, "customer_order", sql, order, |order| order.id).await
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

/// Several, locked in the order of their ids; one that is missing is left out.
pub(crate) async fn fetch_locked_many(tx: &mut Tx, ids: &BTreeSet<OrderId>) -> Result<Vec<Order>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut wanted = Rows::new(&[("wanted", Kind::Blob)]);
    ids.iter().for_each(|id| wanted.push(values![*id]));
    let sql =
        concat!("SELECT ", columns!(), " FROM customer_order WHERE id IN (SELECT wanted FROM {rows} AS r) ORDER BY id");
    let locked = concat!(
        "SELECT ",
        columns!(),
        " FROM customer_order WHERE id IN (SELECT wanted FROM {rows} AS r) ORDER BY id FOR UPDATE"
    );
    let query = Query::over("customer_order", sql, vec![], wanted).on_postgres(locked);
    tx.fetch(query).await?.iter().map(order).collect()
}

/// Writes what was changed of orders.
pub(crate) async fn update_in_tx(tx: &mut Tx, orders: impl Iterator<Item = &Order>) -> Result<()> {
    let mut rows = Rows::new(&[
        ("order_id", Kind::Blob),
        ("new_state", Kind::Text),
        ("new_failure", Kind::Text),
        ("new_updated_at", Kind::Int),
    ]);
    for order in orders {
        rows.push(values![order.id, order.state, codec::json_opt(order.failure.as_ref())?, order.updated_at]);
    }
    let sql = "UPDATE customer_order SET state = r.new_state, failure = r.new_failure, updated_at = r.new_updated_at \
               FROM {rows} AS r WHERE customer_order.id = r.order_id";
    tx.execute_over(Query::over("customer_order", sql, vec![], rows)).await
}

/// Changes an order as the model allows; gives the event of it, none when the state that is reached was there already.
pub(crate) fn change(
    order: &mut Order,
    change: OrderChange,
    now: Timestamp,
) -> Result<Option<(EventKind, Subject, Json)>> {
    let state = order.state;
    *order = order.clone().change(change, now)?;
    if order.state == state {
        return Ok(None);
    }
    // The operator's context stays inside.
    let reason = order.failure.as_ref().map(|failure| json!({ "reason": failure.reason, "message": failure.message }));
    let body = json!({ "state": order.state, "failure": reason, "external_reference": order.external_reference });
    Ok(Some((EventKind::from(order.state), Subject::from(&*order), body)))
}

/// The same for one order of a tenant, written with its event.
pub(crate) async fn change_in_tx(tx: &mut Tx, scope: TenantScope, id: OrderId, wanted: OrderChange) -> Result<Order> {
    let mut order = fetch_locked(tx, scope, id).await?;
    if let Some(event) = change(&mut order, wanted, tx.now)? {
        update_in_tx(tx, std::iter::once(&order)).await?;
        tx.events(std::iter::once(event)).await?;
    }
    Ok(order)
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
