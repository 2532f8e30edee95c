//! What keeps the long-lived truth.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::Fault;

/// A reconciler and how it fared, on whichever replica runs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Reconciler {
    /// Its name.
    pub name: String,
    /// What it looks after.
    pub purpose: String,
    /// Seconds between its runs when nothing pokes it.
    pub period_seconds: u64,
    /// How often it ran since the replica that runs it took over.
    pub runs: u64,
    /// When its last run began; one that found what the run before it found is noted once a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_run_at: Option<Timestamp>,
    /// Milliseconds that its last run took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_run_milliseconds: Option<u64>,
    /// What its last run found and did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_outcome: Option<String>,
    /// What its last run found, piece by piece; the first hundred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub details: Option<serde_json::Value>,
    /// Why its last run did not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Fault>,
}

/// Every reconciler.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReconcilerList {
    /// By name.
    pub items: Vec<Reconciler>,
}
