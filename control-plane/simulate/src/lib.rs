//! Placement measured: events replayed against a fleet, by our engine and by the published rules.
//!
//! Map: [`amounts`] what is counted · [`fleet`] nodes and what lies on them · [`strategy`] the interface and the peers ·
//! [`engine`] ours · [`world`] the referee · [`message`], [`game`] events by their ids · [`protocol`] the same against a judge · [`trace`] recorded arrivals ·
//! [`replay`] files, [`hindsight`] what was avoidable, [`picture`] the curve · [`bound`] what nobody can do better than.

pub mod amounts;
pub mod bound;
pub mod engine;
pub mod fleet;
pub mod game;
pub mod hindsight;
pub mod message;
pub mod picture;
pub mod protocol;
pub mod replay;
pub mod strategy;
pub mod trace;
pub mod world;
