//! NemoRDP's control plane: takes orders, places them, drives nodes to what was promised, proves it, and hands it over.
//!
//! Map: [`config`] what the operator decides · [`pki`] our CA · [`seal`] passwords at rest · [`app`] the use cases ·
//! [`http`] and `grpc` how they are reached · [`telemetry`] numbers and log · [`serve`](mod@serve) all of it in one
//! process.
//!
//! [`saga`] intentions that finish or are undone · [`reconcile`] the long-lived truth.
//!
//! Imports run downwards only: `http`, `grpc` → `app` → `saga` → providers, store, model.

pub mod app;
pub mod config;
mod grpc;
pub mod http;
pub mod pki;
pub mod program;
pub mod reconcile;
pub mod saga;
pub mod seal;
pub mod serve;
pub mod telemetry;
mod wake;
mod work;

pub use config::Config;
pub use serve::{Installation, Running, serve, serve_with};
