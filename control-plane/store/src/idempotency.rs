//! A client's name for one intention: the first request's answer is stored in its effect's transaction, and a repetition
//! gets that answer instead of a second effect.

use std::collections::BTreeMap;
use std::time::Duration;

use nemordp_types::ApiKeyId;

use crate::Store;
use crate::error::{Result, StoreError};
use crate::rows::{Kind, Rows};
use crate::sql::{Query, values};
use crate::transaction::{Sql, Tx};

const KEY: &[(&str, Kind)] = &[("key_owner", Kind::Blob), ("key_name", Kind::Text)];

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

/// What was answered to intentions of a burst before: the answer, or that the key came with another request. Keys that
/// expired are forgotten.
pub(crate) async fn known_in_tx<T>(
    tx: &mut Tx,
    intentions: &[&Idempotency<'_, T>],
) -> Result<BTreeMap<(ApiKeyId, String), Result<StoredResponse>>> {
    let mut known = BTreeMap::new();
    if intentions.is_empty() {
        return Ok(known);
    }
    let mut expired = Rows::new(KEY);
    let keys = {
        let mut rows = Rows::new(KEY);
        intentions.iter().for_each(|intention| rows.push(values![intention.api_key_id, intention.key]));
        rows
    };
    let sql = "SELECT i.api_key_id, i.key, i.fingerprint, i.status, i.body, i.expires_at FROM idempotency i \
               JOIN {rows} AS r ON i.api_key_id = r.key_owner AND i.key = r.key_name";
    for row in tx.fetch(Query::over("idempotency", sql, vec![], keys)).await? {
        let (owner, key): (ApiKeyId, String) = (row.get("api_key_id")?, row.get("key")?);
        if row.get::<jiff::Timestamp>("expires_at")? <= tx.now {
            expired.push(values![owner, key]);
            continue;
        }
        let fingerprint: [u8; 32] = row.get("fingerprint")?;
        let same = intentions.iter().any(|i| i.api_key_id == owner && i.key == key && i.fingerprint == fingerprint);
        let answer = StoredResponse { status: row.get("status")?, body: row.get("body")? };
        known.insert((owner, key), if same { Ok(answer) } else { Err(StoreError::IdempotencyKeyReused) });
    }
    if !expired.is_empty() {
        let sql = "DELETE FROM idempotency WHERE (api_key_id, key) IN (SELECT key_owner, key_name FROM {rows} AS r)";
        tx.execute_over(Query::over("idempotency", sql, vec![], expired)).await?;
    }
    Ok(known)
}

/// Keeps the answers of a burst. Whoever took one of the keys meanwhile made the transaction outdated: it runs again.
pub(crate) async fn keep_in_tx<T>(tx: &mut Tx, answers: &[(&Idempotency<'_, T>, StoredResponse)]) -> Result<()> {
    let now = tx.now;
    let mut rows = Rows::new(&[
        ("key_owner", Kind::Blob),
        ("key_name", Kind::Text),
        ("fingerprint", Kind::Blob),
        ("status", Kind::Int),
        ("body", Kind::Text),
        ("expires_at", Kind::Int),
    ]);
    for (intention, answer) in answers {
        let expires_at = now.checked_add(intention.lifetime).unwrap_or(jiff::Timestamp::MAX);
        let StoredResponse { status, body } = answer;
        let (owner, key, print) = (intention.api_key_id, intention.key, &intention.fingerprint);
        rows.push(values![owner, key, print, *status, body.as_str(), expires_at]);
    }
    let sql = "INSERT INTO idempotency (api_key_id, key, fingerprint, status, body, created_at, expires_at) \
               SELECT key_owner, key_name, fingerprint, status, body, $1, expires_at FROM {rows} AS r WHERE true \
               ON CONFLICT DO NOTHING";
    tx.execute_over(Query::over("idempotency", sql, values![now], rows)).await
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
