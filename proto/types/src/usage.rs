//! What an instance used, as its node counted it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::id::{InstanceId, MeterId};

/// What one instance used in a stretch of time. `(instance_id, meter_id, sequence)` names it: reported again it is the
/// same, never more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageEntry {
    /// Who used it.
    pub instance_id: InstanceId,
    /// Whose count.
    pub meter_id: MeterId,
    /// Which entry of that count; the first is 1.
    pub sequence: u64,
    /// Beginning of the stretch.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
    /// Received by the guest, bytes.
    pub received_bytes: u64,
    /// Sent by the guest, bytes.
    pub sent_bytes: u64,
    /// How long it ran, milliseconds.
    pub running_ms: u64,
}

/// Everything of a count up to this entry was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UsageReceipt {
    /// Whose use.
    pub instance_id: InstanceId,
    /// Which count.
    pub meter_id: MeterId,
    /// The last entry that was written down.
    pub sequence: u64,
}
