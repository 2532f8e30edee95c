//! The fleet at one instant, as placement sees it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use nemordp_types::node::{NodeAvailability, NodeLoad, NodePolicy};
use nemordp_types::{
    Bytes, Failure, GpuModel, MiB, NodeId, PlanName, RegionName, StorageClass, TemplateDigest, TenantId, Vcpu,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::request::{AddressKind, Affinity, Demand, GpuDemand, PlacementRequest};
use super::siting::{GroupKey, Members};
use crate::label::Label;

/// What may be sold of something, and what is reserved of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Room {
    /// What may be sold, overcommit included.
    pub capacity: u64,
    /// What is reserved.
    pub used: u64,
}

impl Room {
    /// What is left; nothing when more is reserved than may be sold.
    #[must_use]
    pub const fn free(self) -> u64 {
        self.capacity.saturating_sub(self.used)
    }

    /// The same with less to sell.
    #[must_use]
    const fn without(self, held_back: u64) -> Self {
        Self { capacity: self.capacity.saturating_sub(held_back), used: self.used }
    }
}

/// A storage pool in a snapshot; amounts in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRoom {
    /// What kind of storage.
    pub storage_class: StorageClass,
    /// What may be sold and what is reserved.
    pub room: Room,
    /// What the file system said was free.
    pub physical_free: Bytes,
    /// Clones that are being made on it now.
    #[serde(default)]
    pub clones: u32,
}

/// The GPUs of one model in a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuRoom {
    /// Which model.
    pub model: GpuModel,
    /// How many there are and how many are taken.
    pub room: Room,
}

/// Amounts that are not sold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Amounts {
    /// Processors.
    pub vcpu: Vcpu,
    /// Memory.
    pub memory: MiB,
    /// Of each storage pool.
    pub disk: Bytes,
}

impl Amounts {
    /// Refuses more than any machine has; the error names the field.
    ///
    /// # Errors
    /// `invalid_argument` with `vcpu`, `memory_mib` or `disk_gib`.
    pub fn check(&self) -> Result<(), Failure> {
        for (field, amount, most) in [
            ("vcpu", u64::from(self.vcpu.0), 4_096),
            ("memory_mib", self.memory.0, 64 << 20),
            ("disk_gib", self.disk.0 >> 30, 1 << 20),
        ] {
            if amount > most {
                return Err(Failure::field(field, format!("use at most {most}")));
            }
        }
        Ok(())
    }
}

/// What of a node's capacity is held back from sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeldBack {
    /// What the host itself needs, unless the capacity is already without it.
    pub host: Amounts,
    /// What maintenance needs: room for the instances of a neighbour that is being worked on.
    pub maintenance: Amounts,
}

/// What heartbeats say beyond [`NodeLoad`].
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Strain {
    /// Share of processor time that the machine's own hypervisor took away, percent.
    pub steal: f64,
    /// How long a read or write of the storage takes, milliseconds.
    pub disk_latency_ms: f64,
}

/// A node in a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeSnapshot {
    /// Which.
    pub id: NodeId,
    /// Where.
    pub region: RegionName,
    /// What the operator wants of it.
    pub policy: NodePolicy,
    /// What is known of its life.
    pub availability: NodeAvailability,
    /// Processors.
    pub vcpu: Room,
    /// Memory in MiB.
    pub memory: Room,
    /// Storage.
    pub pools: Vec<PoolRoom>,
    /// Ports that nobody holds.
    pub free_ports: u32,
    /// Private addresses that nobody holds.
    pub free_addresses: u32,
    /// Templates that lie ready there.
    pub templates: BTreeSet<TemplateDigest>,
    /// How loaded it is.
    pub load: NodeLoad,
    /// GPUs.
    #[serde(default)]
    pub gpus: Vec<GpuRoom>,
    /// Public addresses that nobody holds.
    #[serde(default)]
    pub free_routed: u32,
    /// What is not sold.
    #[serde(default)]
    pub held_back: HeldBack,
    /// What operators call it by.
    #[serde(default)]
    pub labels: BTreeSet<Label>,
    /// The only tenant whose instances it takes, when it is kept for one.
    #[serde(default)]
    pub pinned_to: Option<TenantId>,
    /// Those of each group that it has.
    #[serde(default)]
    pub groups: BTreeMap<GroupKey, Members>,
    /// When the last of its instances is expected to end; none when it is empty or nothing is known.
    #[serde(default)]
    pub busy_until: Option<Timestamp>,
    /// More of how strained it is.
    #[serde(default)]
    pub strain: Strain,
}

impl NodeSnapshot {
    /// An active, available node that has nothing to sell yet; amounts and the rest are set on the fields.
    #[must_use]
    pub fn new(id: NodeId, region: RegionName) -> Self {
        Self {
            id,
            region,
            policy: NodePolicy::Active,
            availability: NodeAvailability::Available,
            vcpu: Room::default(),
            memory: Room::default(),
            pools: Vec::new(),
            free_ports: 0,
            free_addresses: 0,
            templates: BTreeSet::new(),
            load: NodeLoad::default(),
            gpus: Vec::new(),
            free_routed: 0,
            held_back: HeldBack::default(),
            labels: BTreeSet::new(),
            pinned_to: None,
            groups: BTreeMap::new(),
            busy_until: None,
            strain: Strain::default(),
        }
    }

    /// Processors that may be sold, less what is held back.
    #[must_use]
    pub fn vcpu_room(&self) -> Room {
        self.vcpu_in_all().without(u64::from(self.held_back.maintenance.vcpu.0))
    }

    /// Memory in MiB that may be sold, less what is held back.
    #[must_use]
    pub fn memory_room(&self) -> Room {
        self.memory_in_all().without(self.held_back.maintenance.memory.0)
    }

    /// Bytes of the pool that may be sold, less what is held back.
    #[must_use]
    pub fn pool_room(&self, pool: &PoolRoom) -> Room {
        self.pool_in_all(pool).without(self.held_back.maintenance.disk.0)
    }

    /// Processors, those too that maintenance needs.
    pub(super) fn vcpu_in_all(&self) -> Room {
        self.vcpu.without(u64::from(self.held_back.host.vcpu.0))
    }

    /// Memory in MiB, with what maintenance needs.
    pub(super) fn memory_in_all(&self) -> Room {
        self.memory.without(self.held_back.host.memory.0)
    }

    /// Bytes of the pool, with what maintenance needs.
    pub(super) fn pool_in_all(&self, pool: &PoolRoom) -> Room {
        pool.room.without(self.held_back.host.disk.0)
    }

    /// The pool of a storage class.
    #[must_use]
    pub fn pool(&self, class: &StorageClass) -> Option<&PoolRoom> {
        self.pools.iter().find(|pool| pool.storage_class == *class)
    }

    /// The GPUs that a demand would take: of the named model, else of the one with the fewest free that still suffice.
    #[must_use]
    pub fn gpus_for(&self, demand: &GpuDemand) -> Option<&GpuRoom> {
        let enough = |gpus: &&GpuRoom| gpus.room.free() >= u64::from(demand.count);
        match &demand.model {
            Some(model) => self.gpus.iter().find(|gpus| gpus.model == *model).filter(enough),
            None => self.gpus.iter().filter(enough).min_by_key(|gpus| gpus.room.free()),
        }
    }

    /// Whether one of this group and affinity may lie beside those that it has.
    #[must_use]
    pub fn admits(&self, group: &GroupKey, affinity: Affinity) -> bool {
        self.groups.get(group).copied().unwrap_or_default().admit(affinity)
    }

    /// How many of these amounts it could take now, ports and addresses aside.
    #[must_use]
    pub fn slots(&self, demand: &Demand) -> u64 {
        let Some(pool) = self.pool(&demand.storage_class) else { return 0 };
        let by = |free: u64, wanted: u64| free.checked_div(wanted).unwrap_or(u64::MAX);
        let gpus = demand.gpus.as_ref().map_or(u64::MAX, |wanted| self.gpu_slots(wanted));
        by(self.vcpu_room().free(), u64::from(demand.vcpu.0))
            .min(by(self.memory_room().free(), demand.memory.0))
            .min(by(self.pool_room(pool).free(), Bytes::from(demand.disk).0))
            .min(gpus)
    }

    fn gpu_slots(&self, wanted: &GpuDemand) -> u64 {
        let of = |gpus: &GpuRoom| gpus.room.free().checked_div(u64::from(wanted.count)).unwrap_or(u64::MAX);
        let suits = |gpus: &&GpuRoom| wanted.model.as_ref().is_none_or(|model| gpus.model == *model);
        self.gpus.iter().filter(suits).map(of).fold(0, u64::saturating_add)
    }

    /// The node as it is once the request lies on it.
    #[must_use]
    pub fn with(&self, request: &PlacementRequest) -> Self {
        let mut node = self.clone();
        node.reserve(request);
        node
    }

    /// Notes that the request has left it. When the last of its instances ends is not known anew.
    pub fn release(&mut self, request: &PlacementRequest) {
        self.vcpu.used = self.vcpu.used.saturating_sub(u64::from(request.vcpu.0));
        self.memory.used = self.memory.used.saturating_sub(request.memory.0);
        if let Some(pool) = self.pools.iter_mut().find(|pool| pool.storage_class == request.storage_class) {
            pool.room.used = pool.room.used.saturating_sub(Bytes::from(request.disk).0);
        }
        if let Some(wanted) = &request.gpus {
            let suits = |gpus: &&mut GpuRoom| wanted.model.as_ref().is_none_or(|model| gpus.model == *model);
            let taken = |gpus: &&mut GpuRoom| gpus.room.used >= u64::from(wanted.count);
            if let Some(gpus) = self.gpus.iter_mut().filter(suits).find(taken) {
                gpus.room.used -= u64::from(wanted.count);
            }
        }
        match request.address {
            AddressKind::ForwardedPort => self.free_ports = self.free_ports.saturating_add(1),
            AddressKind::Routed => self.free_routed = self.free_routed.saturating_add(1),
        }
        self.free_addresses = self.free_addresses.saturating_add(1);
        if let Some(group) = request.group_key()
            && let Some(members) = self.groups.get_mut(&group)
        {
            *members = members.without(request.affinity);
            if members.count == 0 {
                self.groups.remove(&group);
            }
        }
    }

    /// Notes that the request lies on it now, for placing several on one snapshot.
    pub fn reserve(&mut self, request: &PlacementRequest) {
        self.vcpu.used += u64::from(request.vcpu.0);
        self.memory.used += request.memory.0;
        if let Some(pool) = self.pools.iter_mut().find(|pool| pool.storage_class == request.storage_class) {
            pool.room.used += Bytes::from(request.disk).0;
        }
        if let Some(wanted) = &request.gpus
            && let Some(model) = self.gpus_for(wanted).map(|gpus| gpus.model.clone())
            && let Some(gpus) = self.gpus.iter_mut().find(|gpus| gpus.model == model)
        {
            gpus.room.used += u64::from(wanted.count);
        }
        match request.address {
            AddressKind::ForwardedPort => self.free_ports = self.free_ports.saturating_sub(1),
            AddressKind::Routed => self.free_routed = self.free_routed.saturating_sub(1),
        }
        self.free_addresses = self.free_addresses.saturating_sub(1);
        if let Some(group) = request.group_key() {
            let members = self.groups.entry(group).or_default();
            *members = members.with(request.affinity);
        }
        self.busy_until = self.busy_until.max(request.ends_at);
    }
}

/// How often a plan is ordered, for weighing what a hole is good for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanShare {
    /// Which plan.
    pub plan: PlanName,
    /// Its amounts.
    pub demand: Demand,
    /// Orders of it in the period that the forecast looks at.
    pub orders: u64,
}

/// Slots of a dear plan that cheaper ones may not take, because a forecast expects orders for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotReserve {
    /// Where.
    pub region: RegionName,
    /// The amounts of the dear plan; it asks for a GPU.
    pub demand: Demand,
    /// How many of it must stay possible.
    pub slots: u64,
}

/// The fleet at one instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetSnapshot {
    /// When it was read.
    pub taken_at: Timestamp,
    /// The nodes.
    pub nodes: Vec<NodeSnapshot>,
    /// What is expected to be ordered; when empty, more of the same as the request.
    #[serde(default)]
    pub mix: Vec<PlanShare>,
    /// What is held for dear plans.
    #[serde(default)]
    pub reserves: Vec<SlotReserve>,
}

impl FleetSnapshot {
    /// Nodes without any expectation.
    #[must_use]
    pub const fn new(taken_at: Timestamp, nodes: Vec<NodeSnapshot>) -> Self {
        Self { taken_at, nodes, mix: Vec::new(), reserves: Vec::new() }
    }

    /// What identifies everything that a decision on this snapshot saw. The order of the nodes does not matter.
    #[must_use]
    pub fn digest(&self) -> SnapshotDigest {
        let mut hash = Sha256::new();
        let mut part = |bytes: Vec<u8>| {
            hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
            hash.update(bytes);
        };
        // Maps and sets are ordered, and numbers have one shortest form: equal values give equal text.
        part(canonical(&(self.taken_at, &self.mix, &self.reserves)));
        let mut nodes: Vec<&NodeSnapshot> = self.nodes.iter().collect();
        nodes.sort_by_key(|node| node.id);
        for node in nodes {
            part(canonical(node));
        }
        SnapshotDigest(hash.finalize().into())
    }
}

fn canonical(value: &impl Serialize) -> Vec<u8> {
    // Only a map whose keys are no strings fails, and there is none here.
    serde_json::to_vec(value).unwrap_or_default()
}

/// SHA-256 over a snapshot, stored with each order that was decided on it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotDigest([u8; 32]);

impl SnapshotDigest {
    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for SnapshotDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SnapshotDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for SnapshotDigest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
