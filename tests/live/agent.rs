//! The agent dies, the node reboots.

use std::net::SocketAddr;
use std::time::Duration;

use nemordp_tests::lab::{ProcessRef, poll};
use nemordp_tests::trial::{Binaries, Delivered};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::Installation;
use crate::guest::runtime;
use crate::isolation::{domain, in_guest};

pub(crate) const PATIENCE: Duration = Duration::from_secs(600);

fn agent_process(installation: &Installation) -> Option<ProcessRef> {
    let processes = installation.host().processes().unwrap();
    processes.into_iter().find(|facts| facts.name.starts_with("nemordp-agent")).map(|facts| facts.process)
}

pub(crate) fn kill_agent(installation: &Installation) {
    let agent = agent_process(installation).expect("the agent runs");
    assert!(agent.signal(Signal::SIGKILL));
    assert!(agent.wait_gone(PATIENCE));
}

pub(crate) fn start_agent(installation: &Installation) {
    let host = installation.host();
    let config = host.data_dir().join("agent.toml").display().to_string();
    let log = installation.dir.join("logs/agent.log");
    let program = Binaries::beside_this().unwrap().path("nemordp-agent");
    host.spawn(&program, &["run", "--config", &config], &log).unwrap();
}

pub(crate) fn wait_until(what: &str, mut check: impl FnMut() -> bool) {
    let met = poll(PATIENCE, || Ok(check().then_some(())));
    assert!(met.unwrap().is_some(), "waited for {what}");
}

pub(crate) fn boot_id(installation: &Installation, instance: &str) -> String {
    in_guest(&installation.host(), &domain(instance), "cat /proc/sys/kernel/random/boot_id").1
}

pub(crate) fn answers_rdp(endpoint: SocketAddr) -> bool {
    let readiness = runtime().block_on(nemordp_proof::readiness(endpoint, Duration::from_secs(5)));
    matches!(readiness, nemordp_proof::Readiness::Ready)
}

pub(crate) fn node_available(installation: &Installation) -> bool {
    let nodes = installation.cli().json(&["node", "list"]).unwrap_or(Value::Null);
    nodes.as_array().is_some_and(|nodes| nodes.iter().any(|node| node["availability"] == json!("available")))
}

/// The guest does not notice; power can be changed afterwards as before.
pub(crate) fn restart_leaves_the_instance_undisturbed(installation: &Installation, desktop: &Delivered) {
    let before = boot_id(installation, &desktop.instance);
    kill_agent(installation);
    assert!(answers_rdp(desktop.endpoint), "the endpoint works without the agent");
    start_agent(installation);
    wait_until("the instance to be reported", || {
        let shown = installation.cli().json(&["instance", "show", &desktop.instance]).unwrap_or(Value::Null);
        node_available(installation) && shown["power"] == json!("running")
    });
    assert_eq!(boot_id(installation, &desktop.instance), before, "the guest ran on");
    assert!(answers_rdp(desktop.endpoint));
}

const FOREIGN: &str = "<domain type='qemu'><name>foreign</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>\
    <os><type arch='x86_64' machine='q35'>hvm</type></os><devices/></domain>";

/// The order goes on after the agent is back, or is undone; whatever else stands on the node stays.
pub(crate) fn restart_during_an_order_ends_well_and_spares_foreign_domains(installation: &Installation) {
    let host = installation.host();
    let file = host.data_dir().join("foreign.xml");
    std::fs::write(&file, FOREIGN).unwrap();
    host.exec(&["virsh", "--quiet", "define", &file.display().to_string()]).unwrap().success().unwrap();
    let cli = installation.cli();
    let order = ["order", "create", "--plan", "small", "--template", "debian-12-xrdp", "--region", "lab"];
    let order = cli.json(&order).unwrap();
    let id = order["id"].as_str().unwrap().to_owned();
    wait_until("the node to work on the order", || {
        let operation = cli.json(&["operation", "show", order["operation_id"].as_str().unwrap()]).unwrap();
        operation["steps"].as_array().is_some_and(|steps| steps.iter().any(|step| step["state"] == json!("running")))
    });
    kill_agent(installation);
    start_agent(installation);
    let state = || cli.json(&["order", "show", &id]).unwrap()["state"].as_str().unwrap().to_owned();
    wait_until("the order's end", || ["active", "failed"].contains(&state().as_str()));
    let instance = order["instance_id"].as_str().unwrap().to_owned();
    if state() == "active" {
        cli.json(&["instance", "delete", &instance, "--watch"]).unwrap();
    }
    let domains = host.exec(&["virsh", "--quiet", "list", "--all", "--name"]).unwrap().success().unwrap().text();
    assert!(domains.contains("foreign"), "a domain of somebody else is spared: {domains}");
    assert!(!domains.contains(&instance), "what was ordered and deleted is gone: {domains}");
    // The journal keeps the tombstone, which refuses late work; in the pool nothing may be left.
    let pool = host.data_dir().join("pool").display().to_string();
    let files = host.exec(&["find", &pool, "-name", &format!("*{instance}*")]).unwrap();
    assert_eq!(files.success().unwrap().text().trim(), "", "its disk is gone");
    host.exec(&["virsh", "--quiet", "undefine", "foreign"]).unwrap().success().unwrap();
}

/// Namespaces torn down and made again: the agent rebuilds forwarding and starts what should run.
pub(crate) fn endpoint_survives_a_reboot_of_the_node(installation: &Installation, desktop: &Delivered) {
    installation.host().reboot().unwrap();
    start_agent(installation);
    wait_until("the desktop to answer again at its endpoint", || answers_rdp(desktop.endpoint));
    let shown = installation.cli().json(&["instance", "show", &desktop.instance]).unwrap();
    assert_eq!(shown["endpoint_port"], json!(desktop.endpoint.port()));
}
