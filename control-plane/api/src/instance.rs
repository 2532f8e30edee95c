//! The customer's desktop.

use jiff::Timestamp;
use nemordp_types::{GiB, HostName, InstanceId, LoginName, MiB, NodeId, OrderId, TemplateName, Vcpu};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::gpu::Gpus;
use crate::order::Affinity;
use crate::page::page;
use crate::word::words;

words! {
    /// Where an instance is in its life.
    InstanceLifecycle {
        /// Being built.
        Provisioning = "provisioning",
        /// Handed over.
        Active = "active",
        /// Being removed.
        Deleting = "deleting",
        /// Gone.
        Deleted = "deleted",
        /// Was never handed over; what was built of it is gone.
        Failed = "failed",
    }
}

words! {
    /// What its node last saw of its power.
    InstancePower {
        /// Nothing was reported yet.
        Unknown = "unknown",
        /// It does not exist on the node.
        Absent = "absent",
        /// Off.
        Off = "off",
        /// Running.
        Running = "running",
        /// Paused, for example on a full disk.
        Paused = "paused",
        /// Crashed.
        Failed = "failed",
    }
}

words! {
    /// Why nothing is done to an instance after a restore.
    InstanceFreeze {
        /// Its node has not reported since.
        Unverified = "unverified",
        /// Its node has seen newer changes than the store remembers.
        StoreBehind = "store_behind",
        /// Work on it was under way when the backup was made, and may have ended since.
        Undecided = "undecided",
        /// Its node does not have it.
        Missing = "missing",
    }
}

words! {
    /// How a frozen instance is settled.
    AdoptionHow {
        /// It is as its node has it; what was under way, but for a deletion, is given up.
        Keep = "keep",
        /// The customer has it already: its order is fulfilled.
        Delivered = "delivered",
        /// What was under way goes on; an order may be undone by that.
        Resume = "resume",
        /// It does not exist any more: what it held is given back.
        Gone = "gone",
    }
}

/// How a frozen instance is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAdoption {
    /// The decision.
    pub how: AdoptionHow,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// Its id; the same across restarts and moves.
    #[schema(value_type = String, format = "uuid")]
    pub id: InstanceId,
    /// The order it fulfils.
    #[schema(value_type = String, format = "uuid")]
    pub order_id: OrderId,
    /// Where it is in its life.
    pub lifecycle: InstanceLifecycle,
    /// What its node last saw of its power.
    pub power: InstancePower,
    /// Whether it is meant to run.
    pub wanted_on: bool,
    /// Since when it is suspended: off the network and off power, and kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub suspended_at: Option<Timestamp>,
    /// When it is to be deleted; off until then, and can be restored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub delete_after: Option<Timestamp>,
    /// Until when it is paid for; absent where nobody said. Nothing happens then by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paid_until: Option<Timestamp>,
    /// Whether it is meant to run its rescue system.
    #[serde(default)]
    pub rescued: bool,
    /// Address at which an RDP client connects.
    #[schema(example = "203.0.113.7")]
    pub endpoint_address: String,
    /// TCP port at which an RDP client connects.
    #[schema(example = 20001)]
    pub endpoint_port: u16,
    /// Who logs in.
    #[schema(value_type = String)]
    pub login_name: LoginName,
    /// Name of the guest.
    #[schema(value_type = String)]
    pub host_name: HostName,
    /// Processors.
    #[schema(value_type = u32)]
    pub vcpu: Vcpu,
    /// Memory, MiB.
    #[schema(value_type = u64)]
    pub memory_mib: MiB,
    /// Disk, GiB.
    #[schema(value_type = u64)]
    pub disk_gib: GiB,
    /// GPUs, of the model that it was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<Gpus>,
    /// What it was made from.
    #[schema(value_type = String)]
    pub template: TemplateName,
    /// The node it is on; shown to operators only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub node_id: Option<NodeId>,
    /// Whom it belongs together with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement_group: Option<String>,
    /// Where the others of the group should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// SHA-256 of the RDP server's certificate that the login proof saw, in hex: what a client should show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rdp_certificate_sha256: Option<String>,
    /// Why nothing is done to it: the store was restored from a backup, and the operator settles it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<InstanceFreeze>,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub frozen_at: Option<Timestamp>,
    /// When it last started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When its node reported that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub observed_at: Option<Timestamp>,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// Until when an instance is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "paid_until": "2027-01-31T00:00:00Z" }))]
pub struct PaidUntil {
    /// The time; `null` when it is not known any more.
    #[serde(deserialize_with = "Option::deserialize")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paid_until: Option<Timestamp>,
}

/// What an instance has used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceUsage {
    /// Received over the network, bytes.
    pub received_bytes: u64,
    /// Sent over the network, bytes.
    pub sent_bytes: u64,
    /// How long it ran, seconds.
    pub running_seconds: u64,
    /// Until when this is known; absent before its node has reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
}

/// Another name for the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenameInstance {
    /// Name of the guest: letters, digits and hyphens.
    #[schema(value_type = String, example = "desk-7")]
    pub host_name: HostName,
}

/// A larger size; what is absent stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResizeInstance {
    /// Processors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, example = 4)]
    pub vcpu: Option<Vcpu>,
    /// Memory, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, example = 8192)]
    pub memory_mib: Option<MiB>,
    /// Disk, GiB; the guest's file system grows with it at the next boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>, example = 100)]
    pub disk_gib: Option<GiB>,
}

/// A fresh disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReinstallInstance {
    /// What it is made from; the template that the instance was made from when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "debian-12-xrdp")]
    pub template: Option<TemplateName>,
}

page! {
    /// A page of instances.
    InstancePage of Instance
}
