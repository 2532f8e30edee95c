//! Suspensions at a time.

use jiff::Timestamp;
use nemordp_types::InstanceId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::word::words;

words! {
    /// How far a scheduled suspension is.
    SuspensionState {
        /// The node is to be told.
        Wanted = "wanted",
        /// The node knows, and does it at its time.
        Placed = "placed",
        /// The node is to be told that it is not wanted any more.
        Cancelling = "cancelling",
    }
}

/// A suspension to schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSuspension {
    /// When the instance is to be suspended.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// A suspension that is scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Suspension {
    /// Which instance.
    #[schema(value_type = String, format = "uuid")]
    pub instance_id: InstanceId,
    /// When it is suspended.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// How far it is.
    pub state: SuspensionState,
}
