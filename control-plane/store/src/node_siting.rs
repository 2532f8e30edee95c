//! What operators say of a node so that orders find it, or do not: labels, the tenant that it is kept for, what is held back.

use std::collections::BTreeSet;

use nemordp_model::placement::not_too_many;
use nemordp_model::{Amounts, EventKind, Label, Node};
use nemordp_types::{NodeId, TenantId};
use serde_json::json;

use crate::Store;
use crate::codec;
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::idempotency::{Idempotency, Once, once};
use crate::node::{self, MISSING};
use crate::sql::{Query, values};
use crate::transaction::{Sql as _, Tx};

/// Takes the node's row, as whoever places an instance there does.
async fn lock(tx: &mut Tx, id: NodeId) -> Result<()> {
    let locked = Query::new("node", "SELECT id FROM node WHERE id = $1", values![id])
        .on_postgres("SELECT id FROM node WHERE id = $1 FOR NO KEY UPDATE");
    tx.fetch_optional(locked).await?.map(|_| ()).ok_or(MISSING)
}

impl Store {
    /// Gives a node labels and takes some away; what is in both is taken away. Instances that it has stay. Too many are
    /// refused with the field `add`.
    pub async fn node_set_labels(
        &self,
        id: NodeId,
        add: &BTreeSet<Label>,
        remove: &BTreeSet<Label>,
        intention: Option<&Idempotency<'_, Node>>,
    ) -> Result<Once<Node>> {
        transaction!(self, |tx| once!(tx, intention, {
            lock(tx, id).await?;
            let before = node::fetch(tx, id).await?.labels;
            let labels: BTreeSet<Label> = before.union(add).filter(|label| !remove.contains(*label)).cloned().collect();
            not_too_many(&labels, "add")?;
            if labels != before {
                let now = tx.now;
                let sql = "UPDATE node SET labels = $2, updated_at = $3 WHERE id = $1";
                let values = values![id, codec::json(&labels)?, now];
                tx.execute_one(Query::new("node", sql, values), MISSING).await?;
                tx.event(EventKind::NodeChanged, Subject::node(id), json!({ "labels": labels })).await?;
            }
            node::fetch(tx, id).await?
        }))
    }

    /// Holds back amounts of a node that new instances do not get, in place of those before. Instances that it has stay.
    pub async fn node_set_held_back(
        &self,
        id: NodeId,
        amounts: Amounts,
        intention: Option<&Idempotency<'_, Node>>,
    ) -> Result<Once<Node>> {
        transaction!(self, |tx| once!(tx, intention, {
            amounts.check()?;
            lock(tx, id).await?;
            if node::fetch(tx, id).await?.held_back != amounts {
                let now = tx.now;
                let sql = "UPDATE node SET held_vcpu = $2, held_memory_mib = $3, held_disk_bytes = $4, updated_at = $5 \
                           WHERE id = $1";
                let values = values![id, amounts.vcpu, amounts.memory, amounts.disk, now];
                tx.execute_one(Query::new("node", sql, values), MISSING).await?;
                tx.event(EventKind::NodeChanged, Subject::node(id), json!({ "held_back": amounts })).await?;
            }
            node::fetch(tx, id).await?
        }))
    }

    /// Keeps a node for one tenant, or for nobody. Instances of others that it has stay.
    pub async fn node_set_pin(
        &self,
        id: NodeId,
        tenant_id: Option<TenantId>,
        intention: Option<&Idempotency<'_, Node>>,
    ) -> Result<Once<Node>> {
        transaction!(self, |tx| once!(tx, intention, {
            lock(tx, id).await?;
            let before = node::fetch(tx, id).await?.pinned_to.map(|pin| pin.tenant_id);
            if tenant_id != before {
                if let Some(tenant_id) = tenant_id {
                    let known = Query::new("tenant", "SELECT id FROM tenant WHERE id = $1", values![tenant_id]);
                    tx.fetch_optional(known).await?.ok_or(StoreError::NotFound { noun: TenantId::NOUN })?;
                }
                let now = tx.now;
                let sql = "UPDATE node SET pinned_to = $2, updated_at = $3 WHERE id = $1";
                tx.execute_one(Query::new("node", sql, values![id, tenant_id, now]), MISSING).await?;
                tx.event(EventKind::NodeChanged, Subject::node(id), json!({ "pinned_to": tenant_id })).await?;
            }
            node::fetch(tx, id).await?
        }))
    }
}
