//! Sagas against a node and a login that the test owns: every step fails, runs twice, is undone twice, and is left by a
//! crash at every instant; afterwards an independent check looks at what is left.
//!
//! A crash is the saga's future dropped at its n-th suspension, for every n until it gets through: before, amid and after
//! every write and every call. Another replica then adopts the saga when the lease ends.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod audit;
mod crash;
mod deadline;
mod delivery;
mod failure;
mod fenced;
mod gpus;
mod guest;
mod kit;
mod lifecycle;
mod node;
mod postgres;
mod provider;
mod replicas;
mod restored;
mod simulation;
mod stuck;
mod suspensions;
mod templates_ahead;
mod uplink;
mod wins;
