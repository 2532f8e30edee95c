//! What is sold.

use jiff::Timestamp;
use nemordp_types::{GiB, MiB, PlanName, StorageClass, Vcpu};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::gpu::Gpus;
use crate::page::page;

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// Its name; orders use it.
    #[schema(value_type = String, example = "basic")]
    pub name: PlanName,
    /// Processors.
    #[schema(value_type = u32, example = 2)]
    pub vcpu: Vcpu,
    /// Memory, MiB.
    #[schema(value_type = u64, example = 4096)]
    pub memory_mib: MiB,
    /// Disk, GiB.
    #[schema(value_type = u64, example = 50)]
    pub disk_gib: GiB,
    /// The kind of storage that the disk lies on.
    #[schema(value_type = String, example = "nvme")]
    pub storage_class: StorageClass,
    /// GPUs, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Gpus>,
    /// Labels that a node must have to take it.
    #[serde(default)]
    pub labels: Vec<String>,
    /// Whether new orders may name it.
    pub on_sale: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A plan to make, or to change where its name is there already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPlan {
    /// Its name.
    #[schema(value_type = String, example = "basic")]
    pub name: PlanName,
    /// Processors.
    #[schema(value_type = u32, example = 2)]
    pub vcpu: Vcpu,
    /// Memory, MiB.
    #[schema(value_type = u64, example = 4096)]
    pub memory_mib: MiB,
    /// Disk, GiB.
    #[schema(value_type = u64, example = 50)]
    pub disk_gib: GiB,
    /// The kind of storage that the disk lies on.
    #[schema(value_type = String, example = "nvme")]
    pub storage_class: StorageClass,
    /// GPUs; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Gpus>,
    /// Labels that a node must have to take it, 32 at most; any node will do without. Later orders follow a change,
    /// instances that were ordered keep what was asked for then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
    /// Whether new orders may name it.
    #[serde(default = "on_sale")]
    #[schema(default = true)]
    pub on_sale: bool,
}

const fn on_sale() -> bool {
    true
}

page! {
    /// A page of plans.
    PlanPage of Plan
}
