//! Certificates of nodes, and the numbered list of revoked ones. Keys of the CA never lie here.

use jiff::Timestamp;
use nemordp_model::EventKind;
use nemordp_types::NodeId;
use serde_json::json;

use crate::Store;
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::sql::{Query, values};
use crate::transaction::{Sql as _, Tx};

const MISSING: StoreError = StoreError::NotFound { noun: "certificate" };

/// A certificate that was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCertificate {
    /// Its serial number, big-endian; unique.
    pub serial: Vec<u8>,
    /// SHA-256 of its public key.
    pub public_key_sha256: [u8; 32],
    /// The certificate (DER).
    pub der: Vec<u8>,
    /// When it expires.
    pub not_after: Timestamp,
}

/// Whose certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateRole {
    /// A node's.
    Node,
    /// A control plane's own.
    ControlPlane,
    /// A monitoring system's.
    Monitoring,
}

impl CertificateRole {
    /// Its word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::ControlPlane => "control-plane",
            Self::Monitoring => "monitoring",
        }
    }
}

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownCertificate {
    /// Its serial number, big-endian.
    pub serial: Vec<u8>,
    /// The word of its role.
    pub role: String,
    /// Whose, if it is a node's.
    pub node_id: Option<NodeId>,
    /// When it was issued, or first seen.
    pub issued_at: Timestamp,
    /// When it expires.
    pub not_after: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// The revoked certificates that have not expired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationList {
    /// Grows with each revocation; 0 when there was none.
    pub number: u64,
    /// Serial numbers, big-endian.
    pub serials: Vec<Vec<u8>>,
}

pub(crate) async fn insert_in_tx(tx: &mut Tx, node_id: NodeId, new: &NewCertificate) -> Result<()> {
    let now = tx.now;
    let sql = "INSERT INTO certificate (serial, node_id, public_key_sha256, der, issued_at, not_after) \
               VALUES ($1, $2, $3, $4, $5, $6)";
    let values =
        values![new.serial.as_slice(), node_id, &new.public_key_sha256, new.der.as_slice(), now, new.not_after];
    tx.execute(Query::new("certificate", sql, values)).await.map(|_| ())
}

/// The next number of the revocation list. The row is one, so revocations queue at it.
async fn next_number(tx: &mut Tx) -> Result<u64> {
    let sql = "UPDATE installation SET revocation_number = revocation_number + 1 RETURNING revocation_number";
    let row = tx.fetch_optional(Query::new("installation", sql, vec![])).await?;
    row.ok_or(StoreError::NotFound { noun: "installation" })?.get("revocation_number")
}

/// Revokes what a node held before it was enrolled again.
pub(crate) async fn revoke_all_in_tx(tx: &mut Tx, node_id: NodeId) -> Result<()> {
    let now = tx.now;
    let sql = "SELECT serial FROM certificate WHERE node_id = $1 AND revoked_at IS NULL AND not_after > $2";
    if tx.fetch(Query::new("certificate", sql, values![node_id, now])).await?.is_empty() {
        return Ok(());
    }
    let number = next_number(tx).await?;
    let sql = "UPDATE certificate SET revoked_at = $2, revocation_number = $3 \
               WHERE node_id = $1 AND revoked_at IS NULL AND not_after > $2";
    tx.execute(Query::new("certificate", sql, values![node_id, now, number])).await?;
    tx.event(EventKind::CertificateRevoked, Subject::node(node_id), json!({ "number": number })).await
}

impl Store {
    /// Records a renewed certificate; the earlier one stays good until it expires.
    pub async fn certificate_record(&self, node_id: NodeId, new: &NewCertificate) -> Result<()> {
        transaction!(self, |tx| {
            let sql = "UPDATE node SET certificate_serial = $2 WHERE id = $1 AND policy <> 'decommissioned'";
            let missing = StoreError::NotFound { noun: NodeId::NOUN };
            tx.execute_one(Query::new("node", sql, values![node_id, new.serial.as_slice()]), missing).await?;
            insert_in_tx(tx, node_id, new).await?;
            tx.event(EventKind::NodeChanged, Subject::node(node_id), json!({ "certificate": "renewed" })).await
        })
    }

    /// Notes a certificate that is no node's, so that it can be revoked. Safe to repeat.
    pub async fn certificate_note(&self, role: CertificateRole, new: &NewCertificate) -> Result<()> {
        transaction!(self, |tx| {
            let now = tx.now;
            let sql = "INSERT INTO certificate (serial, node_id, role, public_key_sha256, der, issued_at, not_after) \
                       VALUES ($1, NULL, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
            let (serial, der) = (new.serial.as_slice(), new.der.as_slice());
            let values = values![serial, role.word(), &new.public_key_sha256, der, now, new.not_after];
            tx.execute(Query::new("certificate", sql, values)).await.map(|_| ())
        })
    }

    /// Certificates that have not expired, the newest first.
    pub async fn certificate_list(&self) -> Result<Vec<KnownCertificate>> {
        let now = self.clock().now();
        let sql = "SELECT serial, role, node_id, issued_at, not_after, revoked_at FROM certificate \
                   WHERE not_after > $1 ORDER BY issued_at DESC, serial";
        let rows = self.reader().fetch(Query::new("certificate", sql, values![now])).await?;
        let known = |row: &crate::sql::Row| {
            Ok(KnownCertificate {
                serial: row.get("serial")?,
                role: row.get("role")?,
                node_id: row.get("node_id")?,
                issued_at: row.get("issued_at")?,
                not_after: row.get("not_after")?,
                revoked_at: row.get("revoked_at")?,
            })
        };
        rows.iter().map(known).collect()
    }

    /// Revokes a certificate; gives the number of the list that has it. Safe to repeat.
    pub async fn certificate_revoke(&self, serial: &[u8]) -> Result<u64> {
        transaction!(self, |tx| {
            let now = tx.now;
            let sql = "SELECT node_id, revocation_number FROM certificate WHERE serial = $1";
            let locked = "SELECT node_id, revocation_number FROM certificate WHERE serial = $1 FOR UPDATE";
            let query = Query::new("certificate", sql, values![serial]).on_postgres(locked);
            let row = tx.fetch_optional(query).await?.ok_or(MISSING)?;
            if let Some(number) = row.get::<Option<u64>>("revocation_number")? {
                return Ok(number);
            }
            let number = next_number(tx).await?;
            let sql = "UPDATE certificate SET revoked_at = $2, revocation_number = $3 WHERE serial = $1";
            tx.execute_one(Query::new("certificate", sql, values![serial, now, number]), MISSING).await?;
            let subject = Subject { node: row.get("node_id")?, ..Subject::default() };
            tx.event(EventKind::CertificateRevoked, subject, json!({ "number": number })).await?;
            Ok(number)
        })
    }

    /// The list that nodes and servers keep.
    pub async fn revocation_list(&self) -> Result<RevocationList> {
        let now = self.clock().now();
        let mut reader = self.reader();
        // The number first: a list that is one longer than its number is fetched again, never missed.
        let sql = "SELECT revocation_number FROM installation";
        let row = reader.fetch_optional(Query::new("installation", sql, vec![])).await?;
        let number = row.map(|row| row.get("revocation_number")).transpose()?.unwrap_or(0);
        let sql = "SELECT serial FROM certificate WHERE revoked_at IS NOT NULL AND not_after > $1 ORDER BY serial";
        let rows = reader.fetch(Query::new("certificate", sql, values![now])).await?;
        let serials = rows.iter().map(|row| row.get("serial")).collect::<Result<_>>()?;
        Ok(RevocationList { number, serials })
    }
}
