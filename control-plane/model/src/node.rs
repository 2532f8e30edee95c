//! A node as the control plane keeps it.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use nemordp_types::node::{NodeAvailability, NodeInventory, NodeLoad, NodePolicy, PoolInventory, Reserved};
use nemordp_types::template::TemplatePresence;
use nemordp_types::{Bytes, Failure, MiB, NodeAddress, NodeId, RegionName, TenantId, Vcpu};
use serde::{Deserialize, Serialize};

use crate::health::CLOCK_TOLERANCE;
use crate::label::Label;
use crate::placement::{Amounts, GpuRoom};

/// How much more is sold than a node has, in percent of what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overcommit {
    /// Processors; 200 sells each twice.
    pub vcpu_percent: u32,
    /// Memory; more than 100 needs swap or ballooning.
    pub memory_percent: u32,
}

impl Default for Overcommit {
    fn default() -> Self {
        Self { vcpu_percent: 200, memory_percent: 100 }
    }
}

impl Overcommit {
    /// Refuses less than 1 and more than 1600 percent.
    pub fn check(self) -> Result<Self, Failure> {
        for (field, percent) in [("vcpu_percent", self.vcpu_percent), ("memory_percent", self.memory_percent)] {
            if !(1..=1_600).contains(&percent) {
                return Err(Failure::field(field, "use 1 to 1600 percent"));
            }
        }
        Ok(self)
    }

    /// Processors that may be sold, rounded down.
    #[must_use]
    pub fn vcpu(self, physical: Vcpu) -> Vcpu {
        let sold = u64::from(physical.0) * u64::from(self.vcpu_percent) / 100;
        Vcpu(u32::try_from(sold).unwrap_or(u32::MAX))
    }

    /// Memory that may be sold, rounded down.
    #[must_use]
    pub fn memory(self, physical: MiB) -> MiB {
        let sold = u128::from(physical.0) * u128::from(self.memory_percent) / 100;
        MiB(u64::try_from(sold).unwrap_or(u64::MAX))
    }
}

/// What of a storage pool may be sold, from what its node reports and what was believed before.
///
/// The pool may hold other files than our disks, and a clone occupies less than it may grow to. What is known for certain:
/// at least what is free now, at most that and all that is reserved (as if every clone had grown). Between these bounds the
/// earlier value stands, so that a sparse clone does not look like new room.
#[must_use]
pub fn pool_capacity(before: Option<Bytes>, pool: &PoolInventory) -> Bytes {
    let least = pool.free.min(pool.physical);
    let most = Bytes(pool.free.0.saturating_add(pool.reserved.0)).min(pool.physical).max(least);
    before.map_or(most, |before| before.clamp(least, most))
}

/// Which parts of what a node says of itself changed; not what moves all the time: free room, templates.
#[must_use]
pub fn inventory_changes(before: &NodeInventory, now: &NodeInventory) -> Vec<&'static str> {
    let pools = |inventory: &NodeInventory| -> Vec<_> {
        inventory.pools.iter().map(|pool| (pool.storage_class.clone(), pool.physical)).collect()
    };
    let parts = [
        ("agent_version", before.agent_version != now.agent_version),
        ("hypervisor", before.hypervisor != now.hypervisor),
        ("acceleration", before.acceleration != now.acceleration),
        ("vcpu", before.vcpu != now.vcpu),
        ("memory", (before.memory, before.memory_for_instances) != (now.memory, now.memory_for_instances)),
        ("pools", pools(before) != pools(now)),
        ("private_subnet", before.private_subnet != now.private_subnet),
        ("endpoints", before.endpoints != now.endpoints),
        ("gpus", before.gpus != now.gpus),
        ("boot", before.boot_id != now.boot_id),
    ];
    parts.into_iter().filter(|(_, changed)| *changed).map(|(part, _)| part).collect()
}

/// For whom a node is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePin {
    /// Which tenant.
    pub tenant_id: TenantId,
    /// How it is called.
    pub tenant: Label,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// Its id; never used again after it was decommissioned.
    pub id: NodeId,
    /// How operators call it; unique.
    pub name: Label,
    /// Where prices and addresses are alike.
    pub region: RegionName,
    /// Where its agent listens.
    pub agent_address: NodeAddress,
    /// What the operator wants of it.
    pub policy: NodePolicy,
    /// Why it takes no new instances, when the control plane itself cordoned it.
    pub policy_reason: Option<String>,
    /// What operators call it by; plans may ask for it.
    #[serde(default)]
    pub labels: BTreeSet<Label>,
    /// The only tenant whose instances it takes, when it is kept for one.
    pub pinned_to: Option<NodePin>,
    /// What is known of its life.
    pub availability: NodeAvailability,
    /// Since when.
    pub availability_changed_at: Timestamp,
    /// How much more is sold than it has.
    pub overcommit: Overcommit,
    /// What it offers, as it said last.
    pub inventory: NodeInventory,
    /// How loaded it is, as it said last.
    pub load: Option<NodeLoad>,
    /// Templates on it and on their way to it, as it said last.
    pub template_presence: Vec<TemplatePresence>,
    /// Ports of its range that something else on the machine uses, as it said last.
    pub taken_ports: Vec<u16>,
    /// Its clock minus ours, as its last heartbeat showed it.
    pub clock_skew: Option<SignedDuration>,
    /// When two agents were found to speak for it; none while one does.
    pub doubled_at: Option<Timestamp>,
    /// When its last heartbeat arrived.
    pub last_heartbeat_at: Option<Timestamp>,
    /// What is reserved on it, over all its pools.
    pub reserved: Reserved,
    /// Its GPUs by model: how many it has, and how many of them are reserved. More are reserved than it has where it lost some.
    #[serde(default)]
    pub gpus: Vec<GpuRoom>,
    /// What new instances do not get of it, so that maintenance has room.
    #[serde(default)]
    pub held_back: Amounts,
    /// Serial number of its certificate, big-endian.
    pub certificate_serial: Vec<u8>,
    /// When it was enrolled.
    pub enrolled_at: Timestamp,
    /// When the operator or a reconciler last changed it.
    pub updated_at: Timestamp,
}

/// Whether a clock that is off by this much needs somebody to look.
#[must_use]
pub fn is_clock_wrong(skew: SignedDuration) -> bool {
    skew.unsigned_abs() >= CLOCK_TOLERANCE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(free: u64, reserved: u64) -> PoolInventory {
        let storage_class = nemordp_types::StorageClass::new("nvme").unwrap();
        PoolInventory { storage_class, physical: Bytes(1_000), free: Bytes(free), reserved: Bytes(reserved) }
    }

    #[test]
    fn a_sparse_clone_is_no_new_room_and_foreign_files_take_room_away() {
        let empty = pool_capacity(None, &pool(600, 0));
        assert_eq!(empty, Bytes(600));
        let with_clone = pool_capacity(Some(empty), &pool(590, 300));
        assert_eq!(with_clone, Bytes(600));
        let foreign_file = pool_capacity(Some(with_clone), &pool(100, 300));
        assert_eq!(foreign_file, Bytes(400));
        assert_eq!(pool_capacity(Some(Bytes(600)), &pool(5_000, u64::MAX)), Bytes(1_000));
    }

    #[test]
    fn overcommit_rounds_down_and_never_overflows() {
        let overcommit = Overcommit { vcpu_percent: 150, memory_percent: 100 };
        assert_eq!(overcommit.vcpu(Vcpu(3)), Vcpu(4));
        assert_eq!(overcommit.memory(MiB(7)), MiB(7));
        let most = Overcommit { vcpu_percent: 1_600, memory_percent: 1_600 }.check().unwrap();
        assert_eq!(most.vcpu(Vcpu(u32::MAX)), Vcpu(u32::MAX));
        assert_eq!(most.memory(MiB(u64::MAX)), MiB(u64::MAX));
        assert!(Overcommit { vcpu_percent: 0, memory_percent: 100 }.check().is_err());
    }
}
