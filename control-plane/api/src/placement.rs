//! Why an order went where it went, and where it would go if the fleet were another one.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nemordp_types::{GiB, InstanceId, MiB, NodeId, OrderId, PlanName, RegionName, StorageClass, TemplateName, Vcpu};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::capacity::CapacityChange;
use crate::gpu::Gpus;

/// How one node fared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PlacementNode {
    /// Which node.
    #[schema(value_type = String, format = "uuid")]
    pub node_id: NodeId,
    /// How operators call it; absent when it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The sum of the terms, in millionths; the lowest wins. Absent when the node refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<u64>,
    /// What the score is made of, in millionths.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub terms: BTreeMap<String, u64>,
    /// Why it did not take the order, a word of a closed list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
}

/// A decision. The nodes are the operator's affair: other keys see how many refused, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Placement {
    /// Whether a node takes the order.
    pub placed: bool,
    /// Which one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub node_id: Option<NodeId>,
    /// SHA-256 over all that the decision saw (hex): the same digest, the same decision.
    pub snapshot: String,
    /// How many nodes refused, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// What a customer may be told when no node takes the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The nodes, the best first, then those that refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<PlacementNode>,
}

/// An order's placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderPlacement {
    /// Which order.
    #[schema(value_type = String, format = "uuid")]
    pub order_id: OrderId,
    /// Where its instance lies; with the operator's keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub node_id: Option<NodeId>,
    /// The decision that was kept with the order: its ten best nodes and the count of each refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided: Option<Placement>,
    /// What the same request would be told now, of every node.
    pub now: Placement,
}

/// Machines that could be bought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SupposedNode {
    /// A node that they would be like, but empty; instead of the amounts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub like: Option<NodeId>,
    /// Where they would stand; the region of the question when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub region: Option<RegionName>,
    /// Processors that each has to sell, overcommit included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>)]
    pub vcpu: Option<Vcpu>,
    /// Memory that each has to sell, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub memory_mib: Option<MiB>,
    /// Disk that each has to sell, GiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub disk_gib: Option<GiB>,
    /// What kind of storage that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub storage_class: Option<StorageClass>,
    /// GPUs that each has, with their model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Gpus>,
    /// How many of them; one when absent.
    #[serde(default = "one")]
    #[schema(default = 1, minimum = 1, maximum = 1000)]
    pub count: u32,
}

const fn one() -> u32 {
    1
}

/// A plan that could be sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SupposedPlan {
    /// Its name; one that is sold already is replaced.
    #[schema(value_type = String)]
    pub name: PlanName,
    /// Processors.
    #[schema(value_type = u32)]
    pub vcpu: Vcpu,
    /// Memory, MiB.
    #[schema(value_type = u64)]
    pub memory_mib: MiB,
    /// Disk, GiB.
    #[schema(value_type = u64)]
    pub disk_gib: GiB,
    /// The kind of storage that the disk lies on.
    #[schema(value_type = String)]
    pub storage_class: StorageClass,
    /// GPUs; none when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Gpus>,
    /// Orders of it that are expected in a month.
    #[serde(default)]
    pub orders: u64,
}

/// A question: where would an order go, and how many more would fit, if the fleet were another one?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "region": "fsn1", "plan": "basic",
    "add_nodes": [{ "vcpu": 64, "memory_mib": 131_072, "disk_gib": 1_920, "storage_class": "nvme", "count": 2 }],
}))]
pub struct WhatIfRequest {
    /// Where the order would be placed.
    #[schema(value_type = String)]
    pub region: RegionName,
    /// What would be ordered.
    #[schema(value_type = String)]
    pub plan: PlanName,
    /// What it would be made from; no node has to fetch one when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub template: Option<TemplateName>,
    /// Until when it would be paid for; not known when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paid_until: Option<Timestamp>,
    /// Machines more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_nodes: Vec<SupposedNode>,
    /// Machines less.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub remove_nodes: Vec<NodeId>,
    /// Plans more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_plans: Vec<SupposedPlan>,
    /// Plans less.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub remove_plans: Vec<PlanName>,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhatIf {
    /// The decision on the fleet as it is.
    pub now: Placement,
    /// The decision on the supposed fleet.
    pub then: Placement,
    /// How many more of each plan fit now and would fit then.
    pub capacity: Vec<CapacityChange>,
    /// When no node takes the order now: the fewest moves of delivered instances that would make room. A proposal; nothing
    /// is moved. Absent when a node takes it, or a few moves do not suffice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub room_by_moving: Option<MovePlan>,
}

/// Moves that would make room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MovePlan {
    /// The moves, in the order in which each finds room.
    pub moves: Vec<InstanceMove>,
    /// The node that would take the order then.
    #[schema(value_type = String, format = "uuid")]
    pub node_id: NodeId,
}

/// One instance that would go to another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceMove {
    /// Which.
    #[schema(value_type = String, format = "uuid")]
    pub instance_id: InstanceId,
    /// Where it lies.
    #[schema(value_type = String, format = "uuid")]
    pub from_node: NodeId,
    /// Where it would go.
    #[schema(value_type = String, format = "uuid")]
    pub to_node: NodeId,
}
