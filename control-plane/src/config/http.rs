//! The API's listener.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nemordp_types::Failure;
use serde::Deserialize;
use url::Url;

use super::{loopback, within};

/// The API's listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Address and port.
    pub listen: SocketAddr,
    /// The operator's certificate chain (PEM).
    pub certificate_file: Option<PathBuf>,
    /// Its key (PEM).
    pub key_file: Option<PathBuf>,
    /// A reverse proxy ends TLS in front of this listener and sets `X-Forwarded-For`.
    pub behind_proxy: bool,
    /// How customers reach the API; credentials links begin with it.
    pub public_url: Option<Url>,
    /// Largest JSON body.
    pub body_max_bytes: usize,
    /// Largest template file.
    pub upload_max_bytes: u64,
    /// For one request; uploads and streams are exempt.
    pub request_deadline_seconds: u64,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: loopback(8080),
            certificate_file: None,
            key_file: None,
            behind_proxy: false,
            public_url: None,
            body_max_bytes: 64 << 10,
            upload_max_bytes: 128 << 30,
            request_deadline_seconds: 30,
        }
    }
}

impl Http {
    /// How the operator's certificate is found; none for plain HTTP.
    #[must_use]
    pub fn tls_files(&self) -> Option<(&Path, &Path)> {
        self.certificate_file.as_deref().zip(self.key_file.as_deref())
    }

    /// The deadline of an ordinary request.
    #[must_use]
    pub const fn request_deadline(&self) -> Duration {
        Duration::from_secs(self.request_deadline_seconds)
    }

    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.certificate_file.is_some() != self.key_file.is_some() {
            return Err(Failure::field("certificate_file", "name certificate_file and key_file together"));
        }
        if self.behind_proxy && self.public_url.is_none() {
            return Err(Failure::field("public_url", "say how customers reach the proxy, like https://cloud.example"));
        }
        if self.tls_files().is_none() && !self.behind_proxy && !self.listen.ip().is_loopback() {
            return Err(Failure::field(
                "listen",
                "plain HTTP is served on loopback only: name certificate_file and key_file, or state behind_proxy = true",
            ));
        }
        if let Some(url) = &self.public_url {
            self.check_public_url(url)?;
        }
        within("body_max_bytes", self.body_max_bytes as u64, 1_024, 16 << 20)?;
        within("upload_max_bytes", self.upload_max_bytes, 1, 16 << 40)?;
        within("request_deadline_seconds", self.request_deadline_seconds, 1, 600)
    }

    fn check_public_url(&self, url: &Url) -> Result<(), Failure> {
        let plain = url.scheme() == "http" && self.tls_files().is_none() && !self.behind_proxy;
        if url.scheme() != "https" && !plain {
            return Err(Failure::field("public_url", "use https://: passwords are shown behind it"));
        }
        if url.path() != "/" || url.query().is_some() || url.fragment().is_some() || !url.username().is_empty() {
            return Err(Failure::field("public_url", "use scheme, host and port only, like https://cloud.example"));
        }
        Ok(())
    }
}
