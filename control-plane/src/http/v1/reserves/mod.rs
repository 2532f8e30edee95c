//! `/v1/reserves`

pub(in crate::http) mod list;
pub(in crate::http) mod set;
