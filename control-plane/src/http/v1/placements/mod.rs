//! `/v1/placements`

pub(in crate::http) mod what_if;
