//! `/v1/templates`

pub(in crate::http) mod get;
pub(in crate::http) mod list;
pub(in crate::http) mod register;
pub(in crate::http) mod upload;
