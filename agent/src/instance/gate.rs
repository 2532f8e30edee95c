//! Whether anything may start on this node: not between a reboot of the host and the control plane's word, and not while
//! an operator has stated that the node is off. Meanwhile its instances may have been built elsewhere.

use nemordp_types::instance::{DesiredPower, PowerAction};
use nemordp_types::{Failure, Reason};
use tokio::sync::watch;

use super::plan::Job;

/// What keeps instances from starting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing does.
    Open,
    /// The host was rebooted, and the control plane has not answered a heartbeat since.
    Unheard,
    /// An operator stated that this node is off.
    Fenced,
}

/// The one gate of an agent.
#[derive(Debug)]
pub struct Gate(watch::Sender<Standing>);

impl Default for Gate {
    fn default() -> Self {
        Self(watch::Sender::new(Standing::Open))
    }
}

impl Gate {
    /// The host was rebooted: nothing starts until the control plane was heard.
    pub fn close(&self) {
        self.0.send_replace(Standing::Unheard);
    }

    /// The control plane answered a heartbeat, and said whether the node is fenced.
    pub fn heard(&self, fenced: bool) {
        let standing = if fenced { Standing::Fenced } else { Standing::Open };
        let before = self.0.send_replace(standing);
        if before != standing {
            tracing::warn!(?before, now = ?standing, "whether instances may start on this node changed");
        }
    }

    /// Whether instances may start now.
    #[must_use]
    pub fn standing(&self) -> Standing {
        *self.0.borrow()
    }

    /// Returns when instances may start.
    pub async fn opened(&self) {
        let mut standing = self.0.subscribe();
        // The sender lives as long as the gate does.
        drop(standing.wait_for(|standing| *standing == Standing::Open).await);
    }

    /// Refuses what would start an instance, while nothing may.
    ///
    /// # Errors
    /// `unavailable`: it may be asked for again.
    pub fn admit(&self, job: &Job) -> Result<(), Failure> {
        let message = match self.standing() {
            Standing::Open => return Ok(()),
            Standing::Unheard => {
                "the node was rebooted and waits for the answer to its first heartbeat before it starts anything"
            }
            Standing::Fenced => "the node is fenced and starts nothing: make sure that it is well, then unfence it",
        };
        if starts(job) { Err(Failure::new(Reason::Unavailable, message)) } else { Ok(()) }
    }
}

/// Whether work leaves an instance running that was off, or may.
#[must_use]
pub fn starts(job: &Job) -> bool {
    match job {
        Job::Ensure(spec) | Job::Reconfigure(spec) => spec.effective_power() == DesiredPower::On,
        Job::Power(PowerAction::Start | PowerAction::Restart | PowerAction::Reset) => true,
        Job::Power(PowerAction::Stop) | Job::Delete | Job::SetPassword { .. } | Job::EndSessions { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_starts_waits_at_the_gate() {
        let gate = Gate::default();
        let start = Job::Power(PowerAction::Start);
        assert!(gate.admit(&start).is_ok());
        gate.close();
        let refused = gate.admit(&start).unwrap_err();
        assert_eq!(refused.reason, Reason::Unavailable);
        assert!(gate.admit(&Job::Power(PowerAction::Stop)).is_ok());
        assert!(gate.admit(&Job::Delete).is_ok());
        gate.heard(true);
        assert!(gate.admit(&start).unwrap_err().message.contains("unfence"));
        gate.heard(false);
        assert!(gate.admit(&start).is_ok());
    }
}
