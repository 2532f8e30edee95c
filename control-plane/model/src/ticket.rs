//! Enrollment tickets: one machine, one key, until a time.

use jiff::Timestamp;
use nemordp_types::{NodeId, RegionName, TicketId};
use serde::{Deserialize, Serialize};

use crate::node::Overcommit;

/// A ticket as it is stored: its secret only as a hash, which stays in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    /// Its id.
    pub id: TicketId,
    /// The region that the node will stand in.
    pub region: RegionName,
    /// How much more will be sold than the node has.
    pub overcommit: Overcommit,
    /// The node that is enrolled again, when its certificate is lost or expired; none for a new machine.
    pub bound_node_id: Option<NodeId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it stops to be good.
    pub expires_at: Timestamp,
    /// When it was used first.
    pub used_at: Option<Timestamp>,
    /// The node that used it.
    pub used_by: Option<NodeId>,
}
