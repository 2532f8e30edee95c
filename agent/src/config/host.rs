//! The part of the configuration that describes what lies beneath the agent.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use nemordp_types::node::{EndpointPool, PrivateSubnet};
use nemordp_types::{Failure, GiB, MiB, Reason, StorageClass, Vcpu};
use serde::Deserialize;

use super::text::from_text;
use crate::host::network::Ipv4Network;

/// Which host the agent runs on.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostConfig {
    /// What lies beneath.
    pub kind: HostKind,
}

/// What lies beneath the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostKind {
    /// libvirt and QEMU.
    Libvirt,
    /// A simulated hypervisor whose guests answer RDP logins on loopback.
    Sim,
}

/// libvirt's part.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LibvirtConfig {
    /// Connection, like `qemu:///system`.
    pub uri: String,
    /// How guests are executed; found out by booting a kernel, not by looking for `/dev/kvm`.
    pub acceleration: LibvirtAcceleration,
    /// Storage.
    pub pools: Vec<LibvirtPool>,
    /// Memory that instances never get, because the host itself needs it.
    #[serde(default = "default_reserve_memory")]
    pub reserve_memory_mib: MiB,
}

/// How libvirt's guests are executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LibvirtAcceleration {
    /// Hardware virtualisation.
    Kvm,
    /// QEMU's own emulation.
    Tcg,
}

/// One folder on one kind of storage.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LibvirtPool {
    /// What kind of storage it is.
    pub storage_class: StorageClass,
    /// The folder; templates and disks of one pool lie on one file system, so that clones are linked.
    pub path: PathBuf,
}

/// The guests' network and the node's public endpoint.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Name of the routed bridge, at most 15 characters; made by the agent, never attached to the uplink.
    #[serde(default = "default_bridge")]
    pub bridge: String,
    /// Where guests live; the node has its first address.
    #[serde(deserialize_with = "from_text")]
    pub private_subnet: PrivateSubnet,
    /// Where customers connect.
    pub public_address: IpAddr,
    /// First forwarded port.
    pub first_port: u16,
    /// Last forwarded port, inclusive.
    pub last_port: u16,
    /// Name servers that answer the guests' questions; the host's own when empty.
    #[serde(default)]
    pub dns_servers: Vec<Ipv4Addr>,
    /// Networks that guests never reach beside all private ones: the other nodes' and the control plane's addresses.
    #[serde(default)]
    pub closed_destinations: Vec<Ipv4Network>,
}

/// The simulated hypervisor's part.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimConfig {
    /// Processors of the simulated machine.
    pub vcpu: Vcpu,
    /// Memory of the simulated machine, all of it for instances.
    pub memory_mib: MiB,
    /// Its storage.
    pub pools: Vec<SimPool>,
    /// How long a guest takes from its start until its agent answers.
    pub boot_delay_ms: u64,
    /// How long a clone takes.
    pub clone_delay_ms: u64,
    /// Whether guests answer RDP logins (NLA) at their endpoint; without, thousands of instances are cheap.
    pub rdp: bool,
    /// Faults from the start on.
    pub faults: Vec<FaultConfig>,
}

/// One simulated pool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimPool {
    /// What kind of storage.
    pub storage_class: StorageClass,
    /// Its size.
    pub size_gib: GiB,
}

/// A fault of the simulated hypervisor.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultConfig {
    /// The call that it hits.
    pub call: FaultCall,
    /// What happens.
    pub effect: FaultEffect,
    /// How many calls it hits; all of them when absent.
    #[serde(default)]
    pub times: Option<u32>,
    /// The failure's reason (`fail`).
    #[serde(default)]
    pub reason: Option<Reason>,
    /// How long it takes (`delay`).
    #[serde(default)]
    pub delay_ms: Option<u64>,
}

/// What a fault does to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultEffect {
    /// Fails before anything happened.
    Fail,
    /// Happens, but the answer is lost.
    LoseAnswer,
    /// Never returns.
    Hang,
    /// Takes longer.
    Delay,
}

/// A call of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "each is the method of the same name of the trait Host")]
pub enum FaultCall {
    Inventory,
    Load,
    TemplateAdopt,
    TemplateList,
    InstanceList,
    InstanceFind,
    DiskClone,
    DiskList,
    DiskGrow,
    DiskTidy,
    DiskAttach,
    DiskDelete,
    DomainDefine,
    DomainUndefine,
    DomainStart,
    DomainShutdown,
    DomainDestroy,
    NetworkRebuild,
    NetworkAdd,
    NetworkRemove,
    GuestPing,
    GuestAddress,
    GuestPersonalise,
    GuestRdpCertificate,
    GuestRdpAnswers,
    GuestSetPassword,
    GuestAccount,
    GuestAnnounce,
    GuestSessions,
    GuestEndSessions,
    Counters,
}

const fn default_reserve_memory() -> MiB {
    MiB(2_048)
}

fn default_bridge() -> String {
    "nemordp0".to_owned()
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            vcpu: Vcpu(16),
            memory_mib: MiB(65_536),
            pools: Vec::new(),
            boot_delay_ms: 100,
            clone_delay_ms: 0,
            rdp: true,
            faults: Vec::new(),
        }
    }
}

impl NetworkConfig {
    /// What customers connect to.
    #[must_use]
    pub const fn endpoints(&self) -> EndpointPool {
        EndpointPool { address: self.public_address, first_port: self.first_port, last_port: self.last_port }
    }

    pub(super) fn check(&self) -> Result<(), Failure> {
        let card = |name: &str| {
            !name.is_empty()
                && name.len() <= 15
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        if !card(&self.bridge) {
            return Err(Failure::field("bridge", "use 1 to 15 letters, digits, '-', '_' and '.'"));
        }
        if self.public_address.is_unspecified() || self.public_address.is_multicast() {
            return Err(Failure::field("public_address", "use the address at which customers reach this node"));
        }
        if self.first_port < 1_024 {
            return Err(Failure::field("first_port", "use a port from 1024 on; lower ones belong to the node itself"));
        }
        if self.last_port < self.first_port {
            return Err(Failure::field("last_port", "use a port that is not below first_port"));
        }
        PrivateSubnet::new(self.private_subnet.network, self.private_subnet.prefix)?;
        Ok(())
    }
}

impl LibvirtConfig {
    pub(super) fn check(&self) -> Result<(), Failure> {
        if !self.uri.contains("://") {
            return Err(Failure::field("uri", "use a libvirt connection, like qemu:///system"));
        }
        if self.pools.is_empty() {
            return Err(Failure::field("pools", "name at least one pool with storage_class and path"));
        }
        for (index, pool) in self.pools.iter().enumerate() {
            if !pool.path.is_absolute() {
                return Err(Failure::field("pools.path", format!("use an absolute path for {}", pool.storage_class)));
            }
            if self.pools[..index].iter().any(|other| other.storage_class == pool.storage_class) {
                return Err(Failure::field("pools.storage_class", format!("{} stands twice", pool.storage_class)));
            }
        }
        Ok(())
    }
}

impl SimConfig {
    /// Its pools; one of 2 TiB called `nvme` when none is configured.
    ///
    /// # Errors
    /// Never for the built-in name.
    pub fn pools(&self) -> Result<Vec<SimPool>, Failure> {
        if self.pools.is_empty() {
            return Ok(vec![SimPool { storage_class: StorageClass::new("nvme")?, size_gib: GiB(2_048) }]);
        }
        Ok(self.pools.clone())
    }

    pub(super) fn check(&self, network: &NetworkConfig) -> Result<(), Failure> {
        if self.rdp && !network.public_address.is_loopback() {
            return Err(Failure::field(
                "rdp",
                "simulated guests answer on loopback only: set network.public_address to 127.0.0.1, or rdp = false",
            ));
        }
        for fault in &self.faults {
            let missing = match fault.effect {
                FaultEffect::Fail if fault.reason.is_none() => "faults.reason",
                FaultEffect::Delay if fault.delay_ms.is_none() => "faults.delay_ms",
                FaultEffect::Fail | FaultEffect::Delay | FaultEffect::LoseAnswer | FaultEffect::Hang => continue,
            };
            return Err(Failure::field(missing, "say it for this effect"));
        }
        Ok(())
    }
}
