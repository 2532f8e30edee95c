//! `/v1/keys`

pub(in crate::http) mod create;
pub(in crate::http) mod list;
pub(in crate::http) mod revoke;
