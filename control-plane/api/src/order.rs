//! What a customer bought.

use jiff::Timestamp;
use nemordp_types::{
    HostName, InstanceId, KeyboardLayout, OrderId, PlanName, RegionName, SagaId, TemplateName, TimeZoneName,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::{Fault, page};
use crate::word::words;

words! {
    /// How far an order is.
    OrderState {
        /// Capacity is reserved.
        Accepted = "accepted",
        /// Its instance is being built.
        Provisioning = "provisioning",
        /// The login was proven.
        Active = "active",
        /// Called off; what was built is being removed.
        Cancelling = "cancelling",
        /// Nothing could take it.
        Refused = "refused",
        /// It did not work; all was undone.
        Failed = "failed",
        /// Called off; all was undone.
        Cancelled = "cancelled",
    }
}

words! {
    /// Where the others of the same placement group should be.
    Affinity {
        /// No matter.
        Any = "any",
        /// Better not on the same node.
        PreferApart = "prefer_apart",
        /// Never on the same node: refused when no other node takes it, and nobody of the group joins it later.
        Apart = "apart",
        /// Better on the same node.
        PreferTogether = "prefer_together",
    }
}

impl OrderState {
    /// Whether nothing changes any more.
    #[must_use]
    pub const fn is_final(self) -> bool {
        match self {
            Self::Active | Self::Refused | Self::Failed | Self::Cancelled => true,
            Self::Accepted | Self::Provisioning | Self::Cancelling => false,
        }
    }
}

/// An order to place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "plan": "basic", "template": "debian-12-xrdp", "region": "fsn1", "host_name": "desk-1",
    "time_zone": "Europe/Berlin", "keyboard": "de", "external_reference": "invoice-2026-0815",
}))]
pub struct NewOrder {
    /// What is bought.
    #[schema(value_type = String)]
    pub plan: PlanName,
    /// What it is made from.
    #[schema(value_type = String)]
    pub template: TemplateName,
    /// Where.
    #[schema(value_type = String)]
    pub region: RegionName,
    /// Name of the guest; made from the order's id when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub host_name: Option<HostName>,
    /// Time zone of the guest (IANA); the template's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub time_zone: Option<TimeZoneName>,
    /// Keyboard layout of the guest (XKB); the template's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub keyboard: Option<KeyboardLayout>,
    /// What the storefront calls it; 1 to 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_reference: Option<String>,
    /// Whom it belongs together with: a name of your own, 1 to 128 characters, alike for all of the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placement_group: Option<String>,
    /// Where the others of the group should be; `any` when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Until when it is paid for. Desktops that end together are put together, so that whole machines become free; nothing
    /// is switched off by it. Renew it with `/v1/instances/{instance_id}/paid-until`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub paid_until: Option<Timestamp>,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Order {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: OrderId,
    /// How far it is.
    pub state: OrderState,
    /// Why it was refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Fault>,
    /// What was bought.
    #[schema(value_type = String)]
    pub plan: PlanName,
    /// What it is made from.
    #[schema(value_type = String)]
    pub template: TemplateName,
    /// Where.
    #[schema(value_type = String)]
    pub region: RegionName,
    /// Name of the guest.
    #[schema(value_type = String)]
    pub host_name: HostName,
    /// Time zone of the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub time_zone: Option<TimeZoneName>,
    /// Keyboard layout of the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub keyboard: Option<KeyboardLayout>,
    /// What the storefront calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_reference: Option<String>,
    /// The instance that fulfils it.
    #[schema(value_type = String, format = "uuid")]
    pub instance_id: InstanceId,
    /// The operation that fulfils it; watch its steps.
    #[schema(value_type = String, format = "uuid")]
    pub operation_id: SagaId,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it last changed.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

page! {
    /// A page of orders.
    OrderPage of Order
}
