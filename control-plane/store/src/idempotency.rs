//! A client's name for one intention: the first request's answer is stored in its effect's transaction, and a repetition
//! gets that answer instead of a second effect.

use std::time::Duration;

use nemordp_types::ApiKeyId;

use crate::Store;
use crate::error::{Result, StoreError};
use crate::sql::{Query, values};
use crate::transaction::{Sql, Tx};

/// An answer as it is stored. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponse {
    /// HTTP status.
    pub status: u16,
    /// JSON text.
    pub body: String,
}

/// The intention behind a request, and how its answer is made from the effect.
pub struct Idempotency<'a, T> {
    /// Whose intention.
    pub api_key_id: ApiKeyId,
    /// The client's name for it.
    pub key: &'a str,
    /// SHA-256 of the request.
    pub fingerprint: [u8; 32],
    /// How long the answer is kept.
    pub lifetime: Duration,
    /// The answer; may be called more than once.
    pub respond: &'a (dyn Fn(&T) -> StoredResponse + Send + Sync),
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Once<T> {
    /// It took effect now.
    Done(T),
    /// It took effect before; this was answered.
    Replayed(StoredResponse),
}

impl<T> Once<T> {
    /// The effect, unless it was a repetition.
    pub fn done(self) -> Option<T> {
        match self {
            Self::Done(value) => Some(value),
            Self::Replayed(_) => None,
        }
    }
}

/// Looks up a key; the fingerprint must be the same.
async fn look(
    sql: &mut impl Sql,
    api_key_id: ApiKeyId,
    key: &str,
    fingerprint: &[u8; 32],
    now: jiff::Timestamp,
) -> Result<Option<StoredResponse>> {
    let text = "SELECT fingerprint, status, body FROM idempotency \
                WHERE api_key_id = $1 AND key = $2 AND expires_at > $3";
    let row = sql.fetch_optional(Query::new("idempotency", text, values![api_key_id, key, now])).await?;
    let Some(row) = row else { return Ok(None) };
    if row.get::<[u8; 32]>("fingerprint")? != *fingerprint {
        return Err(StoreError::IdempotencyKeyReused);
    }
    Ok(Some(StoredResponse { status: row.get("status")?, body: row.get("body")? }))
}

/// Takes the key at the beginning of the effect's transaction, or finds the answer of the one who took it before.
/// A request with the same key that runs at the same time waits here for the other's commit.
pub(crate) async fn begin_in_tx<T>(
    tx: &mut Tx,
    intention: Option<&Idempotency<'_, T>>,
) -> Result<Option<StoredResponse>> {
    let Some(intention) = intention else { return Ok(None) };
    let now = tx.now;
    let expires_at = now.checked_add(intention.lifetime).unwrap_or(jiff::Timestamp::MAX);
    let sql = "DELETE FROM idempotency WHERE api_key_id = $1 AND key = $2 AND expires_at <= $3";
    tx.execute(Query::new("idempotency", sql, values![intention.api_key_id, intention.key, now])).await?;
    let sql = "INSERT INTO idempotency (api_key_id, key, fingerprint, status, body, created_at, expires_at) \
               VALUES ($1, $2, $3, 0, '', $4, $5) ON CONFLICT DO NOTHING";
    let values = values![intention.api_key_id, intention.key, &intention.fingerprint, now, expires_at];
    if tx.execute(Query::new("idempotency", sql, values)).await? == 1 {
        return Ok(None);
    }
    let found = look(tx, intention.api_key_id, intention.key, &intention.fingerprint, now).await?;
    found.map(Some).ok_or_else(|| StoreError::Busy("the idempotency key was purged meanwhile".to_owned()))
}

/// Stores the answer at the end of the effect's transaction.
pub(crate) async fn finish_in_tx<T>(tx: &mut Tx, intention: Option<&Idempotency<'_, T>>, value: T) -> Result<Once<T>> {
    if let Some(intention) = intention {
        let response = (intention.respond)(&value);
        let sql = "UPDATE idempotency SET status = $3, body = $4 WHERE api_key_id = $1 AND key = $2";
        let values = values![intention.api_key_id, intention.key, response.status, response.body];
        let gone = StoreError::Driver("the idempotency row of this transaction is gone".to_owned());
        tx.execute_one(Query::new("idempotency", sql, values), gone).await?;
    }
    Ok(Once::Done(value))
}

/// Runs the body unless the intention took effect before.
macro_rules! once {
    ($tx:ident, $intention:expr, $body:expr) => {{
        match $crate::idempotency::begin_in_tx($tx, $intention).await? {
            Some(response) => Ok($crate::idempotency::Once::Replayed(response)),
            None => {
                let value = $body;
                $crate::idempotency::finish_in_tx($tx, $intention, value).await
            }
        }
    }};
}
pub(crate) use once;

impl Store {
    /// The answer of a repeated request, before anything is done for it; `IdempotencyKeyReused` for another request.
    pub async fn idempotency_fetch(
        &self,
        api_key_id: ApiKeyId,
        key: &str,
        fingerprint: &[u8; 32],
    ) -> Result<Option<StoredResponse>> {
        let now = self.clock().now();
        look(&mut self.reader(), api_key_id, key, fingerprint, now).await
    }

    /// Forgets answers that are too old; gives their number.
    pub async fn idempotency_purge(&self) -> Result<u64> {
        transaction!(self, |tx| {
            let now = tx.now;
            tx.execute(Query::new("idempotency", "DELETE FROM idempotency WHERE expires_at <= $1", values![now])).await
        })
    }
}
