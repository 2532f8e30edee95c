//! Suspensions that happen on a node at their time, whoever can be reached then.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::fencing::Mutation;
use crate::id::{InstanceId, OperationId};

/// A suspension as its node keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduledSuspension {
    /// Who wanted it, with which numbers.
    pub mutation: Mutation,
    /// When the instance is switched off.
    pub at: Timestamp,
    /// When it was; what was done waits here until the control plane has heard of it.
    pub done_at: Option<Timestamp>,
}

/// A node's word that a scheduled suspension has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SuspensionReport {
    /// Whose.
    pub instance_id: InstanceId,
    /// Which: the operation that scheduled it.
    pub operation_id: OperationId,
    /// When.
    pub done_at: Timestamp,
}
