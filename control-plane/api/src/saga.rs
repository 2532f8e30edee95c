//! Operations as operators see them: who works on one, and what can be done with one that is stuck.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::operation::Operation;
use crate::page::page;
use crate::word::words;

/// An operation with what only operators need to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Saga {
    /// What everybody sees of it.
    #[serde(flatten)]
    pub operation: Operation,
    /// The step that it is at, from 0.
    pub step: u32,
    /// How often a replica took it up.
    pub leases: u32,
    /// Raised each time it changes hands; nodes refuse lower ones.
    pub fence: u64,
    /// The replica that works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_owner: Option<String>,
    /// Until when, without a sign of life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub lease_until: Option<Timestamp>,
    /// Not taken up before.
    #[schema(value_type = String, format = DateTime)]
    pub next_run_at: Timestamp,
    /// When somebody asked to stop it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub cancel_requested_at: Option<Timestamp>,
}

words! {
    /// Where a stuck saga goes on.
    SagaDirection {
        /// Its steps run again.
        Forward = "forward",
        /// Its steps are undone.
        Back = "back",
    }
}

/// Lets a stuck saga go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SagaRetry {
    /// Where to; as it was going when it stuck when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<SagaDirection>,
}

/// Gives a stuck saga up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SagaAbandon {
    /// That nothing of it is left on any node; must be true.
    pub cleaned_up: bool,
}

page! {
    /// A page of sagas; without their steps.
    SagaPage of Saga
}
