//! What happened.

use jiff::Timestamp;
use nemordp_types::{EventId, InstanceId, NodeId, OrderId, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::page;

/// One change of an order, an instance or a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Its place in the order in which events are read; grows, with gaps for a filtered reader.
    pub number: u64,
    /// Its id; the receiver tells repetitions by it.
    #[schema(value_type = String, format = "uuid")]
    pub id: EventId,
    /// What happened.
    #[schema(example = "order.active")]
    pub kind: String,
    /// Whose customer it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub tenant_id: Option<TenantId>,
    /// Which order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub order_id: Option<OrderId>,
    /// Which instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub instance_id: Option<InstanceId>,
    /// Which node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "uuid")]
    pub node_id: Option<NodeId>,
    /// More about it.
    #[schema(value_type = Object)]
    pub body: serde_json::Value,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

page! {
    /// A page of events.
    EventPage of Event
}
