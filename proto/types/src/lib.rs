//! The vocabulary that every part of NemoRDP shares: ids, names, units, specifications, reasons.
//!
//! No IO and no async live here; [`clock`] and [`entropy`] hold the two traits through which time and randomness
//! reach the rest of the code, so that a test can own both.
//!
//! Map: [`id`] typed ids · [`name`] catalogue names · [`mod@unit`] amounts · [`address`] what a network card and a customer
//! use · [`instance`] what is wanted of an instance and what was seen · [`fencing`] the numbers that keep late work from
//! acting · [`template`] golden disks · [`node`] what a node offers · [`guest`] what is inside an instance ·
//! [`operation`] one mutation on a node · [`reason`] the closed list of causes · [`failure`] a cause with its message.

pub mod address;
pub mod clock;
pub mod entropy;
pub mod failure;
pub mod fencing;
pub mod guest;
pub mod id;
pub mod instance;
pub mod name;
pub mod node;
pub mod operation;
pub mod reason;
pub mod suspension;
pub mod template;
pub mod unit;
pub mod usage;

pub use address::{Endpoint, MacAddr, NodeAddress};
pub use clock::{Clock, ManualClock, SystemClock};
pub use entropy::{Entropy, SeededEntropy, SystemEntropy};
pub use failure::Failure;
pub use fencing::{Fence, Generation, Mutation, Pair};
pub use id::{
    ApiKeyId, EventId, InstallationId, InstanceId, MeterId, NodeId, OperationId, OrderId, ReservationId, SagaId,
    TenantId, TicketId,
};
pub use name::{
    GpuModel, HostName, KeyboardLayout, LoginName, PlanName, RegionName, StorageClass, TemplateName, TimeZoneName,
};
pub use reason::{Reason, Retry};
pub use template::{Template, TemplateDigest};
pub use unit::{Bytes, GiB, MiB, Vcpu};
