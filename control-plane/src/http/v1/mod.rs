//! `/v1`: one endpoint a file, folders as in the URLs.

pub(super) mod audit;
pub(super) mod availability;
pub(super) mod capacity;
pub(super) mod credentials;
pub(super) mod events;
pub(super) mod instances;
pub(super) mod keys;
pub(super) mod nodes;
pub(super) mod operations;
pub(super) mod orders;
pub(super) mod placements;
pub(super) mod plans;
pub(super) mod reconcilers;
pub(super) mod reserves;
pub(super) mod sagas;
pub(super) mod templates;
pub(super) mod tenants;
