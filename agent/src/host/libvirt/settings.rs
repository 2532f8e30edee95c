//! What the operator decides about libvirt on this node.

use std::path::PathBuf;

use nemordp_types::MiB;
use nemordp_types::node::Acceleration;

use crate::host::disk::DiskSettings;

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
        }
    }
}
