//! The control plane as its callers meet it: real HTTP and real mTLS on loopback, a SQLite store, no sagas carried on.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod catalogue;
mod document;
mod enrollment;
mod gpus;
mod harness;
mod instances;
mod lifecycle;
mod metrics;
mod nodes;
mod operator;
mod orders;
mod paid_until;
mod placement;
mod reserves;
mod sagas;
mod siting;
mod suspension;
mod transport;
