//! The agent as the control plane meets it: real gRPC over real mTLS, the simulated host beneath.
#![cfg(feature = "sim")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod access;
mod autonomy;
mod control;
mod enrollment;
mod gpus;
mod lifecycle;
mod login;
mod reconfigure;
mod restart;
mod sessions;
mod support;
mod suspension;
mod templates;
mod usage;
