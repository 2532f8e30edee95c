//! How this replica carries intentions on.

use std::time::Duration;

use nemordp_types::Failure;
use serde::Deserialize;

use super::within;

/// How this replica carries intentions on.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Work {
    /// How long a lease is held without a sign of life: the time until a dead replica's work is adopted.
    pub lease_milliseconds: u64,
    /// Sagas at the same time.
    pub at_once: u32,
}

impl Default for Work {
    fn default() -> Self {
        Self { lease_milliseconds: 6_000, at_once: 256 }
    }
}

impl Work {
    /// How long a lease is held without a sign of life.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_milliseconds)
    }

    pub(super) fn check(&self) -> Result<(), Failure> {
        within("lease_milliseconds", self.lease_milliseconds, 500, 600_000)?;
        within("at_once", u64::from(self.at_once), 1, 4_096)
    }
}
