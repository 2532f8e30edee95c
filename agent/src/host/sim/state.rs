//! What the simulated machine holds: disks and domains, one record an instance.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use nemordp_types::instance::{Edition, InstanceSpec, Mark, NetworkSpec, ObservedPower};
use nemordp_types::{Bytes, Failure, GiB, InstanceId, Reason, StorageClass, TemplateDigest};
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::guest::{Account, GuestDisk, RdpServer};
use crate::host::HostInstance;
use crate::host::gpu::PciAddress;

#[derive(Default)]
pub(super) struct World {
    pub(super) boot: u64,
    pub(super) instances: BTreeMap<InstanceId, Instance>,
    pub(super) bindings: HashMap<InstanceId, NetworkSpec>,
    pub(super) foreign: BTreeSet<InstanceId>,
    pub(super) adopted: BTreeSet<TemplateDigest>,
    pub(super) taken_ports: BTreeSet<u16>,
}

/// What is written down of an instance.
#[derive(Serialize, Deserialize)]
pub(super) struct Saved {
    disks: BTreeMap<Edition, SavedDisk>,
    domain: Option<Domain>,
}

#[derive(Serialize, Deserialize)]
struct SavedDisk {
    storage_class: StorageClass,
    size: GiB,
    guest: GuestDisk,
}

/// A disk with the system on it.
pub(super) struct Disk {
    pub(super) storage_class: StorageClass,
    pub(super) size: GiB,
    pub(super) account: Arc<Account>,
    pub(super) host_name: Option<String>,
    pub(super) rdp: Option<RdpServer>,
}

impl Disk {
    /// As a clone of the template has it.
    pub(super) fn fresh(storage_class: StorageClass, size: GiB) -> Self {
        Self { storage_class, size, account: Arc::default(), host_name: None, rdp: None }
    }

    fn restore(saved: SavedDisk) -> Self {
        Self {
            storage_class: saved.storage_class,
            size: saved.size,
            account: Arc::new(Account::restore(&saved.guest)),
            host_name: saved.guest.host_name,
            rdp: saved.guest.rdp,
        }
    }

    fn save(&self) -> SavedDisk {
        let guest = GuestDisk {
            login: self.account.login(),
            password: self.account.clear_text(),
            host_name: self.host_name.clone(),
            rdp: self.rdp.clone(),
        };
        SavedDisk { storage_class: self.storage_class.clone(), size: self.size, guest }
    }
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Domain {
    pub(super) mark: Mark,
    pub(super) spec: InstanceSpec,
    /// When it started, if it runs.
    pub(super) started_at: Option<Timestamp>,
    /// The GPUs that it has.
    #[serde(default)]
    pub(super) gpus: Vec<PciAddress>,
}

#[derive(Default)]
pub(super) struct Instance {
    pub(super) disks: BTreeMap<Edition, Disk>,
    pub(super) domain: Option<Domain>,
    /// Whether a rescue system sees the instance's own disk.
    pub(super) attached: bool,
    /// Whether somebody has the desktop open.
    pub(super) desktop_open: bool,
    /// What was seen on it, in order.
    pub(super) desktop: Vec<Desktop>,
    /// When its agent and RDP answer; none: never.
    pub(super) boots_at: Option<Instant>,
    pub(super) server: Option<Listening>,
}

/// What the user of a simulated guest saw on the desktop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Desktop {
    /// A text was shown.
    Announced(String),
    /// The session ended.
    Ended,
}

/// The RDP server ends with its guest.
pub(super) struct Listening(pub(super) AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Instance {
    pub(super) fn running(&self) -> Option<&Domain> {
        self.domain.as_ref().filter(|domain| domain.started_at.is_some())
    }

    pub(super) fn booted(&self) -> bool {
        self.running().is_some() && self.boots_at.is_some_and(|at| at <= Instant::now())
    }
}

impl World {
    /// GiB that the instances of a pool have ordered; a disk that waits to be removed is not ordered twice.
    pub(super) fn reserved(&self, class: &StorageClass, without: Option<InstanceId>) -> u64 {
        let others = self.instances.iter().filter(|(id, _)| Some(**id) != without);
        let ordered = others.filter_map(|(_, instance)| {
            let disks = instance.disks.values().filter(|disk| disk.storage_class == *class);
            disks.map(|disk| disk.size.0).max()
        });
        ordered.sum()
    }

    /// The GPUs of an instance's domain.
    pub(super) fn gpus_of(&self, id: InstanceId) -> Vec<PciAddress> {
        let domain = self.instances.get(&id).and_then(|instance| instance.domain.as_ref());
        domain.map(|domain| domain.gpus.clone()).unwrap_or_default()
    }

    /// Those of all others.
    pub(super) fn gpus_without(&self, id: InstanceId) -> BTreeSet<PciAddress> {
        let others = self.instances.iter().filter(|(other, _)| **other != id);
        others.filter_map(|(_, instance)| instance.domain.as_ref()).flat_map(|domain| domain.gpus.clone()).collect()
    }
}

impl Instance {
    pub(super) fn restore(saved: Saved) -> Self {
        let running = saved.domain.as_ref().is_some_and(|domain| domain.started_at.is_some());
        Self {
            disks: saved.disks.into_iter().map(|(edition, disk)| (edition, Disk::restore(disk))).collect(),
            domain: saved.domain,
            attached: false,
            desktop_open: false,
            desktop: Vec::new(),
            boots_at: running.then(Instant::now),
            server: None,
        }
    }

    /// What survives the agent.
    pub(super) fn save(&self) -> Saved {
        let disks = self.disks.iter().map(|(edition, disk)| (*edition, disk.save()));
        Saved { disks: disks.collect(), domain: self.domain.clone() }
    }

    /// Neither domain nor disk.
    pub(super) fn is_nothing(&self) -> bool {
        self.disks.is_empty() && self.domain.is_none()
    }

    /// The disk that it boots from.
    pub(super) fn boots(&self) -> Option<&Disk> {
        self.domain.as_ref().and_then(|domain| self.disks.get(&domain.spec.disks.boots()))
    }

    /// The same, to be written on.
    pub(super) fn boots_mut(&mut self) -> Result<&mut Disk, Failure> {
        let edition = self.domain.as_ref().map(|domain| domain.spec.disks.boots());
        let disk = edition.and_then(|edition| self.disks.get_mut(&edition));
        disk.ok_or_else(|| Failure::new(Reason::HostFailure, "the domain has no disk"))
    }

    pub(super) fn power_off(&mut self) {
        if let Some(domain) = &mut self.domain {
            domain.started_at = None;
        }
        (self.boots_at, self.server, self.attached) = (None, None, false);
        self.desktop_open = false;
    }

    pub(super) fn show(&self) -> Option<HostInstance> {
        let domain = self.domain.as_ref()?;
        Some(HostInstance {
            mark: domain.mark,
            spec: domain.spec.clone(),
            power: if domain.started_at.is_some() { ObservedPower::Running } else { ObservedPower::Off },
            started_at: domain.started_at,
            vcpu: domain.spec.vcpu,
            memory: domain.spec.memory,
            disk: self.disks.get(&domain.spec.disks.system).map_or(Bytes::ZERO, |disk| disk.size.into()),
            gpus: u32::try_from(domain.gpus.len()).unwrap_or(u32::MAX),
        })
    }
}
