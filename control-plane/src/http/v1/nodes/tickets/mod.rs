//! `/v1/nodes/tickets`

pub(in crate::http) mod create;
pub(in crate::http) mod list;
