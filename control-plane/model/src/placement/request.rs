//! What is to be placed.

use std::collections::BTreeSet;

use jiff::Timestamp;
use nemordp_types::instance::{GpuSpec, InstanceSpec};
use nemordp_types::{Bytes, GiB, GpuModel, MiB, NodeId, RegionName, StorageClass, TemplateDigest, TenantId, Vcpu};
use serde::{Deserialize, Serialize};

use super::siting::{GroupKey, Siting};
use crate::instance::Instance;
use crate::label::Label;
use crate::words;

words! {
    /// How an instance is reached, and thus what of a node's pools it takes.
    AddressKind {
        /// A port of the node's public address, forwarded.
        ForwardedPort = "forwarded_port",
        /// A public address of its own, routed to the guest.
        Routed = "routed",
    }
}

words! {
    /// Where the others of the same group should be.
    Affinity {
        /// No matter.
        Any = "any",
        /// Better not on the same node.
        PreferApart = "prefer_apart",
        /// Never on the same node.
        Apart = "apart",
        /// Better on the same node.
        PreferTogether = "prefer_together",
    }
}

/// GPUs of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuDemand {
    /// How many, at least one.
    pub count: u32,
    /// Of which model; of any one model when none is named.
    pub model: Option<GpuModel>,
}

impl From<GpuSpec> for GpuDemand {
    fn from(gpus: GpuSpec) -> Self {
        Self { count: gpus.count, model: Some(gpus.model) }
    }
}

/// The amounts alone, without where and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Processors.
    pub vcpu: Vcpu,
    /// Memory.
    pub memory: MiB,
    /// Size of the disk.
    pub disk: GiB,
    /// On what the disk lies.
    pub storage_class: StorageClass,
    /// GPUs.
    pub gpus: Option<GpuDemand>,
}

impl Demand {
    /// What an instance takes of its node.
    #[must_use]
    pub fn of(spec: &InstanceSpec) -> Self {
        Self {
            vcpu: spec.vcpu,
            memory: spec.memory,
            disk: spec.disk,
            storage_class: spec.storage_class.clone(),
            gpus: spec.gpus.clone().map(GpuDemand::from),
        }
    }
}

/// What is to be placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementRequest {
    /// Where.
    pub region: RegionName,
    /// Processors.
    pub vcpu: Vcpu,
    /// Memory.
    pub memory: MiB,
    /// Size of the disk.
    pub disk: GiB,
    /// On what the disk lies.
    pub storage_class: StorageClass,
    /// What it is cloned from.
    pub template: TemplateDigest,
    /// Length of the template's file, which a node without it must fetch first.
    pub template_size: Bytes,
    /// Nodes that were tried already.
    pub exclude: BTreeSet<NodeId>,
    /// GPUs.
    #[serde(default)]
    pub gpus: Option<GpuDemand>,
    /// How it is reached.
    #[serde(default = "forwarded_port")]
    pub address: AddressKind,
    /// Labels that the node must have.
    #[serde(default)]
    pub labels: BTreeSet<Label>,
    /// Whose order it is; nodes that are kept for another tenant refuse it.
    #[serde(default)]
    pub tenant: Option<TenantId>,
    /// Whether only nodes that are kept for this tenant will do (a reseller's own machines).
    #[serde(default)]
    pub pinned: bool,
    /// Whom of its tenant's it belongs together with: all instances of one customer name the same group.
    #[serde(default)]
    pub group: Option<Label>,
    /// Where the others of the group should be.
    #[serde(default = "any")]
    pub affinity: Affinity,
    /// Until when it is paid for; unknown when none.
    #[serde(default)]
    pub ends_at: Option<Timestamp>,
}

fn forwarded_port() -> AddressKind {
    AddressKind::ForwardedPort
}

fn any() -> Affinity {
    Affinity::Any
}

impl PlacementRequest {
    /// A request for these amounts in a region, without template, group or end; the rest is set on the fields.
    #[must_use]
    pub fn new(region: RegionName, demand: Demand) -> Self {
        Self {
            region,
            vcpu: demand.vcpu,
            memory: demand.memory,
            disk: demand.disk,
            storage_class: demand.storage_class,
            template: TemplateDigest::from_bytes([0; 32]),
            template_size: Bytes::ZERO,
            exclude: BTreeSet::new(),
            gpus: demand.gpus,
            address: AddressKind::ForwardedPort,
            labels: BTreeSet::new(),
            tenant: None,
            pinned: false,
            group: None,
            affinity: Affinity::Any,
            ends_at: None,
        }
    }

    /// The same for an instance of this tenant, with what it asks of its node.
    #[must_use]
    pub fn sited(self, tenant: TenantId, siting: &Siting) -> Self {
        let Siting { labels, pinned, group, affinity, any_gpu_model } = siting.clone();
        let gpus = self.gpus.map(|gpus| GpuDemand { model: gpus.model.filter(|_| !any_gpu_model), ..gpus });
        Self { tenant: Some(tenant), labels, pinned, group, affinity, gpus, ..self }
    }

    /// What an instance that is there would be ordered as now.
    #[must_use]
    pub fn again(region: RegionName, instance: &Instance) -> Self {
        let template = &instance.spec.template;
        Self {
            template: template.digest,
            template_size: template.file_size,
            ends_at: instance.paid_until,
            ..Self::new(region, Demand::of(&instance.spec)).sited(instance.tenant_id, &instance.siting)
        }
    }

    /// Its group, with its owner; none where nobody knows whose order it is.
    #[must_use]
    pub fn group_key(&self) -> Option<GroupKey> {
        Some(GroupKey { tenant: self.tenant?, name: self.group.clone()? })
    }

    /// The amounts alone.
    #[must_use]
    pub fn demand(&self) -> Demand {
        Demand {
            vcpu: self.vcpu,
            memory: self.memory,
            disk: self.disk,
            storage_class: self.storage_class.clone(),
            gpus: self.gpus.clone(),
        }
    }
}
