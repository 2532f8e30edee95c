//! The agent's configuration: TOML, overlaid by the environment, checked once; nothing else reads either.
//!
//! Environment variables begin with `NEMORDP_AGENT_`; a double underscore goes one table deeper
//! (`NEMORDP_AGENT_NETWORK__BRIDGE=br-desks`). Secrets never stand here, only paths of files that hold them.

mod gpu;
mod host;
mod text;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Toml};
use nemordp_types::{Failure, Reason};
use serde::Deserialize;

pub use gpu::GpuConfig;
pub use host::{
    FaultCall, FaultConfig, FaultEffect, HostConfig, HostKind, LibvirtAcceleration, LibvirtConfig, LibvirtPool,
    NetworkConfig, SimConfig, SimPool,
};
pub use text::ControlPlaneAddress;

/// Prefix of the environment variables that overlay the file.
pub const ENV_PREFIX: &str = "NEMORDP_AGENT_";

/// Everything that an operator decides about one agent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where identity, journal, templates (sim) and the revocation list lie; only the agent may read it.
    pub data_dir: PathBuf,
    /// Host name or address, and port, of the control plane's gRPC.
    pub control_plane: ControlPlaneAddress,
    /// Where the agent serves the control plane.
    pub listen: SocketAddr,
    /// Where the control plane reaches the agent; the bound `listen` address when absent.
    #[serde(default)]
    pub advertise: Option<SocketAddr>,
    /// How operators call the machine.
    pub node_name: String,
    /// File with the enrollment ticket; needed until the node is enrolled, and again when its certificate expired.
    #[serde(default)]
    pub ticket_file: Option<PathBuf>,
    /// How log lines look.
    #[serde(default)]
    pub log_format: LogFormat,
    /// How long a guest may take from its start to an answering RDP server.
    #[serde(default = "default_boot_timeout")]
    pub boot_timeout_seconds: u64,
    /// How long a guest may take to shut down before its power is cut.
    #[serde(default = "default_shutdown_timeout")]
    pub shutdown_timeout_seconds: u64,
    /// How long a user may read that the sessions end before they do; 0: no time.
    #[serde(default = "default_announce")]
    pub announce_seconds: u64,
    /// When instances that ran before a reboot of the host start again.
    #[serde(default)]
    pub start_after_reboot: StartAfterReboot,
    /// What instances use is reported in stretches of this length; one that divides an hour tells each hour's use.
    #[serde(default = "default_usage")]
    pub usage_seconds: u64,
    /// Metrics for Prometheus; not served when absent.
    #[serde(default)]
    pub metrics: Option<MetricsConfig>,
    /// Where traces go.
    #[serde(default)]
    pub telemetry: nemordp_trace::Settings,
    /// What lies beneath the agent.
    pub host: HostConfig,
    /// The guests' network and the node's public endpoint.
    pub network: NetworkConfig,
    /// libvirt's part; needed with `host.kind = "libvirt"`.
    #[serde(default)]
    pub libvirt: Option<LibvirtConfig>,
    /// The simulated hypervisor's part.
    #[serde(default)]
    pub sim: SimConfig,
    /// GPUs that instances may have, one table `[[gpu]]` each.
    #[serde(default, rename = "gpu")]
    pub gpus: Vec<GpuConfig>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// When instances that ran before a reboot of the host start again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAfterReboot {
    /// After the control plane has answered one heartbeat, so that what was moved away meanwhile stays off.
    #[default]
    AfterHeartbeat,
    /// At once; for nodes whose instances are never moved.
    AtOnce,
}

/// Where metrics are served.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsConfig {
    /// Plain HTTP on a loopback address; anywhere else HTTPS with client certificates.
    pub listen: SocketAddr,
}

const fn default_boot_timeout() -> u64 {
    300
}

const fn default_usage() -> u64 {
    900
}

const fn default_announce() -> u64 {
    10
}

const fn default_shutdown_timeout() -> u64 {
    90
}

impl Config {
    /// Reads the file, overlays the environment, checks everything.
    ///
    /// # Errors
    /// `invalid_argument` with the field at fault and what to write instead.
    pub fn load(file: &Path) -> Result<Self, Failure> {
        if !file.is_file() {
            return Err(Failure::field(
                "config",
                format!("{} is not a file: give the configuration with --config", file.display()),
            ));
        }
        Self::from_figment(Figment::from(Toml::file_exact(file)).merge(Env::prefixed(ENV_PREFIX).split("__")))
    }

    /// The same from text, without the environment.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(text: &str) -> Result<Self, Failure> {
        Self::from_figment(Figment::from(Toml::string(text)))
    }

    fn from_figment(figment: Figment) -> Result<Self, Failure> {
        let config: Self = figment.extract().map_err(refused)?;
        config.check()?;
        Ok(config)
    }

    /// How long a guest may take from its start to an answering RDP server.
    #[must_use]
    pub const fn boot_timeout(&self) -> Duration {
        Duration::from_secs(self.boot_timeout_seconds)
    }

    /// How long a guest may take to shut down before its power is cut.
    #[must_use]
    pub const fn shutdown_timeout(&self) -> Duration {
        Duration::from_secs(self.shutdown_timeout_seconds)
    }

    /// How long a user may read that the sessions end.
    #[must_use]
    pub const fn announce_pause(&self) -> Duration {
        Duration::from_secs(self.announce_seconds)
    }

    /// How long a stretch of reported usage is.
    #[must_use]
    pub const fn usage_stretch(&self) -> Duration {
        Duration::from_secs(self.usage_seconds)
    }

    fn check(&self) -> Result<(), Failure> {
        if !self.data_dir.is_absolute() {
            return Err(Failure::field("data_dir", "use an absolute path, like /var/lib/nemordp-agent"));
        }
        if self.node_name.trim().is_empty() || self.node_name.len() > 63 {
            return Err(Failure::field("node_name", "give the machine a name of 1 to 63 characters"));
        }
        if self.listen.ip().is_unspecified() && self.advertise.is_none() {
            return Err(Failure::field(
                "advertise",
                "name the address and port at which the control plane reaches this agent, because listen is a wildcard",
            ));
        }
        if let Some(advertise) = self.advertise
            && (advertise.ip().is_unspecified() || advertise.port() == 0)
        {
            return Err(Failure::field("advertise", "use an address and port that the control plane can connect to"));
        }
        for (field, seconds) in [
            ("boot_timeout_seconds", self.boot_timeout_seconds),
            ("shutdown_timeout_seconds", self.shutdown_timeout_seconds),
            ("usage_seconds", self.usage_seconds),
        ] {
            if !(1..=3_600).contains(&seconds) {
                return Err(Failure::field(field, "use 1 to 3600 seconds"));
            }
        }
        if self.announce_seconds > 60 {
            return Err(Failure::field("announce_seconds", "use 0 to 60 seconds: whoever resets a password waits"));
        }
        self.telemetry.check().map_err(|f| f.within("telemetry"))?;
        self.network.check().map_err(|f| f.within("network"))?;
        gpu::check(&self.gpus).map_err(|f| f.within("gpu"))?;
        match (self.host.kind, &self.libvirt) {
            (HostKind::Libvirt, Some(libvirt)) => libvirt.check().map_err(|f| f.within("libvirt")),
            (HostKind::Libvirt, None) => {
                Err(Failure::field("libvirt", "add the table [libvirt], or set host.kind = \"sim\""))
            }
            (HostKind::Sim, _) => self.sim.check(&self.network).map_err(|f| f.within("sim")),
        }
    }
}

/// Figment's error as a failure that names the field and what to do.
fn refused(error: figment::Error) -> Failure {
    let field = error.path.join(".");
    let place = error.metadata.as_ref().and_then(|m| m.source.as_ref()).map(|s| format!(" (from {s})"));
    let (name, message) = if let figment::error::Kind::UnknownField(name, known) = &error.kind {
        (join(&field, name), format!("unknown key `{name}`: use one of {}, or remove it", known.join(", ")))
    } else if let figment::error::Kind::MissingField(name) = &error.kind {
        (join(&field, name), format!("`{name}` is missing: add it"))
    } else {
        (field, format!("cannot be used: {}", error.kind))
    };
    Failure::new(Reason::InvalidArgument, format!("{message}{}", place.unwrap_or_default())).with_field(name)
}

fn join(parent: &str, name: &str) -> String {
    match parent.rsplit('.').next() {
        _ if parent.is_empty() => name.to_owned(),
        Some(last) if last == name => parent.to_owned(),
        Some(_) | None => format!("{parent}.{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIM: &str = r#"
        data_dir = "/var/lib/nemordp-agent"
        control_plane = "control.example.net:7443"
        listen = "127.0.0.1:0"
        node_name = "node-1"
        host.kind = "sim"
        [network]
        private_subnet = "10.64.0.0/24"
        public_address = "127.0.0.1"
        first_port = 20000
        last_port = 20999
    "#;

    fn refusal(text: &str) -> Failure {
        Config::from_toml(text).unwrap_err()
    }

    #[test]
    fn a_short_sim_configuration_is_enough() {
        let config = Config::from_toml(SIM).unwrap();
        assert_eq!(config.boot_timeout(), Duration::from_secs(300));
        assert_eq!(config.start_after_reboot, StartAfterReboot::AfterHeartbeat);
        assert!(config.metrics.is_none());
    }

    #[test]
    fn unknown_keys_are_refused_at_every_depth() {
        assert_eq!(refusal(&format!("colour = 1\n{SIM}")).field.as_deref(), Some("colour"));
        assert_eq!(refusal(&format!("{SIM}\n[telemetry]\ncolour = 1")).field.as_deref(), Some("telemetry.colour"));
        let failure = refusal(&format!("{SIM}\nbridgee = \"br0\""));
        assert_eq!(failure.field.as_deref(), Some("network.bridgee"));
        assert!(failure.message.contains("bridge"), "{}", failure.message);
    }

    #[test]
    fn every_bad_value_names_its_field() {
        for (from, to, field) in [
            ("\"/var/lib/nemordp-agent\"", "\"relative\"", "data_dir"),
            ("\"127.0.0.1:0\"", "\"0.0.0.0:7444\"", "advertise"),
            ("\"127.0.0.1:0\"", "\"nowhere\"", "listen"),
            ("\"control.example.net:7443\"", "\"control.example.net\"", "control_plane"),
            ("\"node-1\"", "\"\"", "node_name"),
            ("10.64.0.0/24", "10.64.0.0/8", "network.private_subnet"),
            ("last_port = 20999", "last_port = 19999", "network.last_port"),
            ("\"sim\"", "\"libvirt\"", "libvirt"),
            ("host.kind = \"sim\"", "", "host"),
            ("host.kind", "announce_seconds = 61\n        host.kind", "announce_seconds"),
            ("host.kind", "telemetry.otlp_endpoint = \"here\"\nhost.kind", "telemetry.otlp_endpoint"),
            ("\"127.0.0.1\"\n", "\"192.0.2.1\"\n", "sim.rdp"),
        ] {
            let text = SIM.replace(from, to);
            assert_ne!(text, SIM, "{from}");
            assert_eq!(refusal(&text).field.as_deref(), Some(field), "{:?}", refusal(&text));
        }
    }

    #[test]
    fn gpus_are_checked_one_by_one() {
        let with = |gpus: &str| format!("{SIM}\n{gpus}");
        let gpu = |model: &str, address: &str| format!("[[gpu]]\nmodel = \"{model}\"\naddress = \"{address}\"\n");
        let (first, second) = (gpu("rtx4000", "0000:01:00.0"), gpu("rtx4000", "0000:02:00.0"));
        let config = Config::from_toml(&with(&format!("{first}{second}"))).unwrap();
        assert_eq!(config.gpus[1].address.to_string(), "0000:02:00.0");
        for (bad, field, fix) in [
            (gpu("RTX 4000", "0000:01:00.0"), "gpu.0.model", "like rtx4000"),
            (gpu("rtx4000", "01:00.0"), "gpu.0.address", "lspci -D"),
            (format!("{first}{first}"), "gpu.address", "stands twice"),
            ("[[gpu]]\nmodel = \"rtx4000\"\n".to_owned(), "gpu.0.address", "missing"),
            (format!("{first}bus = 1\n"), "gpu.0.bus", "unknown key"),
        ] {
            let failure = refusal(&with(&bad));
            assert_eq!(failure.field.as_deref(), Some(field), "{failure:?}");
            assert!(failure.message.contains(fix), "{failure:?}");
        }
    }

    #[test]
    fn a_missing_file_names_the_switch() {
        let failure = Config::load(Path::new("/nonexistent/agent.toml")).unwrap_err();
        assert!(failure.message.contains("--config"));
    }
}
