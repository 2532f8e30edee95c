//! An operator's word that a node is off, and that it may work again.

use nemordp_model::health::may_be_fenced;
use nemordp_model::{EventKind, Node};
use nemordp_types::node::NodeAvailability;
use nemordp_types::{Failure, NodeId, Reason};
use serde_json::json;

use crate::Store;
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::idempotency::{Idempotency, Once, once};
use crate::node::fetch;
use crate::sql::{Query, values};
use crate::transaction::Tx;

async fn change(tx: &mut Tx, before: &Node, to: NodeAvailability) -> Result<()> {
    let now = tx.now;
    let sql = "UPDATE node SET availability = $3, availability_changed_at = $4, updated_at = $4 \
               WHERE id = $1 AND availability = $2";
    let query = Query::new("node", sql, values![before.id, before.availability, to, now]);
    let meanwhile = Failure::new(Reason::Conflict, "the node's state changed meanwhile: look at it, and ask again");
    tx.execute_one(query, StoreError::Refused(meanwhile)).await?;
    let body = json!({ "from": before.availability, "to": to });
    tx.event(EventKind::NodeAvailabilityChanged, Subject::node(before.id), body).await
}

/// Whoever works on the node's instances finds out at once that nothing can be done there: leases end, and what waits is
/// due.
async fn release_in_tx(tx: &mut Tx, id: NodeId) -> Result<()> {
    let now = tx.now;
    let sql = "UPDATE saga SET lease_owner = NULL, lease_until = NULL, next_run_at = $2, updated_at = $2 \
               WHERE status IN ('running', 'unwinding') \
               AND instance_id IN (SELECT i.id FROM instance i WHERE i.node_id = $1)";
    tx.execute(Query::new("saga", sql, values![id, now])).await.map(|_| ())
}

impl Store {
    /// Believes an operator that a node which is lost is off: what waits for it waits no longer. Repeating changes nothing.
    pub async fn node_fence(&self, id: NodeId, intention: Option<&Idempotency<'_, Node>>) -> Result<Once<Node>> {
        transaction!(self, |tx| once!(tx, intention, {
            let before = fetch(tx, id).await?;
            may_be_fenced(before.availability)?;
            if before.availability != NodeAvailability::Fenced {
                change(tx, &before, NodeAvailability::Fenced).await?;
                release_in_tx(tx, id).await?;
            }
            fetch(tx, id).await?
        }))
    }

    /// Lets a fenced node work again: its next heartbeat makes it available. Nothing for a node that is not fenced.
    pub async fn node_unfence(&self, id: NodeId, intention: Option<&Idempotency<'_, Node>>) -> Result<Once<Node>> {
        transaction!(self, |tx| once!(tx, intention, {
            let before = fetch(tx, id).await?;
            if before.availability == NodeAvailability::Fenced {
                change(tx, &before, NodeAvailability::Unknown).await?;
            }
            fetch(tx, id).await?
        }))
    }
}
