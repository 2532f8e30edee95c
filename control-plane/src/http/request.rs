//! What is read out of a request: ids in the path, filters in the query, bodies, and intentions with their key.

use std::collections::HashSet;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nemordp_api::{IDEMPOTENCY_KEY, IDEMPOTENT_REPLAYED};
use nemordp_store::{Accepted, Idempotency, Once, Page, Paged, StoredResponse};
use nemordp_types::{ApiKeyId, Failure, Reason};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use utoipa::IntoParams;

use super::Api;
use super::auth::CallerKey;
use super::error::HttpError;
use crate::app::Intention;

/// How long an answer is kept for repetitions.
const ANSWER_LIFETIME: Duration = Duration::from_secs(24 * 3_600);
/// Rows of a page.
const LIMIT_MAX: u32 = 200;
const LIMIT_DEFAULT: u32 = 50;

/// The one id or name in the path.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

impl<T: FromStr<Err = Failure> + Send> FromRequestParts<Api> for Named<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, HttpError> {
        let Path(text) = Path::<String>::from_request_parts(parts, api)
            .await
            .map_err(|rejection| Failure::field("id", rejection.body_text()))?;
        Ok(Self(text.parse::<T>()?))
    }
}

/// The filters in the query; unknown ones are refused.
#[derive(Debug)]
pub(super) struct Filter<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Api> for Filter<T> {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, _api: &Api) -> Result<Self, HttpError> {
        let Query(value) =
            Query::<T>::try_from_uri(&parts.uri).map_err(|rejection| Failure::field("query", rejection.body_text()))?;
        Ok(Self(value))
    }
}

/// Which page of a list.
#[derive(Debug, Clone, Default, serde::Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Rows, 1 to 200; 50 when absent.
    #[serde(default)]
    #[param(minimum = 1, maximum = 200, default = 50)]
    pub(super) limit: Option<u32>,
    /// `next_cursor` of the page before.
    #[serde(default)]
    pub(super) cursor: Option<String>,
}

impl PageQuery {
    /// As the store wants it.
    pub(super) fn page<K: FromStr>(&self) -> Result<Page<K>, Failure> {
        let limit = self.limit.unwrap_or(LIMIT_DEFAULT);
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Failure::field("limit", format!("use 1 to {LIMIT_MAX}")));
        }
        let Some(cursor) = &self.cursor else { return Ok(Page::first(limit)) };
        let key = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
        let key = key.ok_or_else(|| Failure::field("cursor", "use next_cursor of the page before, unchanged"))?;
        Ok(Page::after(key, limit))
    }
}

/// The cursor of a page's end.
pub(super) fn cursor<T, K: std::fmt::Display>(paged: &Paged<T, K>) -> Option<String> {
    paged.next.as_ref().map(|key| URL_SAFE_NO_PAD.encode(key.to_string()))
}

/// The header that a POST needs.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes the header; it is read by `Intent`")]
pub(super) struct IdempotencyHeader {
    /// Your name for this intention, 1 to 255 printable ASCII characters. The same key with the same request returns the
    /// first answer again (`Idempotent-Replayed: true`); with another one it is refused (422).
    #[param(rename = "Idempotency-Key", example = "invoice-2026-0815")]
    key: String,
}

/// No body, or an empty object.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Empty {}

/// A JSON body of a request that needs no key of its own.
#[derive(Debug)]
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequest<Api> for JsonBody<T> {
    type Rejection = HttpError;

    async fn from_request(request: Request, api: &Api) -> Result<Self, HttpError> {
        let (parts, body) = request.into_parts();
        let bytes = read(&parts, body, api.app.config.http.body_max_bytes).await?;
        Ok(Self(parse(&bytes)?))
    }
}

/// A request that changes something, with the caller's name for it.
#[derive(Debug)]
pub(super) struct Intent<T> {
    /// What is asked for.
    pub(super) body: T,
    key: String,
    fingerprint: [u8; 32],
    api_key_id: ApiKeyId,
    _turn: Turn,
}

impl<T: DeserializeOwned + Send> FromRequest<Api> for Intent<T> {
    type Rejection = Response;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let refuse = |failure: Failure| HttpError(failure).into_response();
        let api_key_id = parts
            .extensions
            .get::<CallerKey>()
            .map(|key| key.0)
            .ok_or_else(|| refuse(Failure::internal("an intention was read before its caller")))?;
        let key = intention(&parts).map_err(refuse)?;
        let bytes = read(&parts, body, api.app.config.http.body_max_bytes).await.map_err(refuse)?;
        let fingerprint = fingerprint(&parts, &bytes);
        let turn = api.turns.take(api_key_id, &key).map_err(refuse)?;
        let known = api.app.store.idempotency_fetch(api_key_id, &key, &fingerprint).await;
        if let Some(stored) = known.map_err(|error| refuse(error.into()))? {
            return Err(replayed(&stored));
        }
        let body = parse(&bytes).map_err(refuse)?;
        Ok(Self { body, key, fingerprint, api_key_id, _turn: turn })
    }
}

impl<T> Intent<T> {
    /// As the store wants it.
    pub(super) fn once<'a, E>(
        &'a self,
        respond: &'a (dyn Fn(&E) -> StoredResponse + Send + Sync),
    ) -> Idempotency<'a, E> {
        Idempotency {
            api_key_id: self.api_key_id,
            key: &self.key,
            fingerprint: self.fingerprint,
            lifetime: ANSWER_LIFETIME,
            respond,
        }
    }
}

impl Intent<nemordp_api::NewOrder> {
    /// As the desk wants it, which may serve the order after the request was dropped.
    pub(super) fn kept(&self, respond: fn(&Accepted) -> StoredResponse) -> Intention {
        Intention {
            api_key_id: self.api_key_id,
            key: self.key.clone(),
            fingerprint: self.fingerprint,
            lifetime: ANSWER_LIFETIME,
            respond,
        }
    }
}

/// An answer that can be kept.
pub(super) fn stored(status: StatusCode, body: &impl Serialize) -> StoredResponse {
    StoredResponse { status: status.as_u16(), body: serde_json::to_string(body).unwrap_or_default() }
}

/// The answer to an intention: the effect's, or the one that was given before.
pub(super) fn answer<E>(once: &Once<E>, respond: &dyn Fn(&E) -> StoredResponse) -> Response {
    match once {
        Once::Done(effect) => as_response(&respond(effect)),
        Once::Replayed(stored) => replayed(stored),
    }
}

fn replayed(stored: &StoredResponse) -> Response {
    let mut response = as_response(stored);
    response.headers_mut().insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    response
}

/// Answers of long work say where it can be watched: the operation itself, or the order that names one.
fn as_response(stored: &StoredResponse) -> Response {
    let status = StatusCode::from_u16(stored.status).unwrap_or(StatusCode::OK);
    let mut response = (status, stored.body.clone()).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::ACCEPTED
        && let Ok(body) = serde_json::from_str::<serde_json::Value>(&stored.body)
        && let Some(id) = body.get("operation_id").or_else(|| body.get("id")).and_then(serde_json::Value::as_str)
        && let Ok(location) = HeaderValue::from_str(&format!("/v1/operations/{id}"))
    {
        headers.insert(header::LOCATION, location);
    }
    response
}

/// Which intentions are being worked on by this process.
#[derive(Debug, Default, Clone)]
pub(super) struct Turns(std::sync::Arc<Mutex<HashSet<(ApiKeyId, String)>>>);

/// One intention's turn; over when it goes out of scope.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Turns,
    entry: (ApiKeyId, String),
}

impl Turns {
    fn take(&self, api_key_id: ApiKeyId, key: &str) -> Result<Turn, Failure> {
        let entry = (api_key_id, key.to_owned());
        let fresh = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(entry.clone());
        if fresh {
            return Ok(Turn { turns: self.clone(), entry });
        }
        Err(Failure::new(
            Reason::IdempotencyKeyInUse,
            "the first request with this Idempotency-Key is still being worked on: send it again in a moment",
        ))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.entry);
    }
}

fn intention(parts: &Parts) -> Result<String, Failure> {
    let mut values = parts.headers.get_all(IDEMPOTENCY_KEY).iter();
    let key = values.next().ok_or_else(|| {
        Failure::new(Reason::IdempotencyKeyMissing, "send an Idempotency-Key: your own name for this intention")
            .with_field(IDEMPOTENCY_KEY)
    })?;
    match key.to_str() {
        Ok(key) if (1..=255).contains(&key.len()) && values.next().is_none() => Ok(key.to_owned()),
        Ok(_) | Err(_) => Err(Failure::field(IDEMPOTENCY_KEY, "use one key of 1 to 255 printable ASCII characters")),
    }
}

fn fingerprint(parts: &Parts, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [parts.method.as_str(), parts.uri.path(), parts.uri.query().unwrap_or_default()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(body);
    hash.finalize().into()
}

async fn read(parts: &Parts, body: Body, limit: usize) -> Result<axum::body::Bytes, Failure> {
    let bytes = axum::body::to_bytes(body, limit).await.map_err(|error| {
        Failure::new(Reason::PayloadTooLarge, format!("a body has at most {limit} bytes, and must arrive whole"))
            .with_context(error)
    })?;
    let json = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        value.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case("application/json")
    });
    if !bytes.is_empty() && !json {
        return Err(Failure::field("Content-Type", "send application/json"));
    }
    Ok(bytes)
}

/// Reads JSON; the error names the field in the caller's spelling.
fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    let text: &[u8] = if bytes.is_empty() { b"{}" } else { bytes };
    let value: serde_json::Value = serde_json::from_slice(text)
        .map_err(|error| Failure::new(Reason::InvalidArgument, format!("the body is not JSON: {error}")))?;
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let text = error.inner().to_string();
        // Names say `invalid_argument: <their own field>: <fix>`; the path knows the field better.
        let fix = text.strip_prefix("invalid_argument: ").and_then(|rest| Some(rest.split_once(": ")?.1));
        let failure = Failure::new(Reason::InvalidArgument, fix.unwrap_or(&text));
        match missing(&text) {
            Some(field) if path == "." || path == field => failure.with_field(field),
            Some(field) if path.ends_with(&format!(".{field}")) => failure.with_field(path),
            Some(field) => failure.with_field(format!("{path}.{field}")),
            None if path == "." => failure,
            None => failure.with_field(path),
        }
    })
}

/// The field that serde misses or does not know; its path includes only the latter.
fn missing(text: &str) -> Option<&str> {
    let rest = text.strip_prefix("missing field `").or_else(|| text.strip_prefix("unknown field `"))?;
    rest.split('`').next()
}

#[cfg(test)]
mod tests {
    use nemordp_api::NewOrder;

    use super::*;

    #[test]
    fn a_bad_body_names_the_field_and_the_fix() {
        let field = |json: &str| parse::<NewOrder>(json.as_bytes()).unwrap_err();
        let bad = field(r#"{"plan":"Basic!","template":"t","region":"r"}"#);
        assert_eq!(bad.field.as_deref(), Some("plan"));
        assert!(bad.message.starts_with("use lower-case letters"), "{}", bad.message);
        assert_eq!(field(r#"{"plan":"b","template":"t"}"#).field.as_deref(), Some("region"));
        assert_eq!(field(r#"{"plan":"b","template":"t","region":"r","colour":1}"#).field.as_deref(), Some("colour"));
        assert_eq!(
            field(r#"{"plan":"b","template":"t","region":"r","host_name":"a b"}"#).field.as_deref(),
            Some("host_name")
        );
        assert!(field("{").message.contains("not JSON"));
    }

    #[test]
    fn a_cursor_is_taken_back_as_it_was_given() {
        let paged = Paged { items: vec![1], next: Some("basic".to_owned()) };
        let query = PageQuery { limit: Some(7), cursor: cursor(&paged) };
        let page: Page<String> = query.page().unwrap();
        assert_eq!((page.after.as_deref(), page.limit), (Some("basic"), 7));
        let broken = PageQuery { limit: None, cursor: Some("%%".to_owned()) };
        assert_eq!(broken.page::<String>().unwrap_err().field.as_deref(), Some("cursor"));
        let wide = PageQuery { limit: Some(201), cursor: None };
        assert_eq!(wide.page::<String>().unwrap_err().field.as_deref(), Some("limit"));
    }

    #[test]
    fn one_intention_has_one_turn_at_a_time() {
        use nemordp_types::{ManualClock, SeededEntropy};
        let turns = Turns::default();
        let id = ApiKeyId::new(&ManualClock::at_second(1), &SeededEntropy::new(1));
        let turn = turns.take(id, "a").unwrap();
        assert_eq!(turns.take(id, "a").unwrap_err().reason, Reason::IdempotencyKeyInUse);
        assert!(turns.take(id, "b").is_ok());
        drop(turn);
        assert!(turns.take(id, "a").is_ok());
    }
}
