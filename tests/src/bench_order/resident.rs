//! What the agent costs its node: memory, and processor time for a scrape of its metrics.

use std::path::Path;
use std::time::{Duration, Instant};

use super::file_error;
use super::guest::answer;
use crate::lab::Host;
use crate::trial::{Record, Result};

const SCRAPES: u32 = 20;

/// The machine that a table was made on.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Name of its processor.
    pub processor: String,
    /// Processors.
    pub processors: usize,
}

impl Machine {
    pub(super) fn read() -> Self {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            processor: name.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }
}

/// One look at the agent's process.
#[derive(Debug, Clone, Copy)]
pub struct Agent {
    /// Resident memory in KiB.
    pub resident_kib: u64,
    /// Mean time of a scrape.
    pub scrape: Duration,
    /// The agent's mean processor time for one.
    pub scrape_processor: Duration,
    /// Length of an answer in bytes.
    pub scrape_bytes: usize,
}

impl Agent {
    /// Reads its memory, then scrapes it a few times as Prometheus does.
    pub fn measure(dir: &Path, node: &Host) -> Result<Self> {
        let processes = node.processes()?;
        let agent = processes.iter().find(|facts| facts.name.starts_with("nemordp-agent"));
        let pid = agent.ok_or_else(|| answer("the agent", &"it does not run"))?.process.pid;
        let resident_kib = resident_kib(pid).ok_or_else(|| answer("the agent's memory", &"it cannot be read"))?;
        let address = (node.address()?, metrics_port(dir)?);
        let (scrape, processor, scrape_bytes) = scrape(dir, address.into(), pid)?;
        Ok(Self { resident_kib, scrape, scrape_processor: processor, scrape_bytes })
    }
}

fn metrics_port(dir: &Path) -> Result<u16> {
    Record::read(dir)?.ports.get(4).copied().ok_or_else(|| answer("trial.json", &"it has no ports"))
}

fn scrape(dir: &Path, address: std::net::SocketAddr, pid: i32) -> Result<(Duration, Duration, usize)> {
    let client = client(dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| answer("tokio", &error))?;
    let node = node_name(dir)?;
    let url = format!("https://{node}.node.nemordp.internal:{}/metrics", address.port());
    let client = client
        .resolve(&format!("{node}.node.nemordp.internal"), address)
        .build()
        .map_err(|error| answer("the scrape", &error))?;
    runtime.block_on(async {
        let get = || async {
            let response = client.get(&url).send().await.and_then(reqwest::Response::error_for_status);
            let text = match response {
                Ok(response) => response.text().await,
                Err(error) => Err(error),
            };
            text.map_err(|error| answer("the scrape", &format!("{error:?}")))
        };
        // The first one makes the connection.
        let bytes = get().await?.len();
        let (before, began) = (processor_seconds(pid).unwrap_or_default(), Instant::now());
        for _ in 0..SCRAPES {
            get().await?;
        }
        let took = began.elapsed() / SCRAPES;
        let spent = processor_seconds(pid).unwrap_or_default() - before;
        Ok((took, Duration::from_secs_f64(spent.max(0.0)) / SCRAPES, bytes))
    })
}

/// Identifies itself as the control plane, which may read an agent's metrics.
fn client(dir: &Path) -> Result<reqwest::ClientBuilder> {
    let pki = dir.join("control-plane/pki");
    let read = |name: &str| {
        let path = pki.join(name);
        std::fs::read(&path).map_err(|source| file_error(&path, source))
    };
    let mut identity = read("control-plane.crt")?;
    identity.extend(read("control-plane.key")?);
    let failed = |error: reqwest::Error| answer("a certificate", &error);
    let identity = reqwest::Identity::from_pem(&identity).map_err(failed)?;
    let ca = reqwest::Certificate::from_pem(&read("ca.crt")?).map_err(failed)?;
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Ok(reqwest::Client::builder().identity(identity).tls_certs_only([ca]))
}

fn node_name(dir: &Path) -> Result<String> {
    let nodes = super::cli(dir)?.json(&["node", "list"])?;
    let id = nodes.as_array().and_then(|nodes| nodes.first()).and_then(|node| node.get("id"));
    id.and_then(serde_json::Value::as_str).map(ToOwned::to_owned).ok_or_else(|| answer("node list", &"it is empty"))
}

fn resident_kib(pid: i32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Processor time of a process, in user and kernel mode; seconds.
pub(super) fn processor_seconds(pid: i32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
    #[expect(clippy::cast_precision_loss, reason = "a hundred or a thousand")]
    Some(ticks / per_second as f64)
}
