//! The same suite on both databases: SQLite always, PostgreSQL where its programs are installed.

#![expect(clippy::unwrap_used, clippy::panic, reason = "every function here is part of a test")]

mod accept;
mod bad_luck;
mod burst;
mod cancel;
mod catalogue;
mod doubles;
mod enrollment;
mod fence;
mod gpus;
mod group;
mod heartbeat;
mod held_back;
mod history;
mod idempotency;
mod instances;
mod leases;
mod outbox;
mod oversell;
mod paid_until;
mod placer;
mod pools;
mod postgres;
mod replicas;
mod restored;
mod schema;
mod secrets;
mod siting;
mod support;
mod usage;
