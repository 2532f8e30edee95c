//! The outbox: each change of an order, an instance or a node writes its event in its own transaction.

use nemordp_model::{Event, EventKind, Instance, Order};
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
        let id = EventId::new(self.clock.as_ref(), self.entropy.as_ref());
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
            let id = EventId::new(self.clock.as_ref(), self.entropy.as_ref());
            rows.push(values![id, kind, tenant, order, instance, node, json(&body)?]);
        }
        self.execute_over(Query::over("event", sql, values![now], rows)).await
    }
}

fn event(row: &Row) -> Result<Event> {
    Ok(Event {
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

impl Store {
    /// Events by id. Ids are made before their transactions commit, so an event can appear behind the last one that was
    /// read: who delivers asks for the undelivered ones from the beginning, not for what follows the last.
    pub async fn event_list(&self, filter: EventFilter, page: Page<EventId>) -> Result<Paged<Event, EventId>> {
        let sql = if filter.undelivered {
            "SELECT id, kind, tenant_id, order_id, instance_id, node_id, body, created_at, delivered_at FROM event \
             WHERE delivered_at IS NULL AND ($1 IS NULL OR id > $1) ORDER BY id LIMIT $2"
        } else {
            "SELECT id, kind, tenant_id, order_id, instance_id, node_id, body, created_at, delivered_at FROM event \
             WHERE ($1 IS NULL OR id > $1) ORDER BY id LIMIT $2"
        };
        let rows = self.reader().fetch(Query::new("event", sql, values![page.after, page.fetch()])).await?;
        let items = rows.iter().map(event).collect::<Result<_>>()?;
        Ok(page.cut(items, |e: &Event| e.id))
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
