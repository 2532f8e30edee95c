//! What is wanted of an instance, and what a node saw of it.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::address::{Endpoint, MacAddr};
use crate::fencing::{Generation, Pair};
use crate::id::{InstallationId, InstanceId, OrderId};
use crate::name::{GpuModel, HostName, KeyboardLayout, LoginName, StorageClass, TimeZoneName};
use crate::template::Template;
use crate::unit::{Bytes, GiB, MiB, Vcpu};

/// The TCP port of RDP inside every guest (IANA: ms-wbt-server).
pub const GUEST_RDP_PORT: u16 = 3389;

/// What the customer wants of the machine's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesiredPower {
    /// Runs; started again after a reboot of the node.
    On,
    /// Off until somebody starts it.
    Off,
}

/// What is done to the power of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PowerAction {
    /// Boots it; nothing when it runs.
    Start,
    /// Asks the guest to shut down, cuts the power when it does not in time; nothing when it is off.
    Stop,
    /// Asks the guest to reboot, cuts and starts when it does not in time.
    Restart,
    /// Cuts the power and boots.
    Reset,
}

/// The network identity of an instance, chosen by the control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// MAC address of its only card; [`MacAddr::of_private_ipv4`] of the address below.
    pub mac: MacAddr,
    /// Its address on the node's routed bridge.
    pub private_ipv4: Ipv4Addr,
    /// Where the customer connects; forwarded to [`GUEST_RDP_PORT`].
    pub endpoint: Endpoint,
}

/// How the guest presents itself to the customer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GuestSpec {
    /// Name of the machine.
    pub host_name: HostName,
    /// The customer's account, member of sudo.
    pub login_name: LoginName,
    /// Time zone; the template's when absent.
    pub time_zone: Option<TimeZoneName>,
    /// Keyboard layout; the template's when absent.
    pub keyboard: Option<KeyboardLayout>,
}

/// Which of an instance's disks is meant: the generation whose wish had it made; 0 is the one that its order had made.
/// Two wishes never share one, so a disk that is half-made or no longer wanted is never taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Edition(pub u64);

/// The disks of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct DiskSet {
    /// Its own.
    pub system: Edition,
    /// The rescue system's; as long as there is one it boots from it, and its own is the second disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescue: Option<Edition>,
    /// One that is not used any more, kept until the change that replaced it is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept: Option<Edition>,
}

impl DiskSet {
    /// The disk that it boots from.
    #[must_use]
    pub const fn boots(&self) -> Edition {
        match self.rescue {
            Some(rescue) => rescue,
            None => self.system,
        }
    }

    /// Whether that disk must stay.
    #[must_use]
    pub fn needs(&self, edition: Edition) -> bool {
        edition == self.system || Some(edition) == self.rescue || Some(edition) == self.kept
    }

    fn is_first(&self) -> bool {
        *self == Self::default()
    }
}

/// GPUs of one model that an instance has, whole ones, handed through to the guest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GpuSpec {
    /// Which model.
    pub model: GpuModel,
    /// How many, at least one.
    pub count: u32,
}

/// All that is wanted of an instance on a node. Never holds a password.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InstanceSpec {
    /// The order it fulfils.
    pub order_id: OrderId,
    /// Processors.
    pub vcpu: Vcpu,
    /// Memory.
    pub memory: MiB,
    /// Size of its disk; at least the template's virtual size.
    pub disk: GiB,
    /// The pool on which the disk lies.
    pub storage_class: StorageClass,
    /// What it is cloned from.
    pub template: Template,
    /// Card, address, endpoint.
    pub network: NetworkSpec,
    /// Name, account, time zone, keyboard.
    pub guest: GuestSpec,
    /// Whether the customer wants it to run.
    pub power: DesiredPower,
    /// Off the network and off power, whatever the customer wants, and kept.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// Which disks it has.
    #[serde(default, skip_serializing_if = "DiskSet::is_first")]
    pub disks: DiskSet,
    /// Its GPUs; the node says which ones, and keeps to that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<GpuSpec>,
}

impl InstanceSpec {
    /// Whether it should run now: a suspended one is off, whatever the customer wants.
    #[must_use]
    pub const fn effective_power(&self) -> DesiredPower {
        if self.suspended { DesiredPower::Off } else { self.power }
    }
}

/// Our mark on a domain: without it nothing is ever changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Mark {
    /// Whose domain it is.
    pub installation_id: InstallationId,
    /// Which instance.
    pub instance_id: InstanceId,
    /// For which order.
    pub order_id: OrderId,
    /// Which wish it was made from.
    pub generation: Generation,
}

/// What the hypervisor says of the machine's power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObservedPower {
    /// No domain.
    Absent,
    /// Defined, not running.
    Off,
    /// Running.
    Running,
    /// Paused, for example on a full disk.
    Paused,
    /// Crashed, or about to end.
    Failed,
}

/// What a node last saw of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Which instance.
    pub instance_id: InstanceId,
    /// For which order.
    pub order_id: OrderId,
    /// The highest numbers that the node has accepted for it.
    pub pair: Pair,
    /// Power as the hypervisor reports it.
    pub power: ObservedPower,
    /// Whether the guest agent answered last time.
    pub guest_agent: bool,
    /// The address that the guest agent confirmed.
    pub confirmed_ipv4: Option<Ipv4Addr>,
    /// SHA-256 of the RDP server's certificate (DER), read inside the guest.
    pub rdp_certificate_sha256: Option<[u8; 32]>,
    /// When the domain last started, if it runs.
    pub started_at: Option<Timestamp>,
    /// Processors as defined.
    pub vcpu: Vcpu,
    /// Memory as defined.
    pub memory: MiB,
    /// Size of the disk as the guest sees it.
    pub disk: Bytes,
    /// GPUs as defined; none said by agents of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<u32>,
}
