//! What is left on a node while a burst is accepted.

use std::collections::{BTreeMap, BTreeSet};

use nemordp_model::{GroupKey, Label, Members};
use nemordp_types::instance::GpuSpec;
use nemordp_types::node::{NodeAvailability, NodeInventory, NodePolicy};
use nemordp_types::{Bytes, GpuModel, StorageClass, TenantId};

use crate::accept::{OrderAccept, Shape};
use crate::error::Result;
use crate::node::held_back;
use crate::node_gpu;
use crate::sql::Row;

/// What is left on a node of the burst, as its locked row says, and what the burst takes of it.
pub(super) struct Room {
    open: bool,
    vcpu: u64,
    memory: u64,
    pub(super) pools: BTreeMap<StorageClass, u64>,
    /// What of each pool is held back.
    pub(super) held_disk: u64,
    pub(super) gpus: BTreeMap<GpuModel, u64>,
    labels: BTreeSet<Label>,
    pinned_to: Option<TenantId>,
    pub(super) groups: BTreeMap<GroupKey, Members>,
    pub(super) inventory: NodeInventory,
    sequence: u64,
    pub(super) taken_vcpu: u64,
    pub(super) taken_memory: u64,
    pub(super) taken_orders: u64,
    pub(super) taken_bytes: BTreeMap<StorageClass, u64>,
    pub(super) taken_gpus: BTreeMap<GpuModel, u64>,
}

/// What an order was given of a node that it did not name itself.
pub(super) struct Given {
    pub(super) gpus: Option<GpuSpec>,
}

impl Room {
    pub(super) fn read(row: &Row) -> Result<Self> {
        let left = |capacity: &str, used: &str| -> Result<u64> {
            Ok(row.get::<u64>(capacity)?.saturating_sub(row.get::<u64>(used)?))
        };
        let held = held_back(row)?;
        let policy: NodePolicy = row.get("policy")?;
        let availability: NodeAvailability = row.get("availability")?;
        Ok(Self {
            open: policy == NodePolicy::Active && availability == NodeAvailability::Available,
            vcpu: left("vcpu_capacity", "vcpu_used")?.saturating_sub(u64::from(held.vcpu.0)),
            memory: left("memory_capacity_mib", "memory_used_mib")?.saturating_sub(held.memory.0),
            held_disk: held.disk.0,
            pools: BTreeMap::new(),
            gpus: BTreeMap::new(),
            labels: row.json("labels")?,
            pinned_to: row.get("pinned_to")?,
            groups: BTreeMap::new(),
            inventory: row.json("inventory")?,
            sequence: row.get("reservation_sequence")?,
            taken_vcpu: 0,
            taken_memory: 0,
            taken_orders: 0,
            taken_bytes: BTreeMap::new(),
            taken_gpus: BTreeMap::new(),
        })
    }

    /// Takes what the order asks for, if all of it is left and the node still suits it.
    pub(super) fn take(&mut self, accept: &OrderAccept) -> Option<Given> {
        let OrderAccept { shape, siting, order, .. } = accept;
        let group = siting.group_of(order.tenant_id);
        let members = group.as_ref().and_then(|key| self.groups.get(key)).copied().unwrap_or_default();
        if !siting.suits(order.tenant_id, &self.labels, self.pinned_to)
            || (group.is_some() && !members.admit(siting.affinity))
        {
            return None;
        }
        let (vcpu, memory, disk) = (u64::from(shape.vcpu.0), shape.memory.0, Bytes::from(shape.disk).0);
        let pool = self.pools.get_mut(&shape.storage_class)?;
        if !self.open || vcpu > self.vcpu || memory > self.memory || disk > *pool {
            return None;
        }
        let mut gpus = None;
        if let Some(wanted) = &shape.gpus {
            let left = self.gpus.iter().map(|(model, left)| (model, *left));
            let model = node_gpu::suiting(wanted, left)?.clone();
            if let Some(left) = self.gpus.get_mut(&model) {
                *left -= u64::from(wanted.count);
            }
            gpus = Some(GpuSpec { model, count: wanted.count });
        }
        self.vcpu -= vcpu;
        self.memory -= memory;
        *pool -= disk;
        if let Some(group) = group {
            self.groups.insert(group, members.with(siting.affinity));
        }
        Some(Given { gpus })
    }

    /// Gives back what was taken for an order that then found no port or address.
    pub(super) fn give_back(&mut self, accept: &OrderAccept, gpus: Option<&GpuSpec>) {
        let OrderAccept { shape, siting, order, .. } = accept;
        self.vcpu += u64::from(shape.vcpu.0);
        self.memory += shape.memory.0;
        if let Some(pool) = self.pools.get_mut(&shape.storage_class) {
            *pool += Bytes::from(shape.disk).0;
        }
        if let Some(gpus) = gpus {
            *self.gpus.entry(gpus.model.clone()).or_default() += u64::from(gpus.count);
        }
        if let Some(members) = siting.group_of(order.tenant_id).and_then(|group| self.groups.get_mut(&group)) {
            *members = members.without(siting.affinity);
        }
    }

    /// Notes what will be written; gives the number in the node's history.
    pub(super) fn keep(&mut self, shape: &Shape, gpus: Option<&GpuSpec>) -> u64 {
        self.taken_vcpu += u64::from(shape.vcpu.0);
        self.taken_memory += shape.memory.0;
        self.taken_orders += 1;
        *self.taken_bytes.entry(shape.storage_class.clone()).or_default() += Bytes::from(shape.disk).0;
        if let Some(gpus) = gpus {
            *self.taken_gpus.entry(gpus.model.clone()).or_default() += u64::from(gpus.count);
        }
        self.sequence += 1;
        self.sequence
    }
}
