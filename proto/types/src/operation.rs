//! One mutation on a node, from the moment it was accepted to its outcome.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::fencing::Mutation;

/// What an agent operation does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationKind {
    /// Brings an instance to what its specification wants.
    EnsureInstance,
    /// Changes its power.
    PowerInstance,
    /// Removes it with all that belongs to it, and leaves a tombstone.
    DeleteInstance,
    /// Sets an account's password.
    SetPassword,
    /// Ends an account's sessions.
    EndSessions,
}

impl OperationKind {
    /// The word that stands in metrics, logs and the journal.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::EnsureInstance => "ensure_instance",
            Self::PowerInstance => "power_instance",
            Self::DeleteInstance => "delete_instance",
            Self::SetPassword => "set_password",
            Self::EndSessions => "end_sessions",
        }
    }
}

/// How far an agent operation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Accepted, waits for its turn.
    Queued,
    /// Fetches the template from the control plane.
    Template,
    /// Clones and grows the disk.
    Disk,
    /// Writes the seed and defines the domain.
    Define,
    /// Sets forwarding and isolation.
    Network,
    /// Boots.
    Start,
    /// Waits until the guest agent answers.
    GuestAgent,
    /// Waits until the guest has its address.
    Address,
    /// Sets name, time zone, keyboard, account.
    Personalise,
    /// Waits until something answers RDP inside.
    RdpAnswer,
    /// Sets the password.
    Password,
    /// Ends sessions.
    Sessions,
    /// Changes power.
    Power,
    /// Removes.
    Remove,
    /// Over.
    Finished,
}

impl Stage {
    /// The word that stands in events, metrics and logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Template => "template",
            Self::Disk => "disk",
            Self::Define => "define",
            Self::Network => "network",
            Self::Start => "start",
            Self::GuestAgent => "guest_agent",
            Self::Address => "address",
            Self::Personalise => "personalise",
            Self::RdpAnswer => "rdp_answer",
            Self::Password => "password",
            Self::Sessions => "sessions",
            Self::Power => "power",
            Self::Remove => "remove",
            Self::Finished => "finished",
        }
    }
}

/// Whether an agent operation is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state", content = "failure")]
pub enum OperationState {
    /// Under way.
    Running,
    /// Done; asking for it again returns this.
    Succeeded,
    /// Did not work; asking for it again runs it again.
    Failed(Failure),
}

/// An agent operation as the node reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// Its id, whom it concerns, with which numbers.
    pub mutation: Mutation,
    /// What it does.
    pub kind: OperationKind,
    /// How far it is.
    pub stage: Stage,
    /// Progress of the stage in percent, where the stage can tell.
    pub percent: Option<u8>,
    /// Whether it is over.
    pub state: OperationState,
    /// When the node accepted it.
    pub accepted_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}
