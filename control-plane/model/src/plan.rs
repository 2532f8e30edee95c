//! What is sold.

use std::collections::BTreeSet;

use jiff::Timestamp;
use nemordp_types::{Bytes, Failure, GiB, MiB, PlanName, Reason, StorageClass, Template, Vcpu};
use serde::{Deserialize, Serialize};

use crate::label::Label;
use crate::placement::{Demand, GpuDemand, not_too_many};

/// The largest amounts that a plan may have: beyond any machine, and far from every overflow.
const VCPU_MAX: Vcpu = Vcpu(4_096);
const MEMORY_MAX: MiB = MiB(64 << 20);
const DISK_MAX: GiB = GiB(1 << 20);
/// More than any machine has slots for.
const GPUS_MAX: u32 = 64;
/// Below this no guest system boots.
const MEMORY_MIN: MiB = MiB(64);

/// A plan: the shape of an instance, and whether it can be ordered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Its name; orders use it.
    pub name: PlanName,
    /// Processors.
    pub vcpu: Vcpu,
    /// Memory.
    pub memory: MiB,
    /// Size of the disk.
    pub disk: GiB,
    /// The kind of storage that the disk lies on.
    pub storage_class: StorageClass,
    /// GPUs.
    #[serde(default)]
    pub gpus: Option<GpuDemand>,
    /// Labels that a node must have to take it.
    #[serde(default)]
    pub labels: BTreeSet<Label>,
    /// Whether new orders may name it.
    pub on_sale: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Plan {
    /// Refuses amounts of zero, amounts that no machine has, and too many labels; the error names the field.
    pub fn check(&self) -> Result<(), Failure> {
        if self.vcpu == Vcpu::ZERO || self.vcpu > VCPU_MAX {
            return Err(Failure::field("vcpu", format!("use 1 to {} processors", VCPU_MAX.0)));
        }
        if self.memory < MEMORY_MIN || self.memory > MEMORY_MAX {
            return Err(Failure::field("memory_mib", format!("use {} to {} MiB", MEMORY_MIN.0, MEMORY_MAX.0)));
        }
        if self.disk == GiB::ZERO || self.disk > DISK_MAX {
            return Err(Failure::field("disk_gib", format!("use 1 to {} GiB", DISK_MAX.0)));
        }
        if self.gpus.as_ref().is_some_and(|gpus| !(1..=GPUS_MAX).contains(&gpus.count)) {
            return Err(Failure::field("gpus.count", format!("use 1 to {GPUS_MAX} GPUs, or leave them out")));
        }
        not_too_many(&self.labels, "labels")
    }

    /// What an instance of it takes of a node.
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

    /// Refuses a template whose disk is larger than the plan's.
    pub fn holds(&self, template: &Template) -> Result<(), Failure> {
        if Bytes::from(self.disk) >= template.virtual_size {
            return Ok(());
        }
        let needed = template.virtual_size.to_gib_ceil();
        Err(Failure::new(
            Reason::DiskTooSmall,
            format!(
                "the disk of plan {} has {}, template {} needs {needed}: choose a larger plan",
                self.name, self.disk, template.name
            ),
        )
        .with_field("plan"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(vcpu: u32, memory: u64, disk: u64) -> Plan {
        Plan {
            name: PlanName::new("basic").unwrap(),
            vcpu: Vcpu(vcpu),
            memory: MiB(memory),
            disk: GiB(disk),
            storage_class: StorageClass::new("nvme").unwrap(),
            gpus: None,
            labels: BTreeSet::new(),
            on_sale: true,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn amounts_of_zero_and_beyond_any_machine_name_their_field() {
        assert!(plan(2, 4096, 50).check().is_ok());
        for (bad, field) in [
            (plan(0, 4096, 50), "vcpu"),
            (plan(u32::MAX, 4096, 50), "vcpu"),
            (plan(2, 0, 50), "memory_mib"),
            (plan(2, u64::MAX, 50), "memory_mib"),
            (plan(2, 4096, 0), "disk_gib"),
            (plan(2, 4096, u64::MAX), "disk_gib"),
        ] {
            assert_eq!(bad.check().unwrap_err().field.as_deref(), Some(field));
        }
        let with_gpus = |count| Plan { gpus: Some(GpuDemand { count, model: None }), ..plan(2, 4096, 50) };
        assert!(with_gpus(1).check().is_ok());
        for count in [0, 65] {
            assert_eq!(with_gpus(count).check().unwrap_err().field.as_deref(), Some("gpus.count"));
        }
    }

    #[test]
    fn a_template_larger_than_the_disk_is_refused_with_what_it_needs() {
        let template: Template = serde_json::from_value(serde_json::json!({
            "name": "debian", "digest": format!("sha256:{}", "0".repeat(64)), "file_size": 1,
            "virtual_size": (3u64 << 30) + 1, "rdp_security": "tls", "personalisation": "guest_agent",
            "login_name": "user",
        }))
        .unwrap();
        assert!(plan(2, 4096, 4).holds(&template).is_ok());
        let failure = plan(2, 4096, 3).holds(&template).unwrap_err();
        assert_eq!(failure.reason, Reason::DiskTooSmall);
        assert!(failure.message.contains("needs 4 GiB"), "{}", failure.message);
    }
}
