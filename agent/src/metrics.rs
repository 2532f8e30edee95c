//! What Prometheus reads: counted while it happens, or read from the host when it asks.
//!
//! Instances appear by their id only, and only while they are there: their series come from the host at each scrape.

mod scrape;
mod server;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::SignedDuration;
use nemordp_types::Reason;
use nemordp_types::operation::OperationKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

pub use scrape::Scrape;
pub(crate) use server::{Access, serve};

/// Seconds; from a password that is set at once to a guest that boots without hardware virtualisation.
const BUCKETS: [f64; 14] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Operations {
    kind: &'static str,
    outcome: &'static str,
}

/// What is counted and timed while it happens. Clones count together.
#[derive(Debug, Clone)]
pub struct Telemetry {
    operations: Family<Operations, Counter>,
    seconds: Family<Operations, Histogram>,
    heard: Arc<Mutex<Option<Heard>>>,
}

/// What the control plane said of this node last.
#[derive(Debug, Clone, Copy)]
struct Heard {
    clock_skew: SignedDuration,
    doubled: bool,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            operations: Family::default(),
            seconds: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            heard: Arc::default(),
        }
    }
}

impl Telemetry {
    /// The control plane answered a heartbeat: by how much this machine's clock is ahead, whether another agent speaks too.
    pub fn control_plane_said(&self, clock_skew: SignedDuration, doubled: bool) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Some(Heard { clock_skew, doubled });
    }

    fn heard(&self) -> Option<Heard> {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation is over: well, or for a reason.
    pub fn operation_ended(&self, kind: OperationKind, reason: Option<Reason>, took: Duration) {
        let labels = Operations { kind: kind.word(), outcome: reason.map_or("succeeded", Reason::word) };
        self.operations.get_or_create(&labels).inc();
        self.seconds.get_or_create(&labels).observe(took.as_secs_f64());
    }
}
