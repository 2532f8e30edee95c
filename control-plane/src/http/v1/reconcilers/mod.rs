//! `/v1/reconcilers`

pub(in crate::http) mod list;
pub(in crate::http) mod run;
