//! The control plane's memory: the only SQL, the same on SQLite and PostgreSQL.
//!
//! [`Store`] has one method for each thing that must happen at once; a method is one transaction, with the events that
//! tell of it and, where a client named its intention, with the answer that a repetition gets. Nothing here decides:
//! [`nemordp_model`] does, and where two decisions can meet (capacity, leases, links that open once) the write itself is
//! conditional and counts the rows that it changed.
//!
//! Map: [`error`] what can go wrong · `sql`, `rows`, `codec`, `transaction`, `group`, `open`, `migrate` how both databases are
//! spoken to · [`page`] listing · one file per noun for the rest: [`tenant`], [`api_key`], [`plan`], [`template`],
//! [`ticket`], [`node`], `node_siting`, `node_gpu`, [`heartbeat`], [`certificate`], [`fleet`], `slot_reserve`, [`order`], [`accept`] an order with all that it needs,
//! [`burst`] many of them in one commit, [`decision`], [`turn`], [`instance`], `paid_until`, [`reservation`], `claim`, `group_member`, `resize`,
//! [`saga`], [`lease`], [`effect`], [`idempotency`], [`event`], [`secret`], [`frozen`], [`backup`],
//! `audit`, [`reconciler`], [`expire`], [`wake`], `installation`.

#[macro_use]
mod transaction;

pub mod accept;
pub mod api_key;
mod audit;
pub mod backup;
pub mod burst;
pub mod certificate;
mod claim;
mod codec;
pub mod decision;
pub mod effect;
pub mod error;
pub mod event;
pub mod expire;
pub mod fleet;
pub mod frozen;
mod group;
mod group_member;
pub mod heartbeat;
mod held_numbers;
pub mod idempotency;
mod installation;
pub mod instance;
pub mod lease;
mod migrate;
pub mod node;
mod node_fence;
mod node_gpu;
pub mod node_session;
mod node_siting;
mod observation;
mod open;
pub mod order;
pub mod page;
mod paid_until;
pub mod plan;
pub mod reconciler;
pub mod reservation;
mod resize;
mod rows;
pub mod saga;
pub mod secret;
mod slot_reserve;
mod sql;
pub mod suspension;
pub mod template;
pub mod tenant;
pub mod ticket;
pub mod turn;
pub mod usage;
pub mod wake;

pub use accept::{Accepted, NewOrder, NewPlace, OrderAccept, Shape};
pub use api_key::NewApiKey;
pub use backup::{Backup, Replaced, restore};
pub use burst::{BURST_MAX, Candidate};
pub use certificate::{CertificateRole, KnownCertificate, NewCertificate, RevocationList};
pub use decision::{Contender, Decision};
pub use effect::Effect;
pub use error::{Result, StoreError};
pub use event::EventFilter;
pub use expire::{EndingCertificate, PortPool};
pub use frozen::Restored;
pub use heartbeat::{HeartbeatOutcome, NodeHeartbeat, Signs, Withdrawal};
pub use idempotency::{Idempotency, Once, StoredResponse};
pub use instance::{Changed, InstanceFilter, Placed};
pub use lease::{Hold, Lease, LeasedSaga, SagaWrite, kept_at_least};
pub use migrate::SCHEMA_VERSION;
pub use nemordp_model::Wish;
pub use node::{Enrolled, NodeEnroll};
pub use node_session::Sender;
pub use open::{Effort, Store};
pub use order::OrderFilter;
pub use page::{PAGE_MAX, Page, Paged, TenantScope};
pub use plan::NewPlan;
pub use reconciler::ReconcilerRun;
pub use reservation::Reservation;
pub use saga::{NewSaga, SagaFilter};
pub use secret::{Revealed, SecretStanding};
pub use slot_reserve::PlanReserve;
pub use template::RegisteredTemplate;
pub use ticket::{NewTicket, TicketStanding};
pub use turn::Turn;
pub use usage::UsageTotal;
pub use wake::{Wake, Wakes};
