//! A real Prometheus reads the metrics of agent and control plane.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nemordp_tests::lab::poll;
use nemordp_tests::trial::{Binaries, Delivered};
use serde_json::Value;

use crate::Installation;
use crate::guest::runtime;

/// Ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[expect(clippy::disallowed_methods, reason = "starts Prometheus and the product's programs, in a test")]
fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(program)
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn start(installation: &Installation, folder: &Path) -> (Server, u16) {
    let certificates = folder.join("monitoring");
    let config = installation.dir.join("control-plane/control-plane.toml");
    let created = command(Binaries::beside_this().unwrap().path("nemordp-control-plane"))
        .args(["monitoring-certificate", "create", "--out"])
        .arg(&certificates)
        .arg("--config")
        .arg(&config)
        .status();
    assert!(created.unwrap().success());
    let ports = installation.ports();
    let address = installation.host().address().unwrap();
    let node = installation.cli().json(&["node", "list"]).unwrap()[0]["id"].as_str().unwrap().to_owned();
    let text = format!(
        r"global:
  scrape_interval: 1s
scrape_configs:
  - job_name: control-plane
    static_configs: [{{targets: ['127.0.0.1:{control_plane}']}}]
  - job_name: agent
    scheme: https
    tls_config:
      ca_file: {certificates}/ca.crt
      cert_file: {certificates}/monitoring.crt
      key_file: {certificates}/monitoring.key
      server_name: {node}.node.nemordp.internal
    static_configs: [{{targets: ['{address}:{agent}']}}]
",
        control_plane = ports[2],
        agent = ports[4],
        certificates = certificates.display(),
    );
    let file = folder.join("prometheus.yml");
    std::fs::write(&file, text).unwrap();
    let port = free_port();
    let child = command("prometheus")
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    (Server(child.unwrap()), port)
}

fn ask(port: u16, path: &str) -> Option<Value> {
    let url = format!("http://127.0.0.1:{port}/api/v1/{path}");
    runtime().block_on(async { reqwest::get(url).await.ok()?.json().await.ok() })
}

/// Both targets are up, every metric of ours has help, and the instance's counters are there.
pub(crate) fn scrapes_agent_and_control_plane(installation: &Installation, desktop: &Delivered) {
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let folder = tempfile::tempdir().unwrap();
    let (_server, port) = start(installation, folder.path());
    let mut last = Value::Null;
    let up = poll(Duration::from_secs(40), || {
        let Some(answer) = ask(port, "targets?state=active") else { return Ok(None) };
        last = answer;
        let targets = last["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
        let all = targets.len() == 2 && targets.iter().all(|target| target["health"] == "up");
        Ok(all.then_some(()))
    });
    assert!(up.unwrap().is_some(), "Prometheus reads both: {last:#}");

    let metadata = ask(port, "metadata").unwrap();
    let metrics = metadata["data"].as_object().unwrap();
    let ours: Vec<&String> = metrics.keys().filter(|name| name.starts_with("nemordp_")).collect();
    assert!(ours.len() > 20, "{ours:?}");
    for name in &ours {
        let help = metrics[*name][0]["help"].as_str().unwrap_or_default();
        assert!(help.len() > 8, "{name} has no help");
    }
    let query =
        format!("query?query=count({{__name__=~\"nemordp_agent_instance_.*\",instance_id=\"{}\"}})", desktop.instance);
    let counted = ask(port, &query).unwrap();
    assert!(counted["data"]["result"][0]["value"][1].as_str().is_some(), "the instance's own counters: {counted:#}");
}
