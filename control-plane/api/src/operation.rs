//! Long work and its steps.

use jiff::Timestamp;
use nemordp_types::{InstanceId, OrderId, SagaId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::{Fault, page};
use crate::word::words;

words! {
    /// What an operation intends.
    OperationKind {
        /// An order becomes a proven desktop.
        Provision = "provision",
        /// Boots an instance.
        Start = "start",
        /// Shuts it down.
        Stop = "stop",
        /// Reboots it.
        Restart = "restart",
        /// Cuts the power and boots.
        Reset = "reset",
        /// Gives it a new password.
        PasswordReset = "password_reset",
        /// Gives it a fresh disk.
        Reinstall = "reinstall",
        /// Changes its size.
        Resize = "resize",
        /// Changes its name.
        Rename = "rename",
        /// Takes it off the network and off power, keeping it.
        Suspend = "suspend",
        /// Takes that back.
        Unsuspend = "unsuspend",
        /// Boots a rescue system.
        Rescue = "rescue",
        /// Boots from its own disk again.
        Unrescue = "unrescue",
        /// Turns it off until it is to be removed.
        DeleteLater = "delete_later",
        /// Takes that back.
        Restore = "restore",
        /// Brings its node back in line with what is wanted of it: begun by the control plane itself.
        Realign = "realign",
        /// Removes it.
        Delete = "delete",
    }
}

words! {
    /// Where an operation is.
    OperationStatus {
        /// Its steps run.
        Running = "running",
        /// Its steps are undone.
        Unwinding = "unwinding",
        /// All steps ran.
        Done = "done",
        /// All was undone, because a step failed.
        Unwound = "unwound",
        /// All was undone, because somebody asked.
        Cancelled = "cancelled",
        /// An undo failed; the operator looks.
        Stuck = "stuck",
    }
}

impl OperationStatus {
    /// Whether it is over.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Running | Self::Unwinding => false,
            Self::Done | Self::Unwound | Self::Cancelled | Self::Stuck => true,
        }
    }
}

words! {
    /// Where a step is.
    StepState {
        /// Not begun.
        Pending = "pending",
        /// Runs, or waits for its next attempt.
        Running = "running",
        /// Ran.
        Done = "done",
        /// Did not work.
        Failed = "failed",
        /// Is being undone.
        Undoing = "undoing",
        /// Undone.
        Undone = "undone",
        /// Was not needed.
        Skipped = "skipped",
    }
}

/// One step of an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationStep {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub state: StepState,
    /// How often it was tried.
    pub attempts: u32,
    /// How far it is, percent, where it can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// What it does now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Why it did not work last time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Fault>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

/// Long work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Operation {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: SagaId,
    /// What it intends.
    pub kind: OperationKind,
    /// Where it is.
    pub status: OperationStatus,
    /// Why it was undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Fault>,
    /// The order it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub order_id: Option<OrderId>,
    /// The instance it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub instance_id: Option<InstanceId>,
    /// Its steps in order.
    pub steps: Vec<OperationStep>,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it last moved.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

page! {
    /// A page of operations.
    OperationPage of Operation
}
