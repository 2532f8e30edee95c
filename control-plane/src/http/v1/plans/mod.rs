//! `/v1/plans`

pub(in crate::http) mod get;
pub(in crate::http) mod list;
pub(in crate::http) mod put;
