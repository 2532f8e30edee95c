//! How far an intention is: one saga and its steps.
//!
//! ```text
//! running ──► done
//!    └──► unwinding ──► unwound | cancelled (it was asked for)
//!              └──► stuck (an undo failed; a human looks) ──► running | unwinding | unwound
//! ```

use jiff::Timestamp;
use nemordp_types::{Failure, Fence, InstanceId, OrderId, SagaId, TenantId};
use serde::{Deserialize, Serialize};

use crate::words;

words! {
    /// What a saga intends.
    SagaKind {
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
        /// Brings its node back in line with what is wanted of it.
        Realign = "realign",
        /// Removes it.
        Delete = "delete",
    }
}

words! {
    /// Where a saga is.
    SagaStatus {
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
        /// An undo failed; a human looks.
        Stuck = "stuck",
    }
}

impl SagaKind {
    /// Whether it goes on however long a node stays away, and is never taken back: what removes an instance or takes it
    /// off the network wins in the end, and what changes no wish has nothing to take back.
    #[must_use]
    pub const fn is_patient(self) -> bool {
        match self {
            Self::Delete | Self::DeleteLater | Self::Suspend | Self::Realign => true,
            Self::Provision
            | Self::Start
            | Self::Stop
            | Self::Restart
            | Self::Reset
            | Self::PasswordReset
            | Self::Reinstall
            | Self::Resize
            | Self::Rename
            | Self::Unsuspend
            | Self::Rescue
            | Self::Unrescue
            | Self::Restore => false,
        }
    }

    /// Whether it makes a new password, which nobody may be shown unless it was proven.
    #[must_use]
    pub const fn makes_password(self) -> bool {
        match self {
            Self::Provision | Self::PasswordReset | Self::Reinstall | Self::Rescue => true,
            Self::Start
            | Self::Stop
            | Self::Restart
            | Self::Reset
            | Self::Resize
            | Self::Rename
            | Self::Suspend
            | Self::Unsuspend
            | Self::Unrescue
            | Self::DeleteLater
            | Self::Restore
            | Self::Realign
            | Self::Delete => false,
        }
    }
}

impl SagaKind {
    /// Whether the password that is sealed may not open the guest any more when it ends half-way: it is forgotten then.
    #[must_use]
    pub const fn voids_password(self) -> bool {
        self.makes_password() || matches!(self, Self::Unrescue)
    }
}

impl SagaStatus {
    /// Whether a replica has to work on it.
    #[must_use]
    pub const fn is_open(self) -> bool {
        match self {
            Self::Running | Self::Unwinding => true,
            Self::Done | Self::Unwound | Self::Cancelled | Self::Stuck => false,
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

/// A step as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SagaStep {
    /// Its place, from 0.
    pub position: u32,
    /// Its name.
    pub name: String,
    /// Where it is.
    pub state: StepState,
    /// How often it was tried.
    pub attempts: u32,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// How far it is, where it can tell.
    pub percent: Option<u8>,
    /// What it does now, in words that anybody may read.
    pub detail: Option<String>,
    /// Why it did not work last time.
    pub failure: Option<Failure>,
}

/// A saga with its steps: the operation that HTTP shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saga {
    /// Its id.
    pub id: SagaId,
    /// What it intends.
    pub kind: SagaKind,
    /// Where it is.
    pub status: SagaStatus,
    /// The step it is at.
    pub step: u32,
    /// How often it was leased.
    pub attempt: u32,
    /// Raised each time it changes hands.
    pub fence: Fence,
    /// Who works on it.
    pub lease_owner: Option<String>,
    /// Until when.
    pub lease_until: Option<Timestamp>,
    /// Not before.
    pub next_run_at: Timestamp,
    /// When somebody asked to stop.
    pub cancel_requested_at: Option<Timestamp>,
    /// Why it is undone.
    pub failure: Option<Failure>,
    /// Whose.
    pub tenant_id: TenantId,
    /// The order it is about.
    pub order_id: Option<OrderId>,
    /// The instance it is about.
    pub instance_id: Option<InstanceId>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it last moved.
    pub updated_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// Its steps in order.
    pub steps: Vec<SagaStep>,
}

impl Saga {
    /// Where a stuck saga goes on, with its steps read: where it was when it stuck.
    #[must_use]
    pub fn resumes(&self) -> SagaStatus {
        let undoes = self.steps.iter().any(|step| step.position == self.step && step.state == StepState::Undoing);
        if undoes { SagaStatus::Unwinding } else { SagaStatus::Running }
    }
}
