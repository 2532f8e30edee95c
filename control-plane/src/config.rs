//! The configuration: TOML and environment, read once, refused as a whole when a key is unknown or a value unusable.
//!
//! `NEMORDP_CP_HTTP__LISTEN=127.0.0.1:8080` sets `listen` of the table `http`; the environment wins over the file.

mod grpc;
mod http;
mod metrics;
mod nodes;
mod proof;
mod work;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format as _, Toml};
use nemordp_model::{Label, Overcommit};
use nemordp_types::{Failure, RegionName};
use serde::Deserialize;

pub use grpc::Grpc;
pub use http::Http;
pub use metrics::Metrics;
pub use nodes::Nodes;
pub use proof::Proof;
pub use work::Work;

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

fn default_tenant() -> String {
    "default".to_owned()
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
        self.proof.check().map_err(|failure| failure.within("proof"))?;
        let grace = self.instances.deletion_grace_seconds;
        within("instances.deletion_grace_seconds", grace, 0, crate::app::GRACE_MAX.as_secs())?;
        within("credentials.link_hours", u64::from(self.credentials.link_hours), 1, 24 * 365)?;
        self.work.check().map_err(|failure| failure.within("work"))?;
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
    use std::time::Duration;

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
        assert_eq!(refused("[proof]\nat_once = 0"), "proof.at_once");
        assert_eq!(refused("[work]\nat_once = 5000"), "work.at_once");
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
