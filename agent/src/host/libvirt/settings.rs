//! What the operator decides about libvirt on this node, and what follows from the agent's configuration.

use std::path::PathBuf;

use nemordp_types::node::{Acceleration, EndpointPool};
use nemordp_types::{Bytes, Failure, MiB};

use crate::config::{GpuConfig, LibvirtAcceleration, LibvirtConfig, NetworkConfig};
use crate::host::disk::{DiskSettings, PoolSettings};
use crate::host::network::NetworkSettings;

/// Clones that run at once on one kind of storage: each is a few writes of metadata.
const CLONE_WIDTH: usize = 4;
/// What stays free on every pool, so that running guests can still write.
const KEEP_FREE: Bytes = Bytes(1 << 30);
/// Who QEMU runs as, by distribution: Debian and Ubuntu, then Fedora and its relatives.
const QEMU_USERS: [&str; 2] = ["libvirt-qemu", "qemu"];

/// How to reach libvirt and what domains look like.
#[derive(Debug, Clone)]
pub struct LibvirtSettings {
    /// Connection URI: `qemu:///system`.
    pub uri: String,
    /// How guests are executed; found by booting a kernel, because `/dev/kvm` and libvirt both promise too much.
    pub acceleration: Acceleration,
    /// Path of QEMU; libvirt's choice when absent.
    pub emulator: Option<PathBuf>,
    /// Where serial consoles are logged; nowhere when absent.
    pub serial_log_dir: Option<PathBuf>,
    /// Where libvirt keeps the process ids of its guests: tells since when one runs.
    pub runtime_dir: PathBuf,
    /// Memory that the node itself needs.
    pub memory_reserve: MiB,
    /// Calls to libvirt at once.
    pub calls: usize,
    /// Calls to guest agents at once.
    pub agent_calls: usize,
    /// Disks.
    pub disks: DiskSettings,
    /// GPUs that instances may have.
    pub gpus: Vec<GpuConfig>,
    /// Where the kernel shows the machine's PCI devices: one that is not there is not offered.
    pub pci_dir: PathBuf,
}

impl LibvirtSettings {
    /// Usual settings.
    #[must_use]
    pub fn new(acceleration: Acceleration, disks: DiskSettings) -> Self {
        Self {
            uri: "qemu:///system".to_owned(),
            acceleration,
            emulator: None,
            serial_log_dir: None,
            runtime_dir: PathBuf::from("/run/libvirt/qemu"),
            memory_reserve: MiB(1024),
            calls: 8,
            agent_calls: 32,
            disks,
            gpus: Vec::new(),
            pci_dir: PathBuf::from("/sys/bus/pci/devices"),
        }
    }
}

/// Settings from the agent's configuration. Templates lie in the first pool.
pub fn from_config(config: &LibvirtConfig, gpus: &[GpuConfig]) -> Result<LibvirtSettings, Failure> {
    let first = config.pools.first().ok_or_else(|| Failure::field("pools", "name at least one pool"))?;
    let template_dir = first.path.join("templates");
    let pools = config.pools.iter().map(|pool| PoolSettings {
        storage_class: pool.storage_class.clone(),
        path: pool.path.clone(),
        clone_width: CLONE_WIDTH,
    });
    let exists = |name: &&&str| matches!(nix::unistd::User::from_name(name), Ok(Some(_)));
    let owner = QEMU_USERS.iter().find(exists).map(ToString::to_string);
    let qemu_img = PathBuf::from("qemu-img");
    let disks = DiskSettings { template_dir, pools: pools.collect(), qemu_img, owner, keep_free: KEEP_FREE };
    let acceleration = match config.acceleration {
        LibvirtAcceleration::Kvm => Acceleration::Kvm,
        LibvirtAcceleration::Tcg => Acceleration::Tcg,
    };
    let usual = LibvirtSettings::new(acceleration, disks);
    Ok(LibvirtSettings {
        uri: config.uri.clone(),
        memory_reserve: config.reserve_memory_mib,
        gpus: gpus.to_vec(),
        ..usual
    })
}

/// Network settings from the agent's configuration.
#[must_use]
pub fn network_from_config(config: &NetworkConfig) -> NetworkSettings {
    let endpoints =
        EndpointPool { address: config.public_address, first_port: config.first_port, last_port: config.last_port };
    let mut settings = NetworkSettings::new(config.private_subnet, endpoints);
    settings.bridge.clone_from(&config.bridge);
    settings.dns_forwarders.clone_from(&config.dns_servers);
    settings.closed_destinations.clone_from(&config.closed_destinations);
    settings
}
