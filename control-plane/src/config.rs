//! The configuration: TOML and environment, read once, refused as a whole when a key is unknown or a value unusable.
//!
//! `NEMORDP_CP_HTTP__LISTEN=127.0.0.1:8080` sets `listen` of the table `http`; the environment wins over the file.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format as _, Toml};
use nemordp_model::{HealthPolicy, Label, Overcommit};
use nemordp_types::{Failure, RegionName};
use serde::Deserialize;
use url::Url;

/// What stands before every environment variable.
const ENVIRONMENT: &str = "NEMORDP_CP_";

/// Everything that an operator decides.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Folder of everything that the control plane keeps; absolute.
    pub data_dir: PathBuf,
    /// Path of a SQLite database, or `postgres://…`; `store.sqlite` in the data folder when absent.
    #[serde(default)]
    pub store: Option<String>,
    /// Name of the tenant whose keys are made without naming one.
    #[serde(default = "default_tenant")]
    pub default_tenant: String,
    /// Regions that orders and tickets may name before a node stands there; those of the nodes always count.
    #[serde(default)]
    pub regions: Vec<RegionName>,
    /// The API.
    #[serde(default)]
    pub http: Http,
    /// What agents connect to.
    #[serde(default)]
    pub grpc: Grpc,
    /// What Prometheus scrapes.
    #[serde(default)]
    pub metrics: Metrics,
    /// Where traces go.
    #[serde(default)]
    pub telemetry: nemordp_trace::Settings,
    /// How much more is sold than a node has, unless its ticket says otherwise.
    #[serde(default)]
    pub overcommit: Overcommit,
    /// The login proof.
    #[serde(default)]
    pub proof: Proof,
    /// Life signs of nodes and their certificates.
    #[serde(default)]
    pub nodes: Nodes,
    /// The link that shows a password once.
    #[serde(default)]
    pub credentials: Credentials,
    /// How this replica carries intentions on.
    #[serde(default)]
    pub work: Work,
    /// Deletion.
    #[serde(default)]
    pub instances: Instances,
}

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

/// The agents' listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grpc {
    /// Address and port.
    pub listen: SocketAddr,
    /// Names and addresses that stand in the server's certificate beside its identity.
    pub names: Vec<String>,
}

/// The metrics' listener: plain on loopback; elsewhere HTTPS with our CA, for the roles monitoring and control-plane.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Address and port.
    pub listen: SocketAddr,
    /// Demand a certificate on loopback too, where others than Prometheus log in.
    pub require_certificate: bool,
}

/// The login proof.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proof {
    /// For one login; 20 s, or 60 s with slow guests, when absent.
    pub deadline_seconds: Option<u64>,
    /// Guests run without hardware virtualisation: everything inside takes several times as long.
    pub slow_guests: bool,
}

/// Life signs of nodes and their certificates.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nodes {
    /// Between two heartbeats.
    pub heartbeat_seconds: u32,
    /// Silence after which no new instance goes to a node.
    pub suspect_after_seconds: u64,
    /// Silence after which an operator is called.
    pub lost_after_seconds: u64,
    /// How long a node's certificate is good; it is renewed after two thirds.
    pub certificate_days: u32,
    /// How long an enrollment ticket is good, unless it says otherwise.
    pub ticket_minutes: u32,
}

/// What becomes of instances.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Instances {
    /// How long a deleted instance is kept, off and restorable, unless the request says otherwise; 0: it goes at once.
    pub deletion_grace_seconds: u64,
}

/// The link that shows a password once.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Credentials {
    /// How long a link opens.
    pub link_hours: u32,
}

/// How this replica carries intentions on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Work {
    /// How long a lease is held without a sign of life: the time until a dead replica's work is adopted.
    pub lease_milliseconds: u64,
    /// Sagas at the same time.
    pub at_once: u32,
}

fn default_tenant() -> String {
    "default".to_owned()
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

impl Default for Grpc {
    fn default() -> Self {
        Self { listen: loopback(7443), names: Vec::new() }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: loopback(9464), require_certificate: false }
    }
}

#[expect(clippy::derivable_impls, reason = "the defaults of the tables stand together")]
impl Default for Proof {
    fn default() -> Self {
        Self { deadline_seconds: None, slow_guests: false }
    }
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            heartbeat_seconds: 10,
            suspect_after_seconds: 30,
            lost_after_seconds: 180,
            certificate_days: 30,
            ticket_minutes: 60,
        }
    }
}

impl Default for Work {
    fn default() -> Self {
        Self { lease_milliseconds: 6_000, at_once: 64 }
    }
}

impl Default for Credentials {
    fn default() -> Self {
        Self { link_hours: 72 }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Config {
    /// Reads a file and the environment.
    ///
    /// # Errors
    /// Names the key that is unknown, missing or unusable, and the fix.
    pub fn load(file: &Path) -> Result<Self, Failure> {
        if !file.is_file() {
            return Err(Failure::field("config", format!("{} is no file: name it with --config", file.display())));
        }
        Self::extract(Figment::from(Toml::file_exact(file)).merge(Env::prefixed(ENVIRONMENT).split("__")))
    }

    /// Reads TOML text alone.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(text: &str) -> Result<Self, Failure> {
        Self::extract(Figment::from(Toml::string(text)))
    }

    fn extract(figment: Figment) -> Result<Self, Failure> {
        figment.extract::<Self>().map_err(unreadable)?.check()
    }

    /// Refuses what cannot be used together.
    ///
    /// # Errors
    /// Names the key and the fix.
    pub fn check(self) -> Result<Self, Failure> {
        if !self.data_dir.is_absolute() {
            return Err(Failure::field("data_dir", "use an absolute path, like /var/lib/nemordp-control-plane"));
        }
        Label::new(self.default_tenant.clone(), "default_tenant")?;
        self.overcommit.check().map_err(|failure| failure.within("overcommit"))?;
        self.http.check().map_err(|failure| failure.within("http"))?;
        self.grpc.check().map_err(|failure| failure.within("grpc"))?;
        self.nodes.check().map_err(|failure| failure.within("nodes"))?;
        self.telemetry.check().map_err(|failure| failure.within("telemetry"))?;
        within("proof.deadline_seconds", self.proof.deadline().as_secs(), 1, 600)?;
        let grace = self.instances.deletion_grace_seconds;
        within("instances.deletion_grace_seconds", grace, 0, crate::app::GRACE_MAX.as_secs())?;
        within("credentials.link_hours", u64::from(self.credentials.link_hours), 1, 24 * 365)?;
        within("work.lease_milliseconds", self.work.lease_milliseconds, 500, 600_000)?;
        within("work.at_once", u64::from(self.work.at_once), 1, 4_096)?;
        Ok(self)
    }

    /// Where the store is.
    #[must_use]
    pub fn store_url(&self) -> String {
        self.store.clone().unwrap_or_else(|| self.data_dir.join("store.sqlite").display().to_string())
    }

    /// Where the CA and the control plane's own certificate lie.
    #[must_use]
    pub fn pki_dir(&self) -> PathBuf {
        self.data_dir.join("pki")
    }

    /// Where the files of templates lie.
    #[must_use]
    pub fn template_dir(&self) -> PathBuf {
        self.data_dir.join("templates")
    }

    /// The file with the keys that seal passwords.
    #[must_use]
    pub fn seal_key_file(&self) -> PathBuf {
        self.data_dir.join("seal.key")
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

    fn check(&self) -> Result<(), Failure> {
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

impl Grpc {
    fn check(&self) -> Result<(), Failure> {
        for name in &self.names {
            let dns = || {
                let label =
                    |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                name.len() <= 253 && name.split('.').all(label)
            };
            if name.parse::<IpAddr>().is_err() && !dns() {
                return Err(Failure::field("names", format!("`{name}` is neither a DNS name nor an address")));
            }
        }
        Ok(())
    }
}

impl Proof {
    /// For one login.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        match self.deadline_seconds {
            Some(seconds) => Duration::from_secs(seconds),
            None if self.slow_guests => Duration::from_secs(60),
            None => Duration::from_secs(20),
        }
    }
}

impl Nodes {
    /// When silence means something.
    #[must_use]
    pub const fn health(&self) -> HealthPolicy {
        HealthPolicy {
            suspect_after: Duration::from_secs(self.suspect_after_seconds),
            lost_after: Duration::from_secs(self.lost_after_seconds),
        }
    }

    /// How long a node's certificate is good.
    #[must_use]
    pub const fn certificate_lifetime(&self) -> Duration {
        Duration::from_secs(self.certificate_days as u64 * 86_400)
    }

    fn check(&self) -> Result<(), Failure> {
        within("heartbeat_seconds", u64::from(self.heartbeat_seconds), 1, 300)?;
        if self.suspect_after_seconds <= u64::from(self.heartbeat_seconds) {
            return Err(Failure::field("suspect_after_seconds", "use more than heartbeat_seconds"));
        }
        self.health().check().map_err(|failure| failure.with_field("lost_after_seconds"))?;
        within("certificate_days", u64::from(self.certificate_days), 1, 825)?;
        within("ticket_minutes", u64::from(self.ticket_minutes), 1, 10_080)
    }
}

fn within(field: &str, value: u64, least: u64, most: u64) -> Result<(), Failure> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Failure::field(field, format!("use {least} to {most}")))
}

fn unreadable(error: figment::Error) -> Failure {
    let field = if error.path.is_empty() { "config".to_owned() } else { error.path.join(".") };
    Failure::field(field, error.kind.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(toml: &str) -> String {
        Config::from_toml(&format!("data_dir = \"/tmp/x\"\n{toml}")).unwrap_err().field.unwrap()
    }

    #[test]
    fn the_least_configuration_serves_on_loopback() {
        let config = Config::from_toml("data_dir = \"/var/lib/x\"").unwrap();
        assert!(config.http.listen.ip().is_loopback());
        assert_eq!(config.store_url(), "/var/lib/x/store.sqlite");
        assert_eq!(config.proof.deadline(), Duration::from_secs(20));
        let slow = Config::from_toml("data_dir = \"/x\"\n[proof]\nslow_guests = true").unwrap();
        assert_eq!(slow.proof.deadline(), Duration::from_secs(60));
    }

    #[test]
    fn plain_http_off_loopback_needs_a_stated_proxy() {
        assert_eq!(refused("[http]\nlisten = \"0.0.0.0:80\""), "http.listen");
        assert_eq!(refused("[http]\nlisten = \"0.0.0.0:80\"\nbehind_proxy = true"), "http.public_url");
        assert_eq!(
            refused("[http]\nlisten = \"0.0.0.0:80\"\nbehind_proxy = true\npublic_url = \"http://cloud.example\""),
            "http.public_url"
        );
        let proxied = "data_dir = \"/x\"\n[http]\nlisten = \"0.0.0.0:80\"\nbehind_proxy = true\n\
                       public_url = \"https://cloud.example\"";
        assert!(Config::from_toml(proxied).is_ok());
    }

    #[test]
    fn every_bad_value_is_named() {
        assert_eq!(refused("[http]\ncertificate_file = \"/a\""), "http.certificate_file");
        assert_eq!(refused("[grpc]\nnames = [\"a b\"]"), "grpc.names");
        assert_eq!(refused("[nodes]\nsuspect_after_seconds = 5"), "nodes.suspect_after_seconds");
        assert_eq!(refused("[nodes]\nlost_after_seconds = 30"), "nodes.lost_after_seconds");
        assert_eq!(refused("[overcommit]\nvcpu_percent = 0\nmemory_percent = 100"), "overcommit.vcpu_percent");
        assert_eq!(refused("[http]\nlisten = 7"), "http.listen");
        assert_eq!(refused("[telemetry]\notlp_endpoint = \"collector\""), "telemetry.otlp_endpoint");
        assert_eq!(refused("[telemetry]\nsampling_ratio = 2"), "telemetry.sampling_ratio");
        assert_eq!(Config::from_toml("data_dir = \"x\"").unwrap_err().field.as_deref(), Some("data_dir"));
    }

    #[test]
    fn unknown_keys_are_refused_at_every_level() {
        for toml in ["colour = 1", "[http]\ncolour = 1", "[nodes]\ncolour = 1", "[telemetry]\ncolour = 1"] {
            let failure = Config::from_toml(&format!("data_dir = \"/tmp/x\"\n{toml}")).unwrap_err();
            assert!(failure.message.contains("colour"), "{failure}");
        }
    }
}
