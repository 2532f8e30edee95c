//! Errors as RFC 9457 has them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The media type of every error.
pub const PROBLEM_MEDIA_TYPE: &str = "application/problem+json";

/// Why a request was not done (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(example = json!({
    "type": "/problems/capacity_exhausted", "title": "Nothing fits, neither on a node nor on a cloud.", "status": 409,
    "detail": "no room on 2 node(s) of this region (memory 2): try another region or plan",
    "reason": "capacity_exhausted", "request_id": "01990f3e-7a38-7c1e-8d0a-3f1d0f6f3b1a",
}))]
pub struct Problem {
    /// Names the cause; its last part is the reason. Leads to an explanation.
    #[serde(rename = "type")]
    pub kind: String,
    /// The cause in a sentence, the same each time.
    pub title: String,
    /// The HTTP status, again.
    pub status: u16,
    /// What happened this time, and what to do about it.
    pub detail: String,
    /// The machine-readable cause, from a closed list.
    pub reason: String,
    /// The request field at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Finds the request in the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}
