//! API keys: only the hash of the secret is kept.

use std::time::Duration;

use nemordp_model::{ApiKey, ApiScopes, Label};
use nemordp_types::{ApiKeyId, TenantId};

use crate::Store;
use crate::error::{Result, StoreError};
use crate::idempotency::{Idempotency, Once, once};
use crate::page::{Page, Paged, TenantScope};
use crate::sql::{Query, Row, values};
use crate::transaction::Sql as _;

/// The last use is noted to the minute: a note with each request would be a write with each request.
const USE_NOTED_EVERY: Duration = Duration::from_secs(60);

macro_rules! columns {
    () => {
        "k.id, k.tenant_id, k.label, k.scopes, k.created_at, k.last_used_at, k.revoked_at, \
         (SELECT o.pinned FROM tenant o WHERE o.id = k.tenant_id) AS tenant_pinned"
    };
}

/// A key to be stored.
#[derive(Debug, Clone)]
pub struct NewApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Whose.
    pub tenant_id: TenantId,
    /// What it is used for.
    pub label: Label,
    /// What it allows.
    pub scopes: ApiScopes,
    /// SHA-256 of its secret.
    pub secret_sha256: [u8; 32],
}

fn api_key(row: &Row) -> Result<ApiKey> {
    Ok(ApiKey {
        id: row.get("id")?,
        tenant_id: row.get("tenant_id")?,
        tenant_pinned: row.get("tenant_pinned")?,
        label: row.get("label")?,
        scopes: row.get("scopes")?,
        created_at: row.get("created_at")?,
        last_used_at: row.get("last_used_at")?,
        revoked_at: row.get("revoked_at")?,
    })
}

impl Store {
    /// Stores a key for a tenant that exists.
    pub async fn api_key_create(
        &self,
        new: &NewApiKey,
        intention: Option<&Idempotency<'_, ApiKey>>,
    ) -> Result<Once<ApiKey>> {
        transaction!(self, |tx| once!(tx, intention, {
            let now = tx.now;
            let sql = "INSERT INTO api_key (id, tenant_id, label, secret_sha256, scopes, created_at) \
                       SELECT $1, id, $3, $4, $5, $6 FROM tenant WHERE id = $2";
            let values = values![new.id, new.tenant_id, &new.label, &new.secret_sha256, &new.scopes, now];
            let missing = StoreError::NotFound { noun: TenantId::NOUN };
            tx.execute_one(Query::new("api_key", sql, values), missing).await?;
            let sql = concat!("SELECT ", columns!(), " FROM api_key k WHERE k.id = $1");
            let row = tx.fetch_optional(Query::new("api_key", sql, values![new.id])).await?;
            api_key(&row.ok_or(StoreError::NotFound { noun: ApiKeyId::NOUN })?)?
        }))
    }

    /// The key of a secret; none when it is unknown or revoked, or its tenant disabled.
    pub async fn api_key_authenticate(&self, secret_sha256: &[u8; 32]) -> Result<Option<ApiKey>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM api_key k JOIN tenant t ON t.id = k.tenant_id \
             WHERE k.secret_sha256 = $1 AND k.revoked_at IS NULL AND t.disabled_at IS NULL"
        );
        let row = self.reader().fetch_optional(Query::new("api_key", sql, values![secret_sha256])).await?;
        let Some(mut key) = row.as_ref().map(api_key).transpose()? else { return Ok(None) };
        let now = self.clock().now();
        let stale = key.last_used_at.and_then(|at| at.checked_add(USE_NOTED_EVERY).ok()).is_none_or(|due| due <= now);
        if stale {
            let noted: Result<u64> = transaction!(self, |tx| {
                let sql = "UPDATE api_key SET last_used_at = $2 WHERE id = $1";
                tx.execute(Query::new("api_key", sql, values![key.id, now])).await
            });
            // Who may read must not be locked out because the note cannot be written.
            match noted {
                Ok(_) => key.last_used_at = Some(now),
                Err(error) => tracing::warn!(%error, "the use of an API key was not noted"),
            }
        }
        Ok(Some(key))
    }

    /// Keys, revoked ones too.
    pub async fn api_key_list(&self, scope: TenantScope, page: Page<ApiKeyId>) -> Result<Paged<ApiKey, ApiKeyId>> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM api_key k WHERE ($1 IS NULL OR k.tenant_id = $1) AND ($2 IS NULL OR k.id > $2) \
             ORDER BY k.id LIMIT $3"
        );
        let rows = self.reader().fetch(Query::new("api_key", sql, values![scope, page.after, page.fetch()])).await?;
        let items = rows.iter().map(api_key).collect::<Result<_>>()?;
        Ok(page.cut(items, |k: &ApiKey| k.id))
    }

    /// Refuses the key from now on; safe to repeat.
    pub async fn api_key_revoke(&self, scope: TenantScope, id: ApiKeyId) -> Result<()> {
        transaction!(self, |tx| {
            let now = tx.now;
            let sql = "UPDATE api_key SET revoked_at = COALESCE(revoked_at, $3) \
                       WHERE id = $1 AND ($2 IS NULL OR tenant_id = $2)";
            let missing = StoreError::NotFound { noun: ApiKeyId::NOUN };
            tx.execute_one(Query::new("api_key", sql, values![id, scope, now]), missing).await
        })
    }
}
