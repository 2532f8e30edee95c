//! `/v1/tenants`

pub(in crate::http) mod list;
pub(in crate::http) mod pin;
pub(in crate::http) mod unpin;
