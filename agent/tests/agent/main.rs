//! The agent as the control plane meets it: real gRPC over real mTLS, the simulated host beneath.
#![cfg(feature = "sim")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod autonomy;
mod enrollment;
mod lifecycle;
mod login;
mod reconfigure;
mod restart;
mod support;
mod templates;
mod usage;
