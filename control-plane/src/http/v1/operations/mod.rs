//! `/v1/operations`

pub(in crate::http) mod events;
pub(in crate::http) mod get;
pub(in crate::http) mod list;
pub(in crate::http) mod query;
