//! `/v1/nodes`

pub(in crate::http) mod cordon;
pub(in crate::http) mod fence;
pub(in crate::http) mod get;
pub(in crate::http) mod held_back;
pub(in crate::http) mod labels;
pub(in crate::http) mod list;
pub(in crate::http) mod pin;
pub(in crate::http) mod revoke;
pub(in crate::http) mod tickets;
pub(in crate::http) mod uncordon;
pub(in crate::http) mod unfence;
pub(in crate::http) mod unpin;
