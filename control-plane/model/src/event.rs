//! What is told to the outside: one event for each change of an order, an instance or a node, written with the change.

use jiff::Timestamp;
use nemordp_types::{EventId, InstanceId, NodeId, OrderId, TenantId};
use serde::{Deserialize, Serialize};

use crate::order::OrderState;
use crate::words;

words! {
    /// What happened. Words are never reused for another meaning.
    EventKind {
        /// Capacity is reserved for an order.
        OrderAccepted = "order.accepted",
        /// Its instance is being built.
        OrderProvisioning = "order.provisioning",
        /// The login was proven.
        OrderActive = "order.active",
        /// The customer called it off.
        OrderCancelling = "order.cancelling",
        /// Nothing could take it.
        OrderRefused = "order.refused",
        /// It did not work.
        OrderFailed = "order.failed",
        /// It was called off and undone.
        OrderCancelled = "order.cancelled",
        /// An instance exists for an order.
        InstanceCreated = "instance.created",
        /// It was placed on another node.
        InstancePlacedAgain = "instance.placed_again",
        /// It was handed over.
        InstanceActive = "instance.active",
        /// What is wanted of it changed.
        InstanceChanged = "instance.changed",
        /// Until when it is paid for was changed.
        InstanceRenewed = "instance.renewed",
        /// A change of it did not work and was taken back.
        InstanceReverted = "instance.reverted",
        /// It is being removed.
        InstanceDeleting = "instance.deleting",
        /// It is gone.
        InstanceDeleted = "instance.deleted",
        /// It was never handed over.
        InstanceFailed = "instance.failed",
        /// Its reservation, port and address were given back.
        InstanceReleased = "instance.released",
        /// Its node may know more of it than the store: nothing is done to it until that is settled.
        InstanceFrozen = "instance.frozen",
        /// Its node knows nothing that the store does not: work on it goes on.
        InstanceVerified = "instance.verified",
        /// The operator took its node's word for it: work on it goes on.
        InstanceAdopted = "instance.adopted",
        /// Its node sees another power than before.
        InstancePowerSeen = "instance.power_seen",
        /// Its node does not have it any more.
        InstanceLost = "instance.lost",
        /// Its node has it again.
        InstanceFound = "instance.found",
        /// Its credentials were shown; nobody has them any more.
        CredentialsRevealed = "credentials.revealed",
        /// A node joined, or joined again.
        NodeEnrolled = "node.enrolled",
        /// The operator changed what is wanted of a node.
        NodePolicyChanged = "node.policy_changed",
        /// What is sold of a node, the certificate that it shows, or what it says of itself changed.
        NodeChanged = "node.changed",
        /// A node came, went silent or was lost.
        NodeAvailabilityChanged = "node.availability_changed",
        /// A node reports less than is reserved on it.
        NodeOversold = "node.oversold",
        /// Two agents were found to speak for a node: its certificate was copied.
        NodeDoubled = "node.doubled",
        /// A node's clock went wrong, or right again.
        NodeClockSkewed = "node.clock_skewed",
        /// A certificate was revoked.
        CertificateRevoked = "certificate.revoked",
        /// A ticket came again with another key.
        TicketReused = "ticket.reused",
        /// An undo failed; a human looks.
        SagaStuck = "saga.stuck",
        /// The operator changed what is held for a scarce plan.
        ReserveChanged = "reserve.changed",
        /// The store was put back from a backup.
        StoreRestored = "store.restored",
        /// A human gave a stuck saga up.
        SagaAbandoned = "saga.abandoned",
    }
}

impl From<OrderState> for EventKind {
    fn from(state: OrderState) -> Self {
        match state {
            OrderState::Accepted => Self::OrderAccepted,
            OrderState::Provisioning => Self::OrderProvisioning,
            OrderState::Active => Self::OrderActive,
            OrderState::Cancelling => Self::OrderCancelling,
            OrderState::Refused => Self::OrderRefused,
            OrderState::Failed => Self::OrderFailed,
            OrderState::Cancelled => Self::OrderCancelled,
        }
    }
}

/// An event as it is stored until it was delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its place in the order in which events are read.
    pub number: u64,
    /// Its id; the receiver tells repetitions by it.
    pub id: EventId,
    /// What happened.
    pub kind: EventKind,
    /// Whose customer it concerns.
    pub tenant_id: Option<TenantId>,
    /// Which order.
    pub order_id: Option<OrderId>,
    /// Which instance.
    pub instance_id: Option<InstanceId>,
    /// Which node.
    pub node_id: Option<NodeId>,
    /// More about it; never a secret.
    pub body: serde_json::Value,
    /// When it happened.
    pub created_at: Timestamp,
    /// When every receiver had it.
    pub delivered_at: Option<Timestamp>,
}
