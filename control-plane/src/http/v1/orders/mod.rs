//! `/v1/orders`

pub(in crate::http) mod cancel;
pub(in crate::http) mod create;
pub(in crate::http) mod get;
pub(in crate::http) mod list;
pub(in crate::http) mod placement;
