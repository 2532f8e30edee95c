//! What the control plane decides, apart from how it is stored or carried out: no IO, no async, no clock.
//!
//! Map: [`tenant`], [`api_key`] whose request it is · [`plan`], [`region`] what is sold and where · [`order`],
//! [`instance`] their lifecycles · [`node`], [`health`] what a node offers and whether it lives · [`ticket`] enrollment ·
//! [`placement`] where an instance goes, and why not elsewhere · [`saga`] how far an intention is · [`audit`] what
//! does not fit together · [`event`] what is
//! told to the outside · [`password`] the customer's first password · [`label`] names for people.

pub mod api_key;
pub mod audit;
pub mod event;
pub mod health;
pub mod instance;
pub mod label;
pub mod node;
pub mod order;
pub mod password;
pub mod placement;
pub mod plan;
pub mod region;
pub mod saga;
pub mod session;
pub mod suspension;
pub mod tenant;
pub mod ticket;
pub mod word;

pub use api_key::{ApiKey, ApiScope, ApiScopes};
pub use event::{Event, EventKind};
pub use health::{CLOCK_TOLERANCE, HealthPolicy};
pub use instance::{Adoption, AfterReport, Former, Freeze, Instance, Lifecycle, Wish};
pub use label::Label;
pub use node::{Node, NodePin, Overcommit};
pub use order::{Order, OrderChange, OrderState};
pub use placement::{
    AddressKind, Affinity, Amounts, Capacity, Change, Demand, Explained, Explanation, FleetSnapshot, GpuDemand,
    GpuRoom, GroupKey, HeldBack, LABELS_MAX, Lodger, MOVES_MAX, Members, Move, MovePlan, NodeSnapshot, Placement,
    PlacementRequest, PlanShare, PoolRoom, Refusal, Refusals, Room, Siting, SlotReserve, SnapshotDigest, Strain, Terms,
    Verdict, WhatIf, capacity_report, could_ever_hold, explain, how_many_fit, how_many_fit_up_to, make_room, place,
    what_if,
};
pub use plan::Plan;
pub use region::RegionAvailability;
pub use saga::{Saga, SagaKind, SagaStatus, SagaStep, StepState};
pub use suspension::{Happened, Suspension, SuspensionState};
pub use tenant::Tenant;
pub use ticket::Ticket;
