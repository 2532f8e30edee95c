//! Which processes of an agent speak for a node.

use std::time::Duration;

use nemordp_model::EventKind;
use nemordp_model::session::{AgentSession, SessionSign, SessionTrace, judge};
use nemordp_types::node::NodePolicy;
use nemordp_types::{NodeAddress, NodeId};
use serde_json::json;

use crate::error::Result;
use crate::event::Subject;
use crate::sql::{Query, values};
use crate::transaction::{Sql as _, Tx};

/// How long a session that fell silent is remembered.
const MEMORY: Duration = Duration::from_secs(86_400);

/// A heartbeat's sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// The process.
    pub session: AgentSession,
    /// Which of its heartbeats this is.
    pub beat: u64,
}

/// Takes note of a sender; gives whether it proves that two agents speak for the node.
pub(crate) async fn note_in_tx(tx: &mut Tx, node: NodeId, sender: Sender, address: NodeAddress) -> Result<bool> {
    let now = tx.now;
    let session = sender.session.0.as_slice();
    let sql = "SELECT beat, returns, CAST(CASE WHEN EXISTS (SELECT 1 FROM node_session o WHERE o.node_id = s.node_id \
               AND o.ordinal > s.ordinal) THEN 1 ELSE 0 END AS BIGINT) AS superseded \
               FROM node_session s WHERE node_id = $1 AND session_id = $2";
    let row = tx.fetch_optional(Query::new("node_session", sql, values![node, session])).await?;
    let known = match row {
        None => None,
        Some(row) => Some(SessionTrace {
            beat: row.get("beat")?,
            returns: row.get("returns")?,
            superseded: row.get("superseded")?,
        }),
    };
    let (trace, doubled) = match judge(known, sender.beat) {
        SessionSign::Began => {
            began(tx, node, sender, address).await?;
            return Ok(false);
        }
        SessionSign::Goes(trace) => (trace, false),
        SessionSign::Doubled(trace) => (trace, true),
    };
    let sql = "UPDATE node_session SET beat = $3, returns = $4, agent_address = $5, last_seen_at = $6 \
               WHERE node_id = $1 AND session_id = $2";
    let values = values![node, session, trace.beat, trace.returns, address, now];
    tx.execute(Query::new("node_session", sql, values)).await?;
    Ok(doubled)
}

async fn began(tx: &mut Tx, node: NodeId, sender: Sender, address: NodeAddress) -> Result<()> {
    let now = tx.now;
    let sql = "DELETE FROM node_session WHERE node_id = $1 AND last_seen_at < $2";
    let silent = now.checked_sub(MEMORY).unwrap_or(now);
    tx.execute(Query::new("node_session", sql, values![node, silent])).await?;
    let sql = "INSERT INTO node_session (node_id, session_id, ordinal, beat, agent_address, last_seen_at) \
               SELECT $1, $2, COALESCE(MAX(ordinal), 0) + 1, $3, $4, $5 FROM node_session WHERE node_id = $1";
    let values = values![node, sender.session.0.as_slice(), sender.beat, address, now];
    tx.execute(Query::new("node_session", sql, values)).await.map(|_| ())
}

/// Two agents speak for a node: it takes no new instances, its certificates are flagged, and commands go where the first
/// of them listens until the node has enrolled with a new key. Once is enough.
pub(crate) async fn doubled_in_tx(tx: &mut Tx, node: NodeId) -> Result<()> {
    let now = tx.now;
    let sql = "UPDATE node SET doubled_at = $2, updated_at = $2, \
               policy = CASE WHEN policy = 'active' THEN 'cordoned' ELSE policy END, \
               agent_address = (SELECT s.agent_address FROM node_session s WHERE s.node_id = node.id \
               ORDER BY s.ordinal LIMIT 1) WHERE id = $1 AND doubled_at IS NULL RETURNING policy";
    let row = tx.fetch_optional(Query::new("node", sql, values![node, now])).await?;
    let Some(row) = row else { return Ok(()) };
    let sql = "UPDATE certificate SET flagged_at = $2 WHERE node_id = $1 AND revoked_at IS NULL AND not_after > $2";
    tx.execute(Query::new("certificate", sql, values![node, now])).await?;
    let sql = "SELECT session_id, agent_address FROM node_session WHERE node_id = $1 ORDER BY ordinal";
    let rows = tx.fetch(Query::new("node_session", sql, values![node])).await?;
    let mut addresses = Vec::with_capacity(rows.len());
    for row in &rows {
        addresses.push(row.get::<NodeAddress>("agent_address")?.to_string());
    }
    let policy: NodePolicy = row.get("policy")?;
    let body = json!({ "agent_addresses": addresses, "policy": policy });
    tx.event(EventKind::NodeDoubled, Subject::node(node), body).await
}

/// A node that enrolled with a new key begins anew: what the old key did says nothing any more.
pub(crate) async fn forget_in_tx(tx: &mut Tx, node: NodeId) -> Result<()> {
    tx.execute(Query::new("node_session", "DELETE FROM node_session WHERE node_id = $1", values![node])).await?;
    let sql = "UPDATE node SET doubled_at = NULL WHERE id = $1 AND doubled_at IS NOT NULL";
    tx.execute(Query::new("node", sql, values![node])).await.map(|_| ())
}
