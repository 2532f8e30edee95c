//! What the simulated machine holds: disks and domains, one record an instance.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use nemordp_types::instance::{InstanceSpec, Mark, NetworkSpec, ObservedPower};
use nemordp_types::{Bytes, GiB, InstanceId, StorageClass, TemplateDigest};
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::guest::{Account, GuestDisk, RdpServer};
use crate::host::HostInstance;

#[derive(Default)]
pub(super) struct World {
    pub(super) boot: u64,
    pub(super) instances: BTreeMap<InstanceId, Instance>,
    pub(super) bindings: HashMap<InstanceId, NetworkSpec>,
    pub(super) foreign: BTreeSet<InstanceId>,
    pub(super) adopted: BTreeSet<TemplateDigest>,
}

/// What is written down of an instance.
#[derive(Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) disk: Option<Disk>,
    pub(super) domain: Option<Domain>,
    pub(super) guest: GuestDisk,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Disk {
    pub(super) storage_class: StorageClass,
    pub(super) size: GiB,
}

#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Domain {
    pub(super) mark: Mark,
    pub(super) spec: InstanceSpec,
    /// When it started, if it runs.
    pub(super) started_at: Option<Timestamp>,
}

#[derive(Default)]
pub(super) struct Instance {
    pub(super) disk: Option<Disk>,
    pub(super) domain: Option<Domain>,
    pub(super) account: Arc<Account>,
    pub(super) host_name: Option<String>,
    pub(super) rdp: Option<RdpServer>,
    /// When its agent and RDP answer; none: never.
    pub(super) boots_at: Option<Instant>,
    pub(super) server: Option<Listening>,
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
    /// GiB that the disks of a pool may grow to.
    pub(super) fn reserved(&self, class: &StorageClass) -> u64 {
        let disks = self.instances.values().filter_map(|instance| instance.disk.as_ref());
        disks.filter(|disk| disk.storage_class == *class).map(|disk| disk.size.0).sum()
    }
}

impl Instance {
    pub(super) fn restore(saved: Saved) -> Self {
        let running = saved.domain.as_ref().is_some_and(|domain| domain.started_at.is_some());
        Self {
            account: Arc::new(Account::restore(&saved.guest)),
            disk: saved.disk,
            domain: saved.domain,
            host_name: saved.guest.host_name,
            rdp: saved.guest.rdp,
            boots_at: running.then(Instant::now),
            server: None,
        }
    }

    pub(super) fn power_off(&mut self) {
        if let Some(domain) = &mut self.domain {
            domain.started_at = None;
        }
        (self.boots_at, self.server) = (None, None);
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
            disk: self.disk.as_ref().map_or(Bytes::ZERO, |disk| disk.size.into()),
        })
    }
}
