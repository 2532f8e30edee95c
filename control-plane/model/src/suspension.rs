//! Suspensions at a time that a node carries out whoever can be reached then.

use jiff::Timestamp;
use nemordp_types::{InstanceId, NodeId, OperationId};
use serde::{Deserialize, Serialize};

use crate::words;

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

/// An instance that is to be switched off at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// Which.
    pub instance_id: InstanceId,
    /// By what the node knows it.
    pub operation_id: OperationId,
    /// When.
    pub at: Timestamp,
    /// How far it is.
    pub state: SuspensionState,
    /// The node that was told.
    pub node_id: Option<NodeId>,
}
