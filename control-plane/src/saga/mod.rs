//! Intentions that finish or are undone, whatever crashes in between.
//!
//! ```text
//!            step done: result and next intent in one write
//!            ┌──────────┐
//!  claimed ─►│ running  │──► done
//!            └──────────┘
//!   transient │ │ │ elsewhere: undone on this node, placed on another, from the first step again
//!   (later) ◄─┘ │ └───────────────────────────────────────────────────────────────┘
//!               │ permanent, out of attempts, or cancelled
//!            ┌───────────┐
//!            │ unwinding │──► unwound | cancelled      an undo that fails for good ──► stuck (a human looks)
//!            └───────────┘
//! ```
//!
//! A saga is leased by one replica; the lease raises the fence of saga and instance, the fence travels to the node with every
//! change, and every write here carries it too. So a replica that lost its lease changes nothing any more, here or there.
//! What is wanted of an instance changes in the transaction that begins the saga, together with the room that it takes; what
//! was wanted before is kept with the saga. Undoing brings the instance back to that, and gives the room back. A fresh disk
//! is made beside the old one, which stays until the new login was proven.
//!
//! The id of a change is stored before the change is sent: whoever carries on sends the same one again, and the node
//! answers with what it has already done.
//!
//! Map: [`plan`] which steps an intention has · [`state`] what is remembered between them · [`step`] what each does ·
//! [`retry`] what follows a failure (pure) · [`carry`] one leased saga to its next rest · [`executor`] who leases ·
//! [`prover`] the login proof.

pub mod carry;
pub mod executor;
pub mod plan;
pub mod prover;
pub mod retry;
pub mod state;
pub mod step;

use std::sync::Arc;
use std::time::Duration;

use nemordp_providers::Provider;
use nemordp_store::Store;
use nemordp_types::{Clock, Entropy};

use crate::seal::Sealer;

pub use executor::{Engine, Settings};
pub use prover::{LoginProver, RdpProver};

/// What steps work with.
#[derive(Debug, Clone)]
pub struct Tools {
    /// The memory.
    pub store: Store,
    /// Where instances run.
    pub provider: Arc<dyn Provider>,
    /// Who logs in.
    pub prover: Arc<dyn LoginProver>,
    /// Seals passwords.
    pub sealer: Sealer,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids, passwords and jitter.
    pub entropy: Arc<dyn Entropy>,
    /// How long things may take.
    pub limits: Limits,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// To bring an instance to an answering RDP server, template included.
    pub ensure: Duration,
    /// For any other change on a node.
    pub change: Duration,
    /// For the endpoint to answer at all.
    pub readiness: Duration,
    /// For one login.
    pub proof: Duration,
    /// For the guest to show a certificate that nobody has to prove.
    pub certificate: Duration,
    /// What a step may take longer than all that it waits for, before it counts as hung.
    pub slack: Duration,
}

impl Limits {
    /// After which a step counts as hung, all that it waits for included.
    #[must_use]
    pub fn of(&self, step: plan::Step) -> Duration {
        let work = match step {
            plan::Step::EnsureInstance | plan::Step::Remake | plan::Step::Reconfigure | plan::Step::Settle => {
                self.ensure
            }
            plan::Step::ReadCertificate => self.certificate,
            plan::Step::ProveLogin => self.readiness + self.proof * 4 + self.change,
            plan::Step::EndSessions
            | plan::Step::SetPassword
            | plan::Step::EndProofSession
            | plan::Step::Activate
            | plan::Step::Power(_)
            | plan::Step::EraseSecret
            | plan::Step::DeleteInstance
            | plan::Step::Forget => self.change,
        };
        work + self.slack
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            ensure: Duration::from_secs(900),
            change: Duration::from_secs(180),
            readiness: Duration::from_secs(60),
            proof: Duration::from_secs(20),
            certificate: Duration::from_secs(180),
            slack: Duration::from_secs(60),
        }
    }
}
