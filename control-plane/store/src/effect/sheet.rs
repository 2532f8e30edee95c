//! Effects on instances, orders and passwords, many at once: what they change is read once and written once.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use nemordp_model::{EventKind, Lifecycle, Order};
use nemordp_types::{InstanceId, NodeId, OrderId, TenantId};
use serde_json::{Value as Json, json};

use super::Effect;
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::instance;
use crate::order;
use crate::rows::{Kind, Rows};
use crate::secret;
use crate::sql::{Query, Row, values};
use crate::transaction::{Sql as _, Tx};

/// Of an instance what effects change, and whom an event of it concerns.
struct Head {
    order_id: OrderId,
    tenant_id: TenantId,
    node_id: NodeId,
    lifecycle: Lifecycle,
    pin: Option<[u8; 32]>,
    misaligned_at: Option<Timestamp>,
    changed: bool,
}

/// What the effects of a transaction are about.
pub(super) struct Sheet<'e> {
    heads: BTreeMap<InstanceId, Head>,
    /// Each with whether it was changed.
    orders: BTreeMap<OrderId, (Order, bool)>,
    sealed: BTreeMap<InstanceId, &'e [u8]>,
    events: Vec<(EventKind, Subject, Json)>,
}

/// Whether an effect can share a sheet with others.
pub(super) const fn shares(effect: &Effect) -> bool {
    match effect {
        Effect::Order { .. }
        | Effect::InstanceActive { .. }
        | Effect::PinCertificate { .. }
        | Effect::UnpinCertificate { .. }
        | Effect::Misalign { .. }
        | Effect::SealSecret { .. } => true,
        Effect::InstanceFailed { .. }
        | Effect::InstanceDeleted { .. }
        | Effect::Settle { .. }
        | Effect::Release { .. }
        | Effect::EraseSecret { .. } => false,
    }
}

impl<'e> Sheet<'e> {
    /// Locks and reads what the effects are about: instances first, then orders, each in the order of their ids.
    pub(super) async fn read(tx: &mut Tx, effects: &[&'e Effect]) -> Result<Self> {
        let (mut instances, mut orders) = (BTreeSet::new(), BTreeSet::new());
        for effect in effects {
            match effect {
                Effect::Order { order_id, .. } => drop(orders.insert(*order_id)),
                Effect::InstanceActive { instance_id }
                | Effect::PinCertificate { instance_id, .. }
                | Effect::UnpinCertificate { instance_id }
                | Effect::Misalign { instance_id } => drop(instances.insert(*instance_id)),
                Effect::SealSecret { .. }
                | Effect::InstanceFailed { .. }
                | Effect::InstanceDeleted { .. }
                | Effect::Settle { .. }
                | Effect::Release { .. }
                | Effect::EraseSecret { .. } => {}
            }
        }
        let heads = heads(tx, &instances).await?;
        let orders = order::fetch_locked_many(tx, &orders).await?;
        let orders = orders.into_iter().map(|order| (order.id, (order, false))).collect();
        Ok(Self { heads, orders, sealed: BTreeMap::new(), events: Vec::new() })
    }

    /// Notes an effect; safe to repeat.
    pub(super) fn note(&mut self, effect: &'e Effect, now: Timestamp) -> Result<()> {
        match effect {
            Effect::Order { order_id, change } => {
                let (order, changed) = self.orders.get_mut(order_id).ok_or(order::MISSING)?;
                if let Some(event) = order::change(order, change.clone(), now)? {
                    *changed = true;
                    self.events.push(event);
                }
            }
            Effect::InstanceActive { instance_id } => {
                let head = self.head(*instance_id)?;
                if head.lifecycle != Lifecycle::Active {
                    head.lifecycle = head.lifecycle.to(Lifecycle::Active)?;
                    self.happened(*instance_id, EventKind::InstanceActive, json!({}))?;
                }
            }
            Effect::PinCertificate { instance_id, sha256 } => self.pin(*instance_id, Some(*sha256))?,
            Effect::UnpinCertificate { instance_id } => self.pin(*instance_id, None)?,
            Effect::Misalign { instance_id } => {
                let head = self.head(*instance_id)?;
                if head.misaligned_at.is_none() {
                    head.misaligned_at = Some(now);
                    self.happened(*instance_id, EventKind::InstanceChanged, json!({ "node": "misaligned" }))?;
                }
            }
            Effect::SealSecret { instance_id, sealed } => drop(self.sealed.insert(*instance_id, sealed)),
            Effect::InstanceFailed { .. }
            | Effect::InstanceDeleted { .. }
            | Effect::Settle { .. }
            | Effect::Release { .. }
            | Effect::EraseSecret { .. } => {
                return Err(StoreError::Driver("an effect that is applied alone was to share a sheet".to_owned()));
            }
        }
        Ok(())
    }

    /// Writes each table once.
    pub(super) async fn write(self, tx: &mut Tx) -> Result<()> {
        secret::seal_in_tx(tx, &self.sealed).await?;
        let now = tx.now;
        let mut rows = Rows::new(&[
            ("instance_id", Kind::Blob),
            ("new_lifecycle", Kind::Text),
            ("new_pin", Kind::Blob),
            ("new_misaligned_at", Kind::Int),
        ]);
        for (id, head) in self.heads.iter().filter(|(_, head)| head.changed) {
            rows.push(values![*id, head.lifecycle, head.pin.map(|pin| pin.to_vec()), head.misaligned_at]);
        }
        let sql = "UPDATE instance SET lifecycle = r.new_lifecycle, rdp_certificate_sha256 = r.new_pin, \
                   misaligned_at = r.new_misaligned_at, updated_at = $1 FROM {rows} AS r \
                   WHERE instance.id = r.instance_id";
        tx.execute_over(Query::over("instance", sql, values![now], rows)).await?;
        order::update_in_tx(tx, self.orders.values().filter(|(_, changed)| *changed).map(|(order, _)| order)).await?;
        tx.events(self.events.into_iter()).await
    }

    fn head(&mut self, id: InstanceId) -> Result<&mut Head> {
        self.heads.get_mut(&id).ok_or(instance::MISSING)
    }

    fn pin(&mut self, id: InstanceId, sha256: Option<[u8; 32]>) -> Result<()> {
        self.head(id)?.pin = sha256;
        let word = if sha256.is_some() { "pinned" } else { "unknown" };
        self.happened(id, EventKind::InstanceChanged, json!({ "certificate": word }))
    }

    fn happened(&mut self, id: InstanceId, kind: EventKind, body: Json) -> Result<()> {
        let head = self.head(id)?;
        head.changed = true;
        let (tenant, order, node) = (Some(head.tenant_id), Some(head.order_id), Some(head.node_id));
        self.events.push((kind, Subject { tenant, order, instance: Some(id), node }, body));
        Ok(())
    }
}

async fn heads(tx: &mut Tx, ids: &BTreeSet<InstanceId>) -> Result<BTreeMap<InstanceId, Head>> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut wanted = Rows::new(&[("wanted", Kind::Blob)]);
    ids.iter().for_each(|id| wanted.push(values![*id]));
    let sql = "SELECT id, order_id, tenant_id, node_id, lifecycle, rdp_certificate_sha256, misaligned_at FROM instance \
               WHERE id IN (SELECT wanted FROM {rows} AS r) ORDER BY id";
    let locked = "SELECT id, order_id, tenant_id, node_id, lifecycle, rdp_certificate_sha256, misaligned_at \
                  FROM instance WHERE id IN (SELECT wanted FROM {rows} AS r) ORDER BY id FOR UPDATE";
    let read = tx.fetch(Query::over("instance", sql, vec![], wanted).on_postgres(locked)).await?;
    let head = |row: &Row| {
        let head = Head {
            order_id: row.get("order_id")?,
            tenant_id: row.get("tenant_id")?,
            node_id: row.get("node_id")?,
            lifecycle: row.get("lifecycle")?,
            pin: row.get("rdp_certificate_sha256")?,
            misaligned_at: row.get("misaligned_at")?,
            changed: false,
        };
        Ok((row.get("id")?, head))
    };
    read.iter().map(head).collect()
}
