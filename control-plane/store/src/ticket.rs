//! Enrollment tickets: only the hash of the secret is kept; a ticket belongs to the first key that comes with it.

use jiff::Timestamp;
use nemordp_model::{EventKind, Overcommit, Ticket};
use nemordp_types::{Failure, NodeId, Reason, RegionName, TicketId};
use serde_json::json;

use crate::Store;
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::idempotency::{Idempotency, Once, once};
use crate::page::{Page, Paged};
use crate::sql::{Query, Row, values};
use crate::transaction::{Sql as _, Tx};

macro_rules! columns {
    () => {
        "id, region, vcpu_percent, memory_percent, bound_node_id, created_at, expires_at, used_at, used_by, \
         certificate_serial"
    };
}

/// A ticket to be stored.
#[derive(Debug, Clone)]
pub struct NewTicket {
    /// Its id.
    pub id: TicketId,
    /// SHA-256 of its secret.
    pub secret_sha256: [u8; 32],
    /// Where the node will stand.
    pub region: RegionName,
    /// How much more will be sold than the node has.
    pub overcommit: Overcommit,
    /// The node that is enrolled again; none for a new machine.
    pub bound_node_id: Option<NodeId>,
    /// When it stops to be good.
    pub expires_at: Timestamp,
}

/// What a ticket is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TicketStanding {
    /// Nobody used it yet.
    Fresh {
        /// The node that is enrolled again; none: make a new id.
        bound_node_id: Option<NodeId>,
        /// Where it stands.
        region: RegionName,
    },
    /// The same key used it: the answer was lost.
    Used {
        /// The node that it became.
        node_id: NodeId,
        /// Its certificate (DER).
        certificate_der: Vec<u8>,
    },
}

fn ticket(row: &Row) -> Result<Ticket> {
    Ok(Ticket {
        id: row.get("id")?,
        region: row.get("region")?,
        overcommit: Overcommit { vcpu_percent: row.get("vcpu_percent")?, memory_percent: row.get("memory_percent")? },
        bound_node_id: row.get("bound_node_id")?,
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
        used_at: row.get("used_at")?,
        used_by: row.get("used_by")?,
    })
}

/// A ticket that was presented with a key. A refusal that must be told in an event is a value here, so that the
/// transaction commits.
pub(crate) async fn present_in_tx(
    tx: &mut Tx,
    secret_sha256: &[u8; 32],
    public_key_sha256: &[u8; 32],
) -> Result<Result<(Ticket, TicketStanding)>> {
    let sql = concat!("SELECT ", columns!(), " FROM ticket WHERE secret_sha256 = $1");
    let locked = concat!("SELECT ", columns!(), " FROM ticket WHERE secret_sha256 = $1 FOR UPDATE");
    let query = Query::new("ticket", sql, values![secret_sha256]).on_postgres(locked);
    let Some(row) = tx.fetch_optional(query).await? else { return Ok(Err(StoreError::TicketInvalid)) };
    let found = ticket(&row)?;
    let expired = found.expires_at <= tx.now;
    let Some(node_id) = found.used_by else {
        if expired {
            return Ok(Err(StoreError::TicketExpired));
        }
        let standing = TicketStanding::Fresh { bound_node_id: found.bound_node_id, region: found.region.clone() };
        return Ok(Ok((found, standing)));
    };
    let serial: Vec<u8> = row.get("certificate_serial")?;
    let sql = "SELECT der, public_key_sha256 FROM certificate WHERE serial = $1";
    let certificate = tx.fetch_optional(Query::new("certificate", sql, values![serial.as_slice()])).await?;
    let certificate = certificate.ok_or(StoreError::NotFound { noun: "certificate" })?;
    if certificate.get::<[u8; 32]>("public_key_sha256")? != *public_key_sha256 {
        let body = json!({ "ticket_id": found.id });
        tx.event(EventKind::TicketReused, Subject::node(node_id), body).await?;
        return Ok(Err(StoreError::TicketReused));
    }
    if expired {
        return Ok(Err(StoreError::TicketExpired));
    }
    Ok(Ok((found, TicketStanding::Used { node_id, certificate_der: certificate.get("der")? })))
}

impl Store {
    /// Stores a ticket. One that is bound needs a node that was not decommissioned.
    pub async fn ticket_create(
        &self,
        new: &NewTicket,
        intention: Option<&Idempotency<'_, Ticket>>,
    ) -> Result<Once<Ticket>> {
        transaction!(self, |tx| once!(tx, intention, {
            let now = tx.now;
            new.overcommit.check()?;
            if new.expires_at <= now {
                return Err(Failure::field("expires_at", "use a time to come").into());
            }
            if let Some(node_id) = new.bound_node_id {
                let sql = "SELECT id FROM node WHERE id = $1 AND policy <> 'decommissioned'";
                let row = tx.fetch_optional(Query::new("node", sql, values![node_id])).await?;
                row.ok_or(StoreError::NotFound { noun: NodeId::NOUN })?;
            }
            let sql = "INSERT INTO ticket (id, secret_sha256, region, vcpu_percent, memory_percent, bound_node_id, \
                       created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
            let Overcommit { vcpu_percent, memory_percent } = new.overcommit;
            let values = values![
                new.id,
                &new.secret_sha256,
                &new.region,
                vcpu_percent,
                memory_percent,
                new.bound_node_id,
                now,
                new.expires_at,
            ];
            tx.execute(Query::new("ticket", sql, values)).await?;
            Ticket {
                id: new.id,
                region: new.region.clone(),
                overcommit: new.overcommit,
                bound_node_id: new.bound_node_id,
                created_at: now,
                expires_at: new.expires_at,
                used_at: None,
                used_by: None,
            }
        }))
    }

    /// What a ticket is good for, before a certificate is made. `TicketReused` is told in an event.
    pub async fn ticket_check(&self, secret_sha256: &[u8; 32], public_key_sha256: &[u8; 32]) -> Result<TicketStanding> {
        let presented: Result<_> = transaction!(self, |tx| present_in_tx(tx, secret_sha256, public_key_sha256).await);
        presented?.map(|(_, standing)| standing)
    }

    /// Tickets, used and expired ones too.
    pub async fn ticket_list(&self, page: Page<TicketId>) -> Result<Paged<Ticket, TicketId>> {
        let sql = concat!("SELECT ", columns!(), " FROM ticket WHERE ($1 IS NULL OR id > $1) ORDER BY id LIMIT $2");
        let rows = self.reader().fetch(Query::new("ticket", sql, values![page.after, page.fetch()])).await?;
        let items = rows.iter().map(ticket).collect::<Result<_>>()?;
        Ok(page.cut(items, |t: &Ticket| t.id))
    }
}

/// Refuses a certificate that was made for another node than the ticket's.
pub(crate) fn require_node(ticket: &Ticket, node_id: NodeId) -> Result<()> {
    match ticket.bound_node_id {
        Some(bound) if bound != node_id => {
            Err(Failure::new(Reason::IdentityMismatch, "the ticket belongs to another node: create one for this node")
                .into())
        }
        Some(_) | None => Ok(()),
    }
}
