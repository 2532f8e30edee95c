//! The storefront's side: one key, several addresses, each intention repeated under its own name until it is answered.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{ClusterError, Result, unusable};

/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long an intention is repeated while nobody answers.
const PATIENCE: Duration = Duration::from_secs(40);

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body; null when there is none.
    pub body: Value,
}

impl Answer {
    /// A text of the body.
    ///
    /// # Errors
    /// It is missing.
    pub fn text(&self, field: &str) -> Result<String> {
        let text = self.body.get(field).and_then(Value::as_str).map(ToOwned::to_owned);
        text.ok_or_else(|| unusable(field, format!("missing in {} {}", self.status, self.body)))
    }

    /// Itself when it is a success.
    ///
    /// # Errors
    /// The problem document.
    pub fn success(self) -> Result<Self> {
        if self.status.is_success() {
            return Ok(self);
        }
        Err(unusable("API", format!("{} {}", self.status, self.body)))
    }
}

/// A client of all replicas.
#[derive(Debug)]
pub struct Api {
    http: reqwest::Client,
    bases: Vec<String>,
    key: OnceLock<String>,
    turn: AtomicUsize,
    intentions: AtomicU64,
}

impl Api {
    pub(super) fn new(addresses: Vec<SocketAddr>) -> Result<Self> {
        let http = reqwest::Client::builder().timeout(DEADLINE).build();
        let bases = addresses.into_iter().map(|address| format!("http://{address}")).collect();
        Ok(Self {
            http: http.map_err(|error| unusable("HTTP client", error))?,
            bases,
            key: OnceLock::new(),
            turn: AtomicUsize::new(0),
            intentions: AtomicU64::new(0),
        })
    }

    pub(super) fn use_key(&self, key: String) {
        // The key is made once.
        drop(self.key.set(key));
    }

    /// The key that every request carries.
    #[must_use]
    pub fn key(&self) -> &str {
        self.key.get().map(String::as_str).unwrap_or_default()
    }

    /// One try at one replica.
    ///
    /// # Errors
    /// Nobody answered, or not with JSON.
    pub async fn once(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        intention: Option<&str>,
    ) -> Result<Answer> {
        self.ask(method, path, body, intention, None).await
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        intention: Option<&str>,
        traceparent: Option<&str>,
    ) -> Result<Answer> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let base = self.bases.get(turn % self.bases.len()).ok_or_else(|| unusable("API", "there is no replica"))?;
        let mut request = self.http.request(method, format!("{base}{path}"));
        if let Some(key) = self.key.get() {
            request = request.bearer_auth(key);
        }
        if let Some(intention) = intention {
            request = request.header("Idempotency-Key", intention);
        }
        if let Some(traceparent) = traceparent {
            request = request.header("traceparent", traceparent);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| unusable(path, error))?;
        let status = response.status();
        let text = response.text().await.map_err(|error| unusable(path, error))?;
        let body = if text.is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap_or(Value::Null) };
        Ok(Answer { status, body })
    }

    /// Repeats an intention under its name until somebody answers for good, as a storefront does.
    ///
    /// # Errors
    /// Nobody did in time.
    pub async fn insist(&self, method: Method, path: &str, body: Option<&Value>, intention: &str) -> Result<Answer> {
        let end = Instant::now() + PATIENCE;
        loop {
            let why = match self.once(method.clone(), path, body, Some(intention)).await {
                Ok(answer) if !is_passing(&answer) => return Ok(answer),
                Ok(answer) => format!("{} {}", answer.status, answer.body),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= end {
                return Err(unusable(path, format!("no answer for {} s; last: {why}", PATIENCE.as_secs())));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A name for an intention, never given twice.
    #[must_use]
    pub fn intention(&self) -> String {
        format!("intention-{}-{}", std::process::id(), self.intentions.fetch_add(1, Ordering::Relaxed))
    }

    /// `POST` that must succeed.
    ///
    /// # Errors
    /// It does not.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        self.insist(Method::POST, path, Some(body), &self.intention()).await?.success()
    }

    /// `GET` that must succeed, repeated while nobody answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn get(&self, path: &str) -> Result<Value> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.once(Method::GET, path, None, None).await {
                Ok(answer) if !is_passing(&answer) => return Ok(answer.success()?.body),
                Err(error) if Instant::now() >= end => return Err(error),
                Ok(_) if Instant::now() >= end => {
                    return Err(ClusterError::Deadline { what: path.to_owned(), seconds: PATIENCE.as_secs_f64() });
                }
                Ok(_) | Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// One `GET` whose answer is read and not looked into: what that costs is not the server's.
    ///
    /// # Errors
    /// Nobody answered.
    pub async fn read(&self, path: &str) -> Result<StatusCode> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let base = self.bases.get(turn % self.bases.len()).ok_or_else(|| unusable("API", "there is no replica"))?;
        let key = self.key.get().map(String::as_str).unwrap_or_default();
        let request = self.http.get(format!("{base}{path}")).bearer_auth(key);
        let response = request.send().await.map_err(|error| unusable(path, error))?;
        let status = response.status();
        response.bytes().await.map_err(|error| unusable(path, error))?;
        Ok(status)
    }

    /// All rows of a list.
    ///
    /// # Errors
    /// A page cannot be read.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let mut rows = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("{path}?limit=200{cursor}")).await?;
            rows.extend(page.get("items").and_then(Value::as_array).into_iter().flatten().cloned());
            match page.get("next_cursor").and_then(Value::as_str) {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(rows),
            }
        }
    }

    /// Orders a desktop; the name is kept as the order's external reference.
    ///
    /// # Errors
    /// Nobody answered.
    pub async fn order(&self, intention: &str) -> Result<Answer> {
        self.insist(Method::POST, "/v1/orders", Some(&desktop(intention)), intention).await
    }

    /// Orders a desktop within a trace (`traceparent`), in one try.
    ///
    /// # Errors
    /// It was not accepted.
    pub async fn order_traced(&self, intention: &str, traceparent: &str) -> Result<Answer> {
        let body = desktop(intention);
        self.ask(Method::POST, "/v1/orders", Some(&body), Some(intention), Some(traceparent)).await?.success()
    }

    /// Uploads a file.
    ///
    /// # Errors
    /// It was not taken.
    pub(super) async fn upload(&self, path: &str, bytes: Vec<u8>) -> Result<()> {
        let base = self.bases.first().ok_or_else(|| unusable("API", "there is no replica"))?;
        let request = self.http.put(format!("{base}{path}")).bearer_auth(self.key());
        let request = request.header("content-type", "application/octet-stream").body(bytes);
        let response = request.send().await.map_err(|error| unusable(path, error))?;
        if response.status().is_success() {
            return Ok(());
        }
        Err(unusable(path, response.text().await.unwrap_or_default()))
    }
}

fn desktop(intention: &str) -> Value {
    json!({
        "plan": "basic", "template": "sim-desktop", "region": "lab", "host_name": "desk-1",
        "external_reference": intention,
    })
}

/// Worth repeating: the store or the replica is away, or the same intention is being answered elsewhere.
fn is_passing(answer: &Answer) -> bool {
    let reason = answer.body.get("reason").and_then(Value::as_str).unwrap_or_default();
    answer.status.is_server_error() && reason != "capacity_exhausted" || reason == "idempotency_in_progress"
}
