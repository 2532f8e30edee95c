//! The configuration files of control plane and agent.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use nemordp_types::node::Acceleration;

use super::{Mode, Record, Result, Trial, TrialError};
use crate::lab::HostNumber;

/// Where everything listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// The machine's end of the network to the node: the control plane's gRPC.
    pub machine: Ipv4Addr,
    /// HTTP API, on loopback.
    pub http: u16,
    /// The control plane's gRPC.
    pub grpc: u16,
    /// The control plane's metrics, on loopback.
    pub metrics: u16,
    /// The agent's gRPC.
    pub agent: u16,
    /// The agent's metrics.
    pub agent_metrics: u16,
}

/// The node that the trial makes.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its public address.
    pub address: Ipv4Addr,
    /// A folder of its own.
    pub data: PathBuf,
    /// How guests are executed.
    pub acceleration: Acceleration,
}

impl Trial {
    /// Chooses free ports once, and remembers them.
    pub(super) fn addresses(&self, record: &mut Record) -> Result<Addresses> {
        let machine = match &self.programs {
            super::Programs::InLab(lab) => lab.machine_address()?,
            super::Programs::Own { .. } => Ipv4Addr::LOCALHOST,
        };
        if record.ports.len() != 5 {
            record.ports = free_ports(5)?;
            record.save()?;
        }
        let port = |index: usize| record.ports.get(index).copied().unwrap_or_default();
        Ok(Addresses {
            machine,
            http: port(0),
            grpc: port(1),
            metrics: port(2),
            agent: port(3),
            agent_metrics: port(4),
        })
    }

    pub(super) fn control_plane_config(&self, addresses: &Addresses, node: &Node) -> String {
        let slow = match node.acceleration {
            Acceleration::Tcg => "true",
            Acceleration::Kvm | Acceleration::Simulated => "false",
        };
        let (http, grpc, metrics, machine) = (addresses.http, addresses.grpc, addresses.metrics, addresses.machine);
        format!(
            r#"data_dir = "{data}"
regions = ["lab"]

[http]
listen = "127.0.0.1:{http}"
public_url = "http://127.0.0.1:{http}/"

[grpc]
listen = "{machine}:{grpc}"

[metrics]
listen = "127.0.0.1:{metrics}"

[proof]
slow_guests = {slow}

[nodes]
heartbeat_seconds = 2
suspect_after_seconds = 15
lost_after_seconds = 60
"#,
            data = self.dir.join("control-plane").display(),
        )
    }

    /// What guests of the node never reach: the control plane, and the other nodes of the lab.
    fn closed_destinations(&self, addresses: &Addresses) -> Result<String> {
        let super::Programs::InLab(lab) = &self.programs else { return Ok(String::new()) };
        let mut closed = vec![format!("\"{}/32\"", addresses.machine)];
        for other in lab.hosts()?.iter().filter(|host| host.number() != HostNumber::FIRST) {
            closed.push(format!("\"{}/32\"", other.address()?));
        }
        Ok(format!("closed_destinations = [{}]\n", closed.join(", ")))
    }

    pub(super) fn agent_config(&self, addresses: &Addresses, node: &Node) -> Result<String> {
        let closed = self.closed_destinations(addresses)?;
        let (machine, grpc, agent, metrics) =
            (addresses.machine, addresses.grpc, addresses.agent, addresses.agent_metrics);
        let (address, data) = (node.address, node.data.display());
        let host = match self.mode {
            Mode::Real => libvirt_tables(node),
            Mode::Simulated => simulated_tables(),
        };
        Ok(format!(
            r#"data_dir = "{data}/agent"
control_plane = "{machine}:{grpc}"
listen = "{address}:{agent}"
node_name = "lab-node1"
ticket_file = "{data}/ticket"
log_format = "text"
# Nobody sits before the trial's desktops: there is nothing to announce before a session ends.
announce_seconds = 0

[metrics]
listen = "{address}:{metrics}"

[network]
private_subnet = "10.64.1.0/24"
public_address = "{address}"
first_port = 20000
last_port = 20099
{closed}{host}"#
        ))
    }
}

fn libvirt_tables(node: &Node) -> String {
    let acceleration = match node.acceleration {
        Acceleration::Kvm => "kvm",
        Acceleration::Tcg | Acceleration::Simulated => "tcg",
    };
    let pool = pool(&node.data);
    format!(
        r#"
[host]
kind = "libvirt"

[libvirt]
uri = "qemu:///system"
acceleration = "{acceleration}"
pools = [{{ storage_class = "nvme", path = "{}" }}]
reserve_memory_mib = 1024
"#,
        pool.display()
    )
}

fn simulated_tables() -> String {
    r#"
[host]
kind = "sim"

[sim]
vcpu = 16
memory_mib = 65536
pools = [{ storage_class = "nvme", size_gib = 1000 }]
boot_delay_ms = 1500
clone_delay_ms = 200
rdp = true

[[gpu]]
model = "rtx4000"
address = "0000:01:00.0"

[[gpu]]
model = "rtx4000"
address = "0000:02:00.0"
"#
    .to_owned()
}

/// The folder of the node's one pool.
pub(super) fn pool(data: &Path) -> PathBuf {
    data.join("pool")
}

/// Ports that nobody listens at now, all asked for before one is given back, so that they differ.
fn free_ports(count: usize) -> Result<Vec<u16>> {
    let failed = |source| TrialError::File { path: PathBuf::from("a free port on loopback"), source };
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<_>>().map_err(failed)?;
    listeners.iter().map(|listener| listener.local_addr().map(|address| address.port()).map_err(failed)).collect()
}
