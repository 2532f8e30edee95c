//! `/v1/audit`

pub(in crate::http) mod get;
pub(in crate::http) mod run;
