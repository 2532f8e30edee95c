//! Everything about instances on this node: what may act on one, what is done next, who does it.
//!
//! [`admission`] decides by numbers whether a request may act · [`machine`] decides what is done next, without doing
//! anything · `task` owns one instance and does it · [`registry`] finds the task of an instance
//! · [`board`] what the rest of the agent sees · [`gate`] whether anything may start.

pub mod admission;
mod alone;
pub mod board;
pub mod gate;
pub mod machine;
pub mod plan;
pub mod registry;
mod sight;
mod step;
mod suspension;
mod task;
mod wait;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nemordp_types::{Clock, Entropy, InstallationId};

use crate::host::Host;
use crate::journal::Journal;
use crate::metrics::Telemetry;
use crate::template::Templates;

/// What every instance's task works with.
#[derive(Debug)]
pub struct Shared<H> {
    /// What lies beneath.
    pub host: Arc<H>,
    /// What the hypervisor cannot remember.
    pub journal: Journal,
    /// What the rest of the agent sees.
    pub board: board::Board,
    /// Whether anything may start.
    pub gate: gate::Gate,
    /// Golden disks on this node.
    pub templates: Arc<Templates<H>>,
    /// What is counted and timed.
    pub telemetry: Telemetry,
    /// The present time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for the ids of operations that the agent itself begins.
    pub entropy: Arc<dyn Entropy>,
    /// Whose instances these are.
    pub installation_id: InstallationId,
    /// How long a guest may take from its start to an answering RDP server.
    pub boot_timeout: Duration,
    /// How long a guest may take to shut down.
    pub shutdown_timeout: Duration,
    /// How long a user may read that the sessions end.
    pub announce_pause: Duration,
    /// Clones under way.
    pub clones: AtomicU32,
    /// Guests that were started once more because their first boot hung, since this agent started.
    pub second_boots: AtomicU32,
}

impl<H: Host> Shared<H> {
    /// Clones under way, for the node's load.
    #[must_use]
    pub fn clones(&self) -> u32 {
        self.clones.load(Ordering::Relaxed)
    }
}
