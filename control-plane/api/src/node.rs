//! Machines that run the agent, and the tickets that let them in.

use std::fmt;

use jiff::Timestamp;
use nemordp_types::{Bytes, GiB, MiB, NodeId, RegionName, StorageClass, TemplateDigest, TenantId, TicketId, Vcpu};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::gpu::NodeGpus;
use crate::page::{Fault, page};
use crate::word::words;

words! {
    /// What the operator wants of a node.
    NodePolicy {
        /// Takes new instances.
        Active = "active",
        /// Takes no new ones; those it has stay.
        Cordoned = "cordoned",
        /// Cordoned, and its instances move away.
        Draining = "draining",
        /// Gone for good.
        Decommissioned = "decommissioned",
    }
}

words! {
    /// What is known of a node's life.
    NodeAvailability {
        /// Enrolled, no heartbeat yet.
        Unknown = "unknown",
        /// Heartbeats arrive.
        Available = "available",
        /// Heartbeats are late.
        Suspect = "suspect",
        /// No heartbeat for long.
        Lost = "lost",
        /// Made sure that it cannot act.
        Fenced = "fenced",
    }
}

/// How much more is sold than a node has, percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Overcommit {
    /// Processors; 200 sells each twice.
    #[schema(example = 200)]
    pub vcpu_percent: u32,
    /// Memory.
    #[schema(example = 100)]
    pub memory_percent: u32,
}

/// A storage pool of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodePool {
    /// What kind of storage.
    #[schema(value_type = String)]
    pub storage_class: StorageClass,
    /// Its size.
    #[schema(value_type = u64)]
    pub physical_bytes: Bytes,
    /// What is free now.
    #[schema(value_type = u64)]
    pub free_bytes: Bytes,
}

/// How loaded a node is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct NodeLoad {
    /// Share of the last ten seconds in which some task waited for a processor, percent.
    pub cpu_pressure_percent: f64,
    /// The same for memory.
    pub memory_pressure_percent: f64,
    /// The same for input and output.
    pub io_pressure_percent: f64,
    /// Clones under way.
    pub clones: u32,
    /// Share of processor time that the machine's own hypervisor took away, percent; absent where the node does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steal_percent: Option<f64>,
    /// How long a read or write of its slowest storage took, milliseconds; absent where the node does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk_latency_ms: Option<f64>,
}

words! {
    /// Where a template stands on a node.
    NodeTemplateState {
        /// On its way.
        Fetching = "fetching",
        /// Usable.
        Ready = "ready",
        /// Not usable; it is tried again.
        Failed = "failed",
    }
}

/// A template on a node, or on its way to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeTemplate {
    /// Which.
    #[schema(value_type = String, example = "sha256:9f86…")]
    pub digest: TemplateDigest,
    /// Where it stands.
    pub state: NodeTemplateState,
    /// What has arrived of it, while it is on its way.
    #[schema(value_type = u64)]
    pub fetched_bytes: Bytes,
    /// Why it is not usable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Fault>,
}

/// An operator's word that a node is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FenceNode {
    /// Must be true: the machine is off, and somebody has made sure that it stays off.
    pub confirmed_off: bool,
}

/// Labels to give a node and to take from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "add": ["nvme-gen5"], "remove": ["old-disks"] }))]
pub struct LabelNode {
    /// To give: each 1 to 128 printable characters; a node has 32 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<String>,
    /// To take away; one that the node does not have is no error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
}

/// What new instances do not get of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
#[schema(example = json!({ "vcpu": 8, "memory_mib": 32_768, "disk_gib": 400 }))]
pub struct HeldBack {
    /// Processors, of those that are sold; 0 when absent.
    #[schema(value_type = u32)]
    pub vcpu: Vcpu,
    /// Memory, MiB; 0 when absent.
    #[schema(value_type = u64)]
    pub memory_mib: MiB,
    /// Disk of each storage pool, GiB; 0 when absent.
    #[schema(value_type = u64)]
    pub disk_gib: GiB,
}

/// For whom a node is to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PinNode {
    /// The tenant's name.
    #[schema(example = "reseller")]
    pub tenant: String,
}

/// For whom a node is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodePin {
    /// The tenant's id.
    #[schema(value_type = String, format = "uuid")]
    pub tenant_id: TenantId,
    /// Its name.
    pub tenant: String,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Node {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: NodeId,
    /// How operators call it.
    pub name: String,
    /// Its region.
    #[schema(value_type = String)]
    pub region: RegionName,
    /// Where its agent listens.
    pub agent_address: String,
    /// What the operator wants of it.
    pub policy: NodePolicy,
    /// Why it takes no new instances, when the control plane itself cordoned it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_reason: Option<String>,
    /// What operators call it by; plans may ask for it.
    #[serde(default)]
    pub labels: Vec<String>,
    /// The only tenant whose instances it takes; absent when it takes everybody's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned_to: Option<NodePin>,
    /// What is known of its life.
    pub availability: NodeAvailability,
    /// How much more is sold than it has.
    pub overcommit: Overcommit,
    /// Version of its agent.
    pub agent_version: String,
    /// What lies beneath the agent.
    pub hypervisor: String,
    /// How guests are executed: `kvm`, `tcg`, `simulated`.
    pub acceleration: String,
    /// Processors of the machine.
    #[schema(value_type = u32)]
    pub vcpu: Vcpu,
    /// Processors reserved.
    #[schema(value_type = u32)]
    pub vcpu_reserved: Vcpu,
    /// Memory that instances may have, MiB.
    #[schema(value_type = u64)]
    pub memory_mib: MiB,
    /// Memory reserved, MiB.
    #[schema(value_type = u64)]
    pub memory_reserved_mib: MiB,
    /// Disk reserved.
    #[schema(value_type = u64)]
    pub disk_reserved_bytes: Bytes,
    /// Its storage.
    pub pools: Vec<NodePool>,
    /// Its GPUs, by model.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gpus: Vec<NodeGpus>,
    /// What new instances do not get of it, so that maintenance has room; absent when nothing is held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_back: Option<HeldBack>,
    /// Public address at which customers connect.
    pub endpoint_address: String,
    /// First port there.
    pub endpoint_first_port: u16,
    /// Last port there.
    pub endpoint_last_port: u16,
    /// How loaded it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<NodeLoad>,
    /// Templates on it and on their way to it.
    #[serde(default)]
    pub templates: Vec<NodeTemplate>,
    /// Seconds by which its clock is ahead of the control plane's; negative when it is behind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew_seconds: Option<f64>,
    /// When two agents were found to speak for it: its certificate was copied. It takes no new instances until it has
    /// enrolled again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub doubled_at: Option<Timestamp>,
    /// When its last heartbeat arrived.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_heartbeat_at: Option<Timestamp>,
    /// When it was enrolled.
    #[schema(value_type = String, format = DateTime)]
    pub enrolled_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// A ticket to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTicket {
    /// The region that the node will stand in.
    #[schema(value_type = String, example = "fsn1")]
    pub region: RegionName,
    /// How much more will be sold than the node has; the configured default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overcommit: Option<Overcommit>,
    /// The node that enrolls again, when its certificate is lost or expired; absent for a new machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub node_id: Option<NodeId>,
    /// How long it is good, minutes (1 to 10080); the configured default when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_minutes: Option<u32>,
}

/// A ticket, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Ticket {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: TicketId,
    /// The region that the node will stand in.
    #[schema(value_type = String)]
    pub region: RegionName,
    /// The node that enrolls again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub node_id: Option<NodeId>,
    /// Until when it is good.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// When it was used first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub used_at: Option<Timestamp>,
    /// The node that used it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub used_by: Option<NodeId>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A ticket that was just made. Its text is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedTicket {
    /// The ticket.
    #[serde(flatten)]
    pub ticket: Ticket,
    /// What the new node is given (`nrt1.…`); absent when this answer was given before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl fmt::Debug for CreatedTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedTicket").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

page! {
    /// A page of nodes.
    NodePage of Node
}

page! {
    /// A page of tickets.
    TicketPage of Ticket
}
