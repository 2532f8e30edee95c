//! The customer's desktop as the control plane keeps it: what is wanted, what was last seen. [`wish`] changes what is wanted.
//!
//! ```text
//! provisioning ──► active ──► deleting ──► deleted
//!       └──► failed (all was undone)
//! ```

use jiff::Timestamp;
use nemordp_types::instance::{DesiredPower, InstanceSpec, InstanceStatus};
use nemordp_types::{Failure, Fence, Generation, InstanceId, NodeId, OrderId, Pair, Reason, TenantId};
use serde::{Deserialize, Serialize};

use crate::placement::Siting;
use crate::words;

pub mod wish;

pub use wish::{Former, Wish};

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

words! {
    /// Why nothing is done to an instance.
    Freeze {
        /// The store was put back from a backup, and the instance's node has not reported since.
        Unverified = "unverified",
        /// Its node has seen higher numbers than the store: changes of it were forgotten.
        StoreBehind = "store_behind",
        /// Work on it was under way when the backup was made, and may have ended since: its node cannot tell.
        Undecided = "undecided",
        /// The store was put back from a backup, and its node does not have it.
        Missing = "missing",
    }
}

words! {
    /// How the operator settles a frozen instance.
    Adoption {
        /// It is as its node has it; what was under way, but for a deletion, is given up.
        Keep = "keep",
        /// The customer has it already: its order is fulfilled, nothing is built or undone any more.
        Delivered = "delivered",
        /// What was under way goes on from where the store remembers it; an order may be undone by that.
        Resume = "resume",
        /// It does not exist any more: what it held is given back.
        Gone = "gone",
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
    /// What it asks of its node beyond region and amounts.
    #[serde(default)]
    pub siting: Siting,
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
    /// SHA-256 of the RDP server's certificate (DER) that the proof pinned, or that was read inside the guest since.
    pub rdp_certificate_sha256: Option<[u8; 32]>,
    /// Why nothing is done to it, if so.
    pub frozen: Option<Freeze>,
    /// Since when.
    pub frozen_at: Option<Timestamp>,
    /// Since when it is suspended.
    pub suspended_at: Option<Timestamp>,
    /// When it is to be deleted; until then it is off, and can be had back.
    pub delete_after: Option<Timestamp>,
    /// Since when its node may not have what is wanted: it could not be told, because it was fenced.
    pub misaligned_at: Option<Timestamp>,
    /// Until when it is paid for, where the storefront said so: when placement expects it to end. Nothing happens then by itself.
    #[serde(default)]
    pub paid_until: Option<Timestamp>,
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

    /// What is wanted of its power now: a suspended one is off, whatever the customer wants.
    #[must_use]
    pub const fn desired_power(&self) -> DesiredPower {
        self.spec.effective_power()
    }

    /// Whether its node has seen higher numbers than the store knows: the store was restored from a backup.
    #[must_use]
    pub fn is_behind(&self, status: &InstanceStatus) -> bool {
        status.pair > self.pair()
    }

    /// Whether a node that reports this may not run it any more, or not yet: it was moved away since, or has ended, or the
    /// node missed a change and is brought in line first. Never when the node knows more than the store does, which then
    /// has no say.
    #[must_use]
    pub fn is_withdrawn_from(&self, node: NodeId, status: &InstanceStatus) -> bool {
        let moved = self.node_id != node && status.pair.generation < self.generation;
        let over = moved || !self.lifecycle.is_live() || self.misaligned_at.is_some();
        self.frozen.is_none() && !self.is_behind(status) && over
    }

    /// What follows from its node's word about it. `under_way`: the store remembers an open saga of it.
    #[must_use]
    pub fn verdict(&self, status: &InstanceStatus, under_way: bool) -> AfterReport {
        match (self.is_behind(status), self.frozen) {
            (false, None) | (_, Some(Freeze::StoreBehind | Freeze::Undecided)) => AfterReport::AsBefore,
            (true, None | Some(Freeze::Unverified | Freeze::Missing)) => AfterReport::Freeze(Freeze::StoreBehind),
            // Many steps share one pair of numbers: equal ones do not tell how far the work came.
            (false, Some(Freeze::Unverified | Freeze::Missing)) if under_way => AfterReport::Freeze(Freeze::Undecided),
            (false, Some(Freeze::Unverified | Freeze::Missing)) => AfterReport::Thaw,
        }
    }

    /// Refuses everything while it is frozen.
    pub fn require_thawed(&self) -> Result<(), Failure> {
        let Some(why) = self.frozen else { return Ok(()) };
        Err(Failure::new(
            Reason::StoreBehindNode,
            "the store was restored from a backup and the instance waits for the operator: look at `nemordp audit`, \
             settle it with `nemordp instance adopt`",
        )
        .with_field("state")
        .with_context(format!("frozen: {why}")))
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

/// What a node's word changes about a frozen instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterReport {
    /// Nothing.
    AsBefore,
    /// Nothing is done to it from now on.
    Freeze(Freeze),
    /// Work on it goes on.
    Thaw,
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
