//! The outbox: each change of an order, an instance or a node writes its event in its own transaction.
//!
//! Readers follow numbers. A number is given after the event's transaction has committed, by one transaction at a time,
//! in the order in which the changes began; so no event ever appears below a number that was read, and what follows from
//! another change stands behind it. Writers wait for nobody.

use nemordp_model::{Event, EventKind, Instance, Order, Saga};
use nemordp_types::{EventId, InstanceId, NodeId, OrderId, TenantId};
use serde_json::Value as Json;

use crate::Store;
use crate::codec::json;
use crate::error::Result;
use crate::page::{Page, Paged};
use crate::rows::{Kind, Rows};
use crate::sql::{Query, Row, values};
use crate::transaction::{Sql as _, Tx};

/// Which events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only those that some receiver still has to get.
    pub undelivered: bool,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Subject {
    pub(crate) tenant: Option<TenantId>,
    pub(crate) order: Option<OrderId>,
    pub(crate) instance: Option<InstanceId>,
    pub(crate) node: Option<NodeId>,
}

impl Subject {
    pub(crate) fn node(node: NodeId) -> Self {
        Self { node: Some(node), ..Self::default() }
    }
}

impl From<&Order> for Subject {
    fn from(order: &Order) -> Self {
        Self { tenant: Some(order.tenant_id), order: Some(order.id), instance: Some(order.instance_id), node: None }
    }
}

impl From<&Saga> for Subject {
    fn from(saga: &Saga) -> Self {
        Self { tenant: Some(saga.tenant_id), order: saga.order_id, instance: saga.instance_id, node: None }
    }
}

impl From<&Instance> for Subject {
    fn from(instance: &Instance) -> Self {
        Self {
            tenant: Some(instance.tenant_id),
            order: Some(instance.order_id),
            instance: Some(instance.id),
            node: Some(instance.node_id),
        }
    }
}

impl Tx {
    /// Writes an event of this transaction; never a secret in its body.
    pub(crate) async fn event(&mut self, kind: EventKind, subject: Subject, body: Json) -> Result<()> {
        let id = self.event_id();
        let now = self.now;
        let sql = "INSERT INTO event (id, kind, tenant_id, order_id, instance_id, node_id, body, created_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let Subject { tenant, order, instance, node } = subject;
        let values = values![id, kind, tenant, order, instance, node, json(&body)?, now];
        self.execute(Query::new("event", sql, values)).await.map(|_| ())
    }

    /// Writes many events of this transaction at once.
    pub(crate) async fn events(&mut self, events: impl Iterator<Item = (EventKind, Subject, Json)>) -> Result<()> {
        let now = self.now;
        let sql = "INSERT INTO event (id, kind, tenant_id, order_id, instance_id, node_id, body, created_at) \
                   SELECT id, kind, tenant_id, order_id, instance_id, node_id, body, $1 FROM {rows} AS r";
        let mut rows = Rows::new(&[
            ("id", Kind::Blob),
            ("kind", Kind::Text),
            ("tenant_id", Kind::Blob),
            ("order_id", Kind::Blob),
            ("instance_id", Kind::Blob),
            ("node_id", Kind::Blob),
            ("body", Kind::Text),
        ]);
        for (kind, Subject { tenant, order, instance, node }, body) in events {
            let id = self.event_id();
            rows.push(values![id, kind, tenant, order, instance, node, json(&body)?]);
        }
        self.execute_over(Query::over("event", sql, values![now], rows)).await
    }
}

fn event(row: &Row) -> Result<Event> {
    Ok(Event {
        number: row.get("number")?,
        id: row.get("id")?,
        kind: row.get("kind")?,
        tenant_id: row.get("tenant_id")?,
        order_id: row.get("order_id")?,
        instance_id: row.get("instance_id")?,
        node_id: row.get("node_id")?,
        body: row.json("body")?,
        created_at: row.get("created_at")?,
        delivered_at: row.get("delivered_at")?,
    })
}

/// Gives numbers to what has none; gives how many.
async fn number_in_tx(tx: &mut Tx) -> Result<u64> {
    // SQLite has one writer anyway.
    let alone = Query::new("event", "SELECT 1 AS alone", vec![])
        .on_postgres("SELECT 1 AS alone FROM pg_advisory_xact_lock(7309453026)");
    tx.fetch(alone).await?;
    let sql = "SELECT CAST(COALESCE(MAX(number), 0) AS BIGINT) AS last FROM event";
    let row = tx.fetch_optional(Query::new("event", sql, vec![])).await?;
    let last: u64 = row.map(|row| row.get("last")).transpose()?.unwrap_or_default();
    // By the age of the transaction that wrote it, then by id, which ascends within one.
    let sql = "UPDATE event SET number = $1 + r.place FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY rowid) AS place \
               FROM event WHERE number IS NULL ORDER BY rowid LIMIT 5000) r WHERE event.id = r.id";
    let aged = "UPDATE event SET number = $1 + r.place FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY age(xmin) DESC, id) \
                AS place FROM event WHERE number IS NULL ORDER BY age(xmin) DESC, id LIMIT 5000) r WHERE event.id = r.id";
    tx.execute(Query::new("event", sql, values![last]).on_postgres(aged)).await
}

impl Store {
    /// Gives numbers to the events that have none yet; gives how many. Reading does it too.
    pub async fn event_number(&self) -> Result<u64> {
        let mut all = 0;
        loop {
            let sql = "SELECT id FROM event WHERE number IS NULL LIMIT 1";
            if self.reader().fetch_optional(Query::new("event", sql, vec![])).await?.is_none() {
                return Ok(all);
            }
            all += transaction!(self, |tx| number_in_tx(tx).await)?;
        }
    }

    /// How many events some receiver still has to get.
    pub async fn event_undelivered(&self) -> Result<u64> {
        let sql = "SELECT COUNT(*) AS waiting FROM event WHERE delivered_at IS NULL";
        let row = self.reader().fetch_optional(Query::new("event", sql, vec![])).await?;
        Ok(row.map(|row| row.get("waiting")).transpose()?.unwrap_or_default())
    }

    /// Events by number, after that of the page. A store that takes no writes gives those that have a number.
    pub async fn event_list(&self, filter: EventFilter, page: Page<u64>) -> Result<Paged<Event, u64>> {
        if let Err(error) = self.event_number().await {
            tracing::debug!(%error, "events wait for their numbers");
        }
        let sql = if filter.undelivered {
            "SELECT number, id, kind, tenant_id, order_id, instance_id, node_id, body, created_at, delivered_at FROM event \
             WHERE delivered_at IS NULL AND number > $1 ORDER BY number LIMIT $2"
        } else {
            "SELECT number, id, kind, tenant_id, order_id, instance_id, node_id, body, created_at, delivered_at FROM event \
             WHERE number > $1 ORDER BY number LIMIT $2"
        };
        let after = page.after.unwrap_or_default();
        let rows = self.reader().fetch(Query::new("event", sql, values![after, page.fetch()])).await?;
        let items = rows.iter().map(event).collect::<Result<_>>()?;
        let mut paged = page.cut(items, |e: &Event| e.number);
        // Whoever follows goes on from the last one, also where nothing is behind it yet.
        paged.next = paged.items.last().map(|e| e.number);
        Ok(paged)
    }

    /// Notes that every receiver has the events; gives how many were new.
    pub async fn event_mark_delivered(&self, ids: &[EventId]) -> Result<u64> {
        transaction!(self, |tx| {
            let mut marked = 0;
            for id in ids {
                let now = tx.now;
                let sql = "UPDATE event SET delivered_at = $2 WHERE id = $1 AND delivered_at IS NULL";
                marked += tx.execute(Query::new("event", sql, values![*id, now])).await?;
            }
            Ok(marked)
        })
    }
}
