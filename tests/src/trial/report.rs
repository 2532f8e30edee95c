//! What the trial prints: each step with its seconds, and whether it is simulated.

use std::io::Write as _;
use std::time::Instant;

use super::Mode;

/// Prints to the standard output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    started: Instant,
    mode: Mode,
}

impl Report {
    pub(super) fn new(mode: Mode) -> Self {
        Self { started: Instant::now(), mode }
    }

    /// One line.
    pub(super) fn line(&self, text: &str) {
        let simulated = match self.mode {
            Mode::Real => "",
            Mode::Simulated => "(simulated) ",
        };
        // A closed output ends the showing, not the doing.
        drop(writeln!(std::io::stdout().lock(), "[{:6.1} s] {simulated}{text}", self.started.elapsed().as_secs_f64()));
    }

    /// A line without time, for what is to be copied.
    pub(super) fn plain(&self, text: &str) {
        drop(writeln!(std::io::stdout().lock(), "{text}"));
    }
}
