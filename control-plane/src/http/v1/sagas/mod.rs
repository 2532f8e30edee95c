//! `/v1/sagas`: operations as operators see them, with leases and attempts.

pub(in crate::http) mod abandon;
pub(in crate::http) mod get;
pub(in crate::http) mod list;
pub(in crate::http) mod retry;
