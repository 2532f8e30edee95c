//! The customer's desktop as the control plane keeps it: what is wanted, what was last seen.
//!
//! ```text
//! provisioning ──► active ──► deleting ──► deleted
//!       └──► failed (all was undone)
//! ```

use jiff::Timestamp;
use nemordp_types::instance::{DesiredPower, InstanceSpec, InstanceStatus};
use nemordp_types::{Failure, Fence, Generation, InstanceId, NodeId, OrderId, Pair, Reason, TenantId};
use serde::{Deserialize, Serialize};

use crate::words;

words! {
    /// Where an instance is in its life.
    Lifecycle {
        /// Being built.
        Provisioning = "provisioning",
        /// Handed over.
        Active = "active",
        /// Being removed; deletion wins over everything else.
        Deleting = "deleting",
        /// Gone.
        Deleted = "deleted",
        /// Was never handed over; what was built of it is gone.
        Failed = "failed",
    }
}

impl Lifecycle {
    /// The next state, or `conflict`. The state that is reached already is no error.
    pub fn to(self, next: Self) -> Result<Self, Failure> {
        let allowed = self == next
            || match self {
                Self::Provisioning => matches!(next, Self::Active | Self::Failed),
                Self::Active => next == Self::Deleting,
                Self::Deleting => next == Self::Deleted,
                Self::Deleted | Self::Failed => false,
            };
        if allowed {
            return Ok(next);
        }
        Err(Failure::new(Reason::Conflict, format!("the instance is {self} and cannot become {next}"))
            .with_field("state"))
    }

    /// Whether it holds capacity and may have a domain.
    #[must_use]
    pub const fn is_live(self) -> bool {
        match self {
            Self::Provisioning | Self::Active | Self::Deleting => true,
            Self::Deleted | Self::Failed => false,
        }
    }
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id; the same across restarts and moves.
    pub id: InstanceId,
    /// The order it fulfils.
    pub order_id: OrderId,
    /// Whose customer.
    pub tenant_id: TenantId,
    /// The node that holds its reservation, or held it last.
    pub node_id: NodeId,
    /// What is wanted.
    pub spec: InstanceSpec,
    /// Counts the changes of what is wanted.
    pub generation: Generation,
    /// Counts how often work on it changed hands.
    pub fence: Fence,
    /// Where it is in its life.
    pub lifecycle: Lifecycle,
    /// What its node last saw.
    pub observed: Option<InstanceStatus>,
    /// When the node reported that.
    pub observed_at: Option<Timestamp>,
    /// SHA-256 of the RDP server's certificate (DER) that the proof pinned.
    pub rdp_certificate_sha256: Option<[u8; 32]>,
    /// When it was accepted.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Instance {
    /// What every mutation of it carries now.
    #[must_use]
    pub const fn pair(&self) -> Pair {
        Pair { generation: self.generation, fence: self.fence }
    }

    /// What is wanted of its power.
    #[must_use]
    pub const fn desired_power(&self) -> DesiredPower {
        self.spec.power
    }

    /// Whether its node has seen higher numbers than the store knows: the store was restored from a backup.
    #[must_use]
    pub fn is_behind(&self, status: &InstanceStatus) -> bool {
        status.pair > self.pair()
    }

    /// Whether a node that reports this may not run it any more: it was moved away since, or has ended. Never when the
    /// node knows more than the store does, which then has no say.
    #[must_use]
    pub fn is_withdrawn_from(&self, node: NodeId, status: &InstanceStatus) -> bool {
        let moved = self.node_id != node && status.pair.generation < self.generation;
        !self.is_behind(status) && (moved || !self.lifecycle.is_live())
    }

    /// Refuses everything but deletion unless it was handed over.
    pub fn require_active(&self) -> Result<(), Failure> {
        if self.lifecycle == Lifecycle::Active {
            return Ok(());
        }
        Err(Failure::new(
            Reason::Conflict,
            format!("the instance is {}: only an active one takes this", self.lifecycle),
        )
        .with_field("state"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deletion_is_a_one_way_street() {
        let path = [Lifecycle::Active, Lifecycle::Deleting, Lifecycle::Deleted];
        let end = path.into_iter().try_fold(Lifecycle::Provisioning, Lifecycle::to).unwrap();
        assert_eq!(end, Lifecycle::Deleted);
        for next in Lifecycle::ALL.iter().copied().filter(|l| *l != Lifecycle::Deleted) {
            assert_eq!(Lifecycle::Deleted.to(next).unwrap_err().reason, Reason::Conflict);
        }
        assert!(Lifecycle::Deleting.to(Lifecycle::Active).is_err());
    }

    #[test]
    fn repeating_a_step_is_no_error() {
        for state in Lifecycle::ALL.iter().copied() {
            assert_eq!(state.to(state).unwrap(), state);
        }
    }
}
