//! What a node is and offers.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::name::{GpuModel, StorageClass};
use crate::template::TemplateDigest;
use crate::unit::{Bytes, MiB, Vcpu};

/// What the operator wants of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodePolicy {
    /// Takes new instances.
    Active,
    /// Takes no new ones; those it has stay.
    Cordoned,
    /// Cordoned, and its instances move away.
    Draining,
    /// Gone for good; its id is never used again.
    Decommissioned,
}

/// What is known of a node's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeAvailability {
    /// Enrolled, no heartbeat yet.
    Unknown,
    /// Heartbeats arrive.
    Available,
    /// Heartbeats are late.
    Suspect,
    /// No heartbeat for long; it may still run its instances.
    Lost,
    /// Made sure that it cannot act.
    Fenced,
}

/// How guests are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acceleration {
    /// Hardware virtualisation.
    Kvm,
    /// QEMU's own emulation (TCG).
    Tcg,
    /// `host::sim`: no guest at all.
    Simulated,
}

/// One storage pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PoolInventory {
    /// What kind of storage.
    pub storage_class: StorageClass,
    /// Its size.
    pub physical: Bytes,
    /// What the file system says is free now.
    pub free: Bytes,
    /// What the instances' disks may grow to.
    pub reserved: Bytes,
}

/// The GPUs of one model in a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GpuInventory {
    /// Which model.
    pub model: GpuModel,
    /// How many of them instances may have.
    pub count: u32,
}

/// A private IPv4 subnet that guests live in; the node has its first host address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PrivateSubnet {
    /// Network address.
    pub network: Ipv4Addr,
    /// Prefix length, 16 to 29.
    pub prefix: u8,
}

impl PrivateSubnet {
    /// Refuses a prefix outside 16 to 29 and host bits that are set.
    pub fn new(network: Ipv4Addr, prefix: u8) -> Result<Self, Failure> {
        if !(16..=29).contains(&prefix) {
            return Err(Failure::field("private_subnet", "use a prefix length from 16 to 29, like 10.64.0.0/24"));
        }
        if u32::from(network) & (u32::MAX >> prefix) != 0 {
            return Err(Failure::field(
                "private_subnet",
                "use the network address, without host bits, like 10.64.0.0/24",
            ));
        }
        Ok(Self { network, prefix })
    }

    /// The node's own address on the bridge: the guests' gateway and name server.
    #[must_use]
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.network) + 1)
    }

    /// The addresses that guests can have: neither network, gateway nor broadcast.
    pub fn guests(self) -> impl Iterator<Item = Ipv4Addr> {
        let first = u32::from(self.network) + 2;
        let last = u32::from(self.network) | (u32::MAX >> self.prefix);
        (first..last).map(Ipv4Addr::from)
    }

    /// Whether the address is one that a guest can have.
    #[must_use]
    pub fn has_guest(self, address: Ipv4Addr) -> bool {
        let value = u32::from(address);
        value & !(u32::MAX >> self.prefix) == u32::from(self.network)
            && value > u32::from(self.network) + 1
            && value != u32::from(self.network) | (u32::MAX >> self.prefix)
    }
}

impl std::fmt::Display for PrivateSubnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl std::str::FromStr for PrivateSubnet {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let bad = || Failure::field("private_subnet", "use an IPv4 network, like 10.64.0.0/24");
        let (network, prefix) = text.split_once('/').ok_or_else(bad)?;
        Self::new(network.parse().map_err(|_| bad())?, prefix.parse().map_err(|_| bad())?)
    }
}

/// Where the customers of a node's instances connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EndpointPool {
    /// The node's public address.
    pub address: IpAddr,
    /// First forwarded port.
    pub first_port: u16,
    /// Last forwarded port, inclusive.
    pub last_port: u16,
}

/// What a node offers, as its agent reports it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NodeInventory {
    /// Version of the agent.
    pub agent_version: String,
    /// Name and version of what lies beneath: `libvirt 9.0.0 / QEMU 7.2.0`.
    pub hypervisor: String,
    /// How guests are executed.
    pub acceleration: Acceleration,
    /// Processors (threads) of the machine.
    pub vcpu: Vcpu,
    /// Memory of the machine.
    pub memory: MiB,
    /// Memory that instances may have: the machine's, less what the host itself needs.
    pub memory_for_instances: MiB,
    /// Storage.
    pub pools: Vec<PoolInventory>,
    /// Where guests live.
    pub private_subnet: PrivateSubnet,
    /// Where customers connect.
    pub endpoints: EndpointPool,
    /// Templates that lie ready on the node.
    pub templates: Vec<TemplateDigest>,
    /// The host's boot; changes with each reboot.
    pub boot_id: String,
    /// GPUs that are handed through to instances, by model, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<GpuInventory>,
}

/// How loaded a node is now, reported with each heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct NodeLoad {
    /// Share of the last ten seconds in which some task waited for a processor (PSI `some avg10`), percent.
    pub cpu_pressure: f64,
    /// The same for memory.
    pub memory_pressure: f64,
    /// The same for input and output.
    pub io_pressure: f64,
    /// Clones that are under way.
    pub clones: u32,
    /// Share of processor time that the machine's own hypervisor took away since the last look, percent; none where the
    /// kernel does not say.
    #[serde(default)]
    pub steal: Option<f64>,
    /// How long a read or write of the slowest storage pool took since the last look, milliseconds; none where the kernel
    /// does not say.
    #[serde(default)]
    pub disk_latency_ms: Option<f64>,
}

/// What a node is asked to reserve capacity for, added up over its instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Reserved {
    /// Processors.
    pub vcpu: Vcpu,
    /// Memory.
    pub memory: MiB,
    /// Disk, as large as it may grow.
    pub disk: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_gives_its_guests_and_nothing_else() {
        let subnet: PrivateSubnet = "10.64.0.0/29".parse().unwrap();
        let guests: Vec<String> = subnet.guests().map(|a| a.to_string()).collect();
        assert_eq!(guests, ["10.64.0.2", "10.64.0.3", "10.64.0.4", "10.64.0.5", "10.64.0.6"]);
        assert_eq!(subnet.gateway().to_string(), "10.64.0.1");
        assert!(subnet.guests().all(|a| subnet.has_guest(a)));
        for outside in ["10.64.0.0", "10.64.0.1", "10.64.0.7", "10.64.0.8", "10.65.0.2"] {
            assert!(!subnet.has_guest(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn broken_subnets_name_their_field() {
        for bad in ["10.64.0.1/24", "10.64.0.0/8", "10.64.0.0/30", "10.64.0.0", "x/24", "10.64.0.0/x"] {
            assert_eq!(bad.parse::<PrivateSubnet>().unwrap_err().field.as_deref(), Some("private_subnet"), "{bad}");
        }
    }
}
