//! Life signs of nodes and their certificates.

use std::time::Duration;

use nemordp_model::HealthPolicy;
use nemordp_types::Failure;
use serde::Deserialize;

use super::within;

/// Life signs of nodes and their certificates.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Nodes {
    /// Between two heartbeats.
    pub heartbeat_seconds: u32,
    /// Silence after which no new instance goes to a node.
    pub suspect_after_seconds: u64,
    /// Silence after which an operator is called.
    pub lost_after_seconds: u64,
    /// How long a node's certificate is good; it is renewed after two thirds.
    pub certificate_days: u32,
    /// How long an enrollment ticket is good, unless it says otherwise.
    pub ticket_minutes: u32,
}

impl Default for Nodes {
    fn default() -> Self {
        Self {
            heartbeat_seconds: 10,
            suspect_after_seconds: 30,
            lost_after_seconds: 180,
            certificate_days: 30,
            ticket_minutes: 60,
        }
    }
}

impl Nodes {
    /// When silence means something.
    #[must_use]
    pub const fn health(&self) -> HealthPolicy {
        HealthPolicy {
            suspect_after: Duration::from_secs(self.suspect_after_seconds),
            lost_after: Duration::from_secs(self.lost_after_seconds),
        }
    }

    /// How long a node's certificate is good.
    #[must_use]
    pub const fn certificate_lifetime(&self) -> Duration {
        Duration::from_secs(self.certificate_days as u64 * 86_400)
    }

    pub(super) fn check(&self) -> Result<(), Failure> {
        within("heartbeat_seconds", u64::from(self.heartbeat_seconds), 1, 300)?;
        if self.suspect_after_seconds <= u64::from(self.heartbeat_seconds) {
            return Err(Failure::field("suspect_after_seconds", "use more than heartbeat_seconds"));
        }
        self.health().check().map_err(|failure| failure.with_field("lost_after_seconds"))?;
        within("certificate_days", u64::from(self.certificate_days), 1, 825)?;
        within("ticket_minutes", u64::from(self.ticket_minutes), 1, 10_080)
    }
}
