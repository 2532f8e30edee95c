//! What a customer bought, and how far it is.
//!
//! ```text
//! accepted ──► provisioning ──► active
//!    │  │          │  │  └────► failed, refused
//!    │  └──────────┼──┴───────► cancelling ──► cancelled | failed
//!    └► refused, failed, cancelled
//! ```
//! Each change is safe to repeat: asking for the state that is reached already changes nothing.

use jiff::Timestamp;
use nemordp_types::{
    Failure, HostName, InstanceId, KeyboardLayout, OrderId, PlanName, Reason, RegionName, SagaId, TemplateName,
    TenantId, TimeZoneName,
};
use serde::{Deserialize, Serialize};

use crate::label::Label;
use crate::words;

words! {
    /// How far an order is.
    OrderState {
        /// Capacity is reserved, nothing is built yet.
        Accepted = "accepted",
        /// Its instance is being built.
        Provisioning = "provisioning",
        /// A login was proven; the customer has it.
        Active = "active",
        /// The customer called it off; what was built is being removed.
        Cancelling = "cancelling",
        /// Nothing could take it.
        Refused = "refused",
        /// It did not work; all was undone.
        Failed = "failed",
        /// Called off; all was undone.
        Cancelled = "cancelled",
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

/// What happens to an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderChange {
    /// Building begins.
    Provision,
    /// The login was proven.
    Activate,
    /// The customer calls it off.
    RequestCancel,
    /// All was undone after it was called off.
    Cancel,
    /// Nothing can take it.
    Refuse(Failure),
    /// It did not work.
    Fail(Failure),
}

impl OrderChange {
    const fn target(&self) -> OrderState {
        match self {
            Self::Provision => OrderState::Provisioning,
            Self::Activate => OrderState::Active,
            Self::RequestCancel => OrderState::Cancelling,
            Self::Cancel => OrderState::Cancelled,
            Self::Refuse(_) => OrderState::Refused,
            Self::Fail(_) => OrderState::Failed,
        }
    }
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Its id.
    pub id: OrderId,
    /// Whose customer.
    pub tenant_id: TenantId,
    /// What the storefront calls it.
    pub external_reference: Option<Label>,
    /// What was bought.
    pub plan: PlanName,
    /// What it is made from.
    pub template: TemplateName,
    /// Where.
    pub region: RegionName,
    /// Name of the guest.
    pub host_name: HostName,
    /// Time zone of the guest; the template's when absent.
    pub time_zone: Option<TimeZoneName>,
    /// Keyboard layout of the guest; the template's when absent.
    pub keyboard: Option<KeyboardLayout>,
    /// How far it is.
    pub state: OrderState,
    /// Why it was refused or failed.
    pub failure: Option<Failure>,
    /// The instance that fulfils it.
    pub instance_id: InstanceId,
    /// The saga that fulfils it; its public face is the operation with this id.
    pub saga_id: SagaId,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Order {
    /// The order after the change, or `conflict` with what its state allows.
    pub fn change(mut self, change: OrderChange, now: Timestamp) -> Result<Self, Failure> {
        let target = change.target();
        if self.state == target {
            return Ok(self);
        }
        let allowed = match self.state {
            OrderState::Accepted => target != OrderState::Active,
            OrderState::Provisioning => {
                matches!(target, OrderState::Active | OrderState::Cancelling | OrderState::Refused | OrderState::Failed)
            }
            OrderState::Cancelling => matches!(target, OrderState::Cancelled | OrderState::Failed),
            OrderState::Active | OrderState::Refused | OrderState::Failed | OrderState::Cancelled => false,
        };
        if !allowed {
            return Err(self.refusal(target));
        }
        self.state = target;
        self.updated_at = now;
        self.failure = match change {
            OrderChange::Refuse(failure) | OrderChange::Fail(failure) => Some(failure),
            OrderChange::Provision | OrderChange::Activate | OrderChange::RequestCancel | OrderChange::Cancel => None,
        };
        Ok(self)
    }

    fn refusal(&self, target: OrderState) -> Failure {
        let fix = match self.state {
            OrderState::Active => ": delete its instance instead",
            OrderState::Refused | OrderState::Failed | OrderState::Cancelled => ": place a new order",
            OrderState::Accepted | OrderState::Provisioning | OrderState::Cancelling => ": wait until it is done",
        };
        Failure::new(Reason::Conflict, format!("the order is {} and cannot become {target}{fix}", self.state))
            .with_field("state")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(state: OrderState) -> Order {
        serde_json::from_value(serde_json::json!({
            "id": "01890000-0000-7000-8000-000000000001", "tenant_id": "01890000-0000-7000-8000-000000000002",
            "plan": "basic", "template": "debian", "region": "fsn1", "host_name": "desk", "state": state,
            "instance_id": "01890000-0000-7000-8000-000000000003", "saga_id": "01890000-0000-7000-8000-000000000004",
            "created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z",
        }))
        .unwrap()
    }

    #[test]
    fn the_usual_way_ends_active() {
        let later = Timestamp::from_second(1_800_000_000).unwrap();
        let order = order(OrderState::Accepted).change(OrderChange::Provision, later).unwrap();
        let order = order.change(OrderChange::Activate, later).unwrap();
        assert_eq!((order.state, order.updated_at), (OrderState::Active, later));
    }

    #[test]
    fn repeating_a_change_changes_nothing() {
        let later = Timestamp::from_second(1_800_000_000).unwrap();
        let failed = order(OrderState::Provisioning)
            .change(OrderChange::Fail(Failure::new(Reason::DiskFull, "full")), later)
            .unwrap();
        let again = failed.clone().change(OrderChange::Fail(Failure::internal("other")), Timestamp::MAX).unwrap();
        assert_eq!(failed, again);
    }

    #[test]
    fn a_final_state_is_left_by_nothing() {
        let now = Timestamp::UNIX_EPOCH;
        for state in OrderState::ALL.iter().copied().filter(|s| s.is_final()) {
            for change in [
                OrderChange::Provision,
                OrderChange::Activate,
                OrderChange::RequestCancel,
                OrderChange::Cancel,
                OrderChange::Refuse(Failure::internal("x")),
                OrderChange::Fail(Failure::internal("x")),
            ] {
                let target = change.target();
                match order(state).change(change, now) {
                    Ok(order) => assert_eq!((order.state, target), (state, state)),
                    Err(failure) => assert_eq!(failure.reason, Reason::Conflict),
                }
            }
        }
    }

    #[test]
    fn a_cancelled_order_never_becomes_active() {
        let failure = order(OrderState::Cancelling).change(OrderChange::Activate, Timestamp::UNIX_EPOCH).unwrap_err();
        assert_eq!(failure.reason, Reason::Conflict);
    }
}
