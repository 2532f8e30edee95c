//! The HTTP API's types, shared by the server and its clients: what `/v1` takes and gives, as JSON.
//!
//! Map: [`plan`], [`template`], [`availability`] the catalogue · [`placement`], [`capacity`] where orders go and would go ·
//! [`order`], [`instance`], [`credentials`] what a customer has · [`operation`], [`saga`] long work and its steps ·
//! [`node`] machines and tickets · [`tenant`], [`key`] tenants and their API keys · [`event`],
//! [`reconciler`], [`audit`] what happened, what looks after it · [`page`] lists · [`problem`] errors (RFC 9457).

pub mod audit;
pub mod availability;
pub mod capacity;
pub mod credentials;
pub mod event;
pub mod gpu;
pub mod instance;
pub mod key;
pub mod node;
pub mod operation;
pub mod order;
pub mod page;
pub mod placement;
pub mod plan;
pub mod problem;
pub mod reconciler;
pub mod reserve;
pub mod saga;
pub mod suspension;
pub mod template;
pub mod tenant;
mod word;

pub use audit::{AuditFinding, AuditReport};
pub use availability::{Availability, AvailabilityList};
pub use capacity::{Capacity, CapacityChange, CapacityList};
pub use credentials::{CredentialsLink, CredentialsReveal, RevealedCredentials};
pub use event::{Event, EventPage};
pub use gpu::{Gpus, NodeGpus};
pub use instance::{
    AdoptionHow, Instance, InstanceFreeze, InstanceLifecycle, InstancePage, InstancePower, InstanceUsage, NewAdoption,
    PaidUntil, ReinstallInstance, RenameInstance, ResizeInstance,
};
pub use key::{ApiKey, ApiKeyPage, ApiScope, CreatedApiKey, NewApiKey};
pub use node::{
    CreatedTicket, FenceNode, HeldBack, LabelNode, NewTicket, Node, NodeAvailability, NodeLoad, NodePage, NodePin,
    NodePolicy, NodePool, NodeTemplate, NodeTemplateState, Overcommit, PinNode, Ticket, TicketPage,
};
pub use operation::{Operation, OperationKind, OperationPage, OperationStatus, OperationStep, StepState};
pub use order::{Affinity, NewOrder, Order, OrderPage, OrderState};
pub use page::Fault;
pub use placement::{
    InstanceMove, MovePlan, OrderPlacement, Placement, PlacementNode, SupposedNode, SupposedPlan, WhatIf, WhatIfRequest,
};
pub use plan::{NewPlan, Plan, PlanPage};
pub use problem::{PROBLEM_MEDIA_TYPE, Problem};
pub use reconciler::{Reconciler, ReconcilerList};
pub use reserve::{Reserve, ReserveList, SetReserve};
pub use saga::{Saga, SagaAbandon, SagaDirection, SagaPage, SagaRetry};
pub use suspension::{NewSuspension, Suspension, SuspensionState};
pub use template::{NewTemplate, Personalisation, RdpSecurity, Template, TemplateFile, TemplatePage};
pub use tenant::{Tenant, TenantPage};

/// The header that carries the client's name for one intention; every POST that changes something needs it.
pub const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
/// Set to `true` on an answer that was given before.
pub const IDEMPOTENT_REPLAYED: &str = "Idempotent-Replayed";
/// The header that names one request in answers and logs.
pub const REQUEST_ID: &str = "X-Request-Id";
