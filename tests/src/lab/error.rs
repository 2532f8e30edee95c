//! What can go wrong in the lab, each with the fix where there is one.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The lab's one error type.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Namespaces, links and device nodes can only be made by root.
    #[error("the lab needs root: run this as root or with sudo")]
    NotRoot,
    /// Programs are missing on this machine.
    #[error("not installed: {}; install them with tests/setup/packages.sh live", .0.join(", "))]
    Missing(Vec<String>),
    /// The directory cannot hold a lab.
    #[error("directory {} cannot hold a lab: {why}", dir.display())]
    Directory {
        /// What was asked for.
        dir: PathBuf,
        /// What is wrong with it, and the fix.
        why: String,
    },
    /// The address range of the lab is taken on this machine.
    #[error("no free /24 in 198.18.0.0/15, which the lab needs; this machine uses it: {}", .0.join(", "))]
    RangeInUse(Vec<String>),
    /// Something with the lab's name exists that this lab did not make.
    #[error("{0} exists, but this lab did not make it: remove it, or use another directory")]
    NotOurs(String),
    /// A host was asked for that is not running.
    #[error("lab host {0} is not running: `nemordp-lab up --host {0}` starts it")]
    HostDown(u8),
    /// A program ended with an error.
    #[error("{command} failed ({status}): {output}")]
    Command {
        /// The program and its arguments.
        command: String,
        /// Exit status as the system words it.
        status: String,
        /// What it printed, shortened.
        output: String,
    },
    /// Something did not happen in time.
    #[error("{what} took longer than {} s{context}", limit.as_secs_f32())]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// What was seen instead; empty, or begins with a separator.
        context: String,
    },
    /// After taking the lab down, these are still there.
    #[error("the lab left something behind:\n  {}", .0.join("\n  "))]
    LeftBehind(Vec<String>),
    /// A file that the lab wrote, or a tool's output, cannot be understood.
    #[error("{what} cannot be read: {why}")]
    Malformed {
        /// Which file or output.
        what: String,
        /// What is wrong in it.
        why: String,
    },
    /// The operating system refused.
    #[error("{action}: {source}")]
    Io {
        /// What was attempted.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
}

/// Result of everything in the lab.
pub type Result<T> = std::result::Result<T, LabError>;

/// Names the attempted action in an operating system error.
pub(super) trait During<T> {
    /// `action` as in "write /a/file".
    fn during(self, action: impl FnOnce() -> String) -> Result<T>;
    /// The common case: `verb` and a path.
    fn at(self, verb: &str, path: &Path) -> Result<T>;
}

impl<T> During<T> for io::Result<T> {
    fn during(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| LabError::Io { action: action(), source })
    }

    fn at(self, verb: &str, path: &Path) -> Result<T> {
        self.during(|| format!("{verb} {}", path.display()))
    }
}
