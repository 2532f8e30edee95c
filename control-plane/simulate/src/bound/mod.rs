//! What no placement can do better than.

pub mod configuration;
pub mod volume;
