//! `/v1/instances/{instance_id}/suspension`

pub(in crate::http) mod cancel;
pub(in crate::http) mod get;
pub(in crate::http) mod schedule;
