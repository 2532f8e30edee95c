//! The HTTP side: one key, one base address, problems turned into errors.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use nemordp_api::{IDEMPOTENCY_KEY, Problem};
use nemordp_types::{SystemClock, SystemEntropy};
use reqwest::{Body, Method, RequestBuilder, Response, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::error::Error;

/// Where the API is, and who asks.
#[derive(Debug, Args)]
pub struct Connection {
    /// Address of the HTTP API.
    #[arg(long, global = true, env = "NEMORDP_URL", default_value = "http://127.0.0.1:8080")]
    url: Url,
    /// File that holds the API key; the key itself never stands on a command line.
    #[arg(long, global = true, env = "NEMORDP_KEY_FILE", default_value = "/etc/nemordp/api-key")]
    key_file: PathBuf,
    /// Certificate of the CA that signed the API's own, when it is not a public one (PEM).
    #[arg(long, global = true, env = "NEMORDP_CA_FILE")]
    ca_file: Option<PathBuf>,
    /// Name of this intention: repeat a command with the same key, and it takes effect once.
    #[arg(long, global = true)]
    idempotency_key: Option<String>,
}

/// A client of one control plane.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<SecretString>,
    key_file: PathBuf,
    idempotency_key: Option<String>,
}

impl Client {
    /// Reads key and CA; connects with the first request.
    ///
    /// # Errors
    /// A CA file that cannot be used.
    pub fn new(connection: &Connection) -> Result<Self, Error> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("nemordp/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none());
        if let Some(file) = &connection.ca_file {
            let pem = std::fs::read(file).map_err(|error| unreadable(file, &error))?;
            let roots = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| unreadable(file, &error))?;
            builder = builder.tls_certs_only(roots);
        }
        let http = builder.build().map_err(|error| Error::Usage(format!("no HTTP client can be made: {error}")))?;
        let key = std::fs::read_to_string(&connection.key_file).ok().map(|text| SecretString::from(text.trim()));
        let mut base = connection.url.clone();
        if !base.path().ends_with('/') {
            base.set_path(&format!("{}/", base.path()));
        }
        Ok(Self {
            http,
            base,
            key,
            key_file: connection.key_file.clone(),
            idempotency_key: connection.idempotency_key.clone(),
        })
    }

    /// `GET`, with a query.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, Error> {
        let mut url = self.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.read(path, self.request(Method::GET, url)?).await
    }

    /// `GET` of a text.
    pub async fn get_text(&self, path: &str) -> Result<String, Error> {
        let response = self.send(path, self.request(Method::GET, self.url(path)?)?).await?;
        response.text().await.map_err(|error| broken(path, &error))
    }

    /// `POST` with an idempotency key.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &(impl Serialize + Sync)) -> Result<T, Error> {
        let request = self.request(Method::POST, self.url(path)?)?.header(IDEMPOTENCY_KEY, self.intention()).json(body);
        self.read(path, request).await
    }

    /// `POST` without a body.
    pub async fn post_empty<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let request = self.request(Method::POST, self.url(path)?)?.header(IDEMPOTENCY_KEY, self.intention());
        self.read(path, request).await
    }

    /// `POST` of what does the same however often it comes.
    pub async fn post_plain<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.read(path, self.request(Method::POST, self.url(path)?)?).await
    }

    /// `POST` of what needs no key: the customer's side of a credentials link.
    pub async fn post_public<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<T, Error> {
        self.read(path, self.http.post(self.url(path)?).json(body)).await
    }

    /// `DELETE`, answered with an operation.
    pub async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        self.read(path, self.request(Method::DELETE, self.url(path)?)?.header(IDEMPOTENCY_KEY, self.intention())).await
    }

    /// `PUT` of a file's bytes.
    pub async fn put_file<T: DeserializeOwned>(&self, path: &str, length: u64, body: Body) -> Result<T, Error> {
        let request = self.request(Method::PUT, self.url(path)?)?;
        let request = request.header("content-type", "application/octet-stream").header("content-length", length);
        self.read(path, request.body(body)).await
    }

    /// The page behind `path` and all that follow it, up to `limit` rows.
    pub async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        filter: &[(&str, Option<String>)],
        limit: usize,
    ) -> Result<Vec<T>, Error> {
        let mut rows = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query: Vec<(&str, String)> =
                filter.iter().filter_map(|(name, value)| Some((*name, value.clone()?))).collect();
            query.push(("limit", (limit - rows.len()).clamp(1, PAGE_MAX).to_string()));
            if let Some(cursor) = cursor {
                query.push(("cursor", cursor));
            }
            let page: Page<T> = self.get(path, &query).await?;
            rows.extend(page.items);
            cursor = page.next_cursor;
            if cursor.is_none() || rows.len() >= limit {
                rows.truncate(limit);
                return Ok(rows);
            }
        }
    }

    fn url(&self, path: &str) -> Result<Url, Error> {
        self.base
            .join(path.trim_start_matches('/'))
            .map_err(|error| Error::Usage(format!("--url cannot be used: {error}")))
    }

    fn request(&self, method: Method, url: Url) -> Result<RequestBuilder, Error> {
        let key = self.key.as_ref().ok_or_else(|| {
            let file = self.key_file.display();
            Error::Usage(format!(
                "no API key in {file}: make one with `nemordp-control-plane key create`, or give --key-file"
            ))
        })?;
        Ok(self.http.request(method, url).bearer_auth(key.expose_secret()))
    }

    fn intention(&self) -> String {
        self.idempotency_key
            .clone()
            .unwrap_or_else(|| nemordp_types::id::uuid_v7(&SystemClock, &SystemEntropy).to_string())
    }

    async fn read<T: DeserializeOwned>(&self, what: &str, request: RequestBuilder) -> Result<T, Error> {
        let response = self.send(what, request).await?;
        let empty = response.status() == StatusCode::NO_CONTENT || response.content_length() == Some(0);
        let bytes = response.bytes().await.map_err(|error| broken(what, &error))?;
        let text: &[u8] = if empty { b"null" } else { &bytes };
        serde_json::from_slice(text).map_err(|error| broken(what, &error))
    }

    async fn send(&self, what: &str, request: RequestBuilder) -> Result<Response, Error> {
        let response = request
            .send()
            .await
            .map_err(|error| Error::Unreachable { url: self.base.to_string(), why: innermost(&error) })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let bytes = response.bytes().await.map_err(|error| broken(what, &error))?;
        let problem = serde_json::from_slice::<Problem>(&bytes).map_err(|_| Error::Answer {
            what: what.to_owned(),
            why: format!("{status} without a problem document"),
        })?;
        Err(Error::Refused(Box::new(problem)))
    }
}

/// Rows that the API gives in one page at most.
const PAGE_MAX: usize = 200;

#[derive(serde::Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

fn broken(what: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Answer { what: what.to_owned(), why: error.to_string() }
}

fn unreadable(file: &std::path::Path, error: &dyn std::fmt::Display) -> Error {
    Error::File { path: file.display().to_string(), why: error.to_string() }
}

/// The cause beneath all wrappers: "connection refused" says more than "error sending request".
fn innermost(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
