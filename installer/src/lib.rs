//! The installer: builds templates from recipes. Everything it does is first a plan that can be shown.
//!
//! Map: [`cli`] arguments and their meaning · [`template`] recipe → plan → build · [`progress`] what a person or a
//! program sees meanwhile · [`system`] the only place that starts processes · [`error`] what can go wrong.

pub mod cli;
pub mod error;
pub mod progress;
pub mod system;
pub mod template;

pub use error::InstallerError;
