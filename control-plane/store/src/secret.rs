//! Sealed passwords, and the link that opens one once. The seal is the caller's; here lie bytes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nemordp_model::EventKind;
use nemordp_types::InstanceId;
use serde_json::json;

use crate::Store;
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::instance;
use crate::page::TenantScope;
use crate::rows::{Kind, Rows};
use crate::sql::{Query, Row, values};
use crate::transaction::{Sql as _, Tx};

const MISSING: StoreError = StoreError::NotFound { noun: "credentials" };

/// Where an instance's credentials stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretStanding {
    /// When the password was sealed.
    pub sealed_at: Timestamp,
    /// When it was shown; nobody has it any more.
    pub revealed_at: Option<Timestamp>,
    /// Until when its link opens, if it has one.
    pub link_expires_at: Option<Timestamp>,
}

/// What a link opened.
#[derive(Clone, PartialEq, Eq)]
pub struct Revealed {
    /// Whose credentials.
    pub instance_id: InstanceId,
    /// The sealed password.
    pub sealed: Vec<u8>,
}

impl std::fmt::Debug for Revealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Revealed").field("instance_id", &self.instance_id).finish_non_exhaustive()
    }
}

fn standing(row: &Row) -> Result<SecretStanding> {
    Ok(SecretStanding {
        sealed_at: row.get("sealed_at")?,
        revealed_at: row.get("revealed_at")?,
        link_expires_at: row.get("link_expires_at")?,
    })
}

/// Keeps new passwords; those from before are overwritten, and their links with them.
pub(crate) async fn seal_in_tx(tx: &mut Tx, passwords: &BTreeMap<InstanceId, &[u8]>) -> Result<()> {
    let now = tx.now;
    let mut rows = Rows::new(&[("of_instance", Kind::Blob), ("new_sealed", Kind::Blob)]);
    for (instance_id, sealed) in passwords {
        rows.push(values![*instance_id, *sealed]);
    }
    // Without a WHERE, SQLite takes ON for the beginning of a join's condition.
    let sql = "INSERT INTO secret (instance_id, sealed, sealed_at) SELECT of_instance, new_sealed, $1 FROM {rows} AS r \
               WHERE 1 = 1 ON CONFLICT (instance_id) DO UPDATE SET sealed = excluded.sealed, \
               sealed_at = excluded.sealed_at, revealed_at = NULL, link_sha256 = NULL, link_expires_at = NULL";
    tx.execute_over(Query::over("secret", sql, values![now], rows)).await
}

/// Forgets a password and its link.
pub(crate) async fn erase_in_tx(tx: &mut Tx, instance_id: InstanceId) -> Result<()> {
    let sql = "DELETE FROM secret WHERE instance_id = $1";
    tx.execute(Query::new("secret", sql, values![instance_id])).await.map(|_| ())
}

impl Store {
    /// The sealed password as long as it was not shown, for the login proof.
    pub async fn secret_fetch(&self, instance_id: InstanceId) -> Result<Option<Vec<u8>>> {
        let sql = "SELECT sealed FROM secret WHERE instance_id = $1 AND sealed IS NOT NULL";
        let row = self.reader().fetch_optional(Query::new("secret", sql, values![instance_id])).await?;
        row.map(|row| row.get("sealed")).transpose()
    }

    /// Where the credentials of an instance stand; none when it has none yet.
    pub async fn secret_standing(&self, instance_id: InstanceId) -> Result<Option<SecretStanding>> {
        let sql = "SELECT sealed_at, revealed_at, link_expires_at FROM secret WHERE instance_id = $1";
        let row = self.reader().fetch_optional(Query::new("secret", sql, values![instance_id])).await?;
        row.as_ref().map(standing).transpose()
    }

    /// Makes the link by which the password can be shown, instead of any earlier one.
    pub async fn secret_link(
        &self,
        instance_id: InstanceId,
        link_sha256: &[u8; 32],
        expires_at: Timestamp,
    ) -> Result<()> {
        transaction!(self, |tx| {
            let sql = "UPDATE secret SET link_sha256 = $2, link_expires_at = $3 \
                       WHERE instance_id = $1 AND sealed IS NOT NULL";
            let values = values![instance_id, link_sha256, expires_at];
            if tx.execute(Query::new("secret", sql, values)).await? == 1 {
                return Ok(());
            }
            let sql = "SELECT sealed_at FROM secret WHERE instance_id = $1";
            let row = tx.fetch_optional(Query::new("secret", sql, values![instance_id])).await?;
            Err(if row.is_some() { StoreError::AlreadyRevealed } else { MISSING })
        })
    }

    /// What a link would open, without opening it; none when it is unknown or too old.
    pub async fn secret_link_standing(&self, link_sha256: &[u8; 32]) -> Result<Option<(InstanceId, SecretStanding)>> {
        let sql = "SELECT instance_id, sealed_at, revealed_at, link_expires_at FROM secret \
                   WHERE link_sha256 = $1 AND (revealed_at IS NOT NULL OR link_expires_at > $2)";
        let now = self.clock().now();
        let row = self.reader().fetch_optional(Query::new("secret", sql, values![link_sha256, now])).await?;
        row.map(|row| Ok((row.get("instance_id")?, standing(&row)?))).transpose()
    }

    /// Opens a link: gives the sealed password once and erases it. Unknown and expired links are not found.
    pub async fn secret_consume(&self, link_sha256: &[u8; 32]) -> Result<Revealed> {
        transaction!(self, |tx| {
            let now = tx.now;
            let sql = "SELECT instance_id, sealed, revealed_at, link_expires_at FROM secret WHERE link_sha256 = $1";
            let row = tx.fetch_optional(Query::new("secret", sql, values![link_sha256])).await?.ok_or(MISSING)?;
            if row.get::<Option<Timestamp>>("revealed_at")?.is_some() {
                return Err(StoreError::AlreadyRevealed);
            }
            if row.get::<Option<Timestamp>>("link_expires_at")?.is_none_or(|until| until <= now) {
                return Err(MISSING);
            }
            let (instance_id, sealed) = (row.get::<InstanceId>("instance_id")?, row.get::<Vec<u8>>("sealed")?);
            // The condition decides between two who read the same row: the second one changes nothing.
            let sql = "UPDATE secret SET sealed = NULL, revealed_at = $3 \
                       WHERE instance_id = $1 AND link_sha256 = $2 AND sealed IS NOT NULL AND link_expires_at > $3";
            let values = values![instance_id, link_sha256, now];
            tx.execute_one(Query::new("secret", sql, values), StoreError::AlreadyRevealed).await?;
            let instance = instance::fetch(tx, TenantScope::All, instance_id).await?;
            tx.event(EventKind::CredentialsRevealed, Subject::from(&instance), json!({})).await?;
            Ok(Revealed { instance_id, sealed })
        })
    }
}
