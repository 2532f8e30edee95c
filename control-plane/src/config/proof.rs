//! The login proof.

use std::time::Duration;

use nemordp_types::Failure;
use serde::Deserialize;

use super::within;

/// The login proof.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Proof {
    /// For one login; 20 s, or 60 s with slow guests, when absent.
    pub deadline_seconds: Option<u64>,
    /// Guests run without hardware virtualisation: everything inside takes several times as long.
    pub slow_guests: bool,
    /// Logins at the same time; 32, or one a processor with slow guests, when absent.
    pub at_once: Option<u32>,
}

impl Proof {
    /// For one login.
    #[must_use]
    pub const fn deadline(&self) -> Duration {
        match self.deadline_seconds {
            Some(seconds) => Duration::from_secs(seconds),
            None if self.slow_guests => Duration::from_secs(60),
            None => Duration::from_secs(20),
        }
    }
    /// Logins at the same time. Guests without hardware virtualisation are those of a lab, beneath whose processors they run:
    /// each login takes one of them.
    #[must_use]
    pub fn at_once(&self) -> usize {
        match self.at_once {
            Some(at_once) => usize::try_from(at_once).unwrap_or(usize::MAX),
            None if self.slow_guests => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            None => 32,
        }
    }

    pub(super) fn check(&self) -> Result<(), Failure> {
        within("deadline_seconds", self.deadline().as_secs(), 1, 600)?;
        within("at_once", u64::from(self.at_once.unwrap_or(1)), 1, 1_024)
    }
}
