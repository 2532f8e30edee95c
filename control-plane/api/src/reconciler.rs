//! What keeps the long-lived truth.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::Fault;

/// A reconciler and how it fared, on the replica that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reconciler {
    /// Its name.
    pub name: String,
    /// What it looks after.
    pub purpose: String,
    /// Seconds between its runs when nothing pokes it.
    pub period_seconds: u64,
    /// How often it ran since the start.
    pub runs: u64,
    /// When its last run began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_run_at: Option<Timestamp>,
    /// Milliseconds that its last run took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_milliseconds: Option<u64>,
    /// What its last run found and did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_outcome: Option<String>,
    /// Why its last run did not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Fault>,
}

/// Every reconciler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReconcilerList {
    /// By name.
    pub items: Vec<Reconciler>,
}
