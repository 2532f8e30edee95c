//! Suspensions at a time that a node carries out whoever can be reached then.

use jiff::Timestamp;
use nemordp_types::{InstanceId, NodeId, OperationId};
use serde::{Deserialize, Serialize};

use crate::instance::Wish;
use crate::saga::SagaKind;
use crate::words;

words! {
    /// How far a scheduled suspension is.
    SuspensionState {
        /// The node is to be told.
        Wanted = "wanted",
        /// The node knows, and does it at its time.
        Placed = "placed",
        /// The node is to be told that it is not wanted any more.
        Cancelling = "cancelling",
    }
}

/// An instance that is to be switched off at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// Which.
    pub instance_id: InstanceId,
    /// By what the node knows it.
    pub operation_id: OperationId,
    /// When.
    pub at: Timestamp,
    /// How far it is.
    pub state: SuspensionState,
    /// The node that was told.
    pub node_id: Option<NodeId>,
}

/// What follows from a node's word that a suspension has happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// It was wanted: the instance is suspended here too.
    Suspend,
    /// It was called off, or put off, too late: its node is brought back to what is wanted.
    TakeBack,
}

impl Happened {
    /// The work that brings both sides to the same state.
    #[must_use]
    pub const fn work(&self) -> (SagaKind, Wish) {
        match self {
            Self::Suspend => (SagaKind::Suspend, Wish::Suspend),
            Self::TakeBack => (SagaKind::Realign, Wish::Realign),
        }
    }
}

impl Suspension {
    /// What follows from its node's word that this operation has happened.
    #[must_use]
    pub fn happened(&self, operation: OperationId) -> Happened {
        match self.state {
            SuspensionState::Wanted | SuspensionState::Placed if self.operation_id == operation => Happened::Suspend,
            SuspensionState::Wanted | SuspensionState::Placed | SuspensionState::Cancelling => Happened::TakeBack,
        }
    }

    /// Whether it is over with that word; what was put off to another time still stands.
    #[must_use]
    pub fn ends_with(&self, operation: OperationId) -> bool {
        self.operation_id == operation || self.state == SuspensionState::Cancelling
    }
}

#[cfg(test)]
mod tests {
    use nemordp_types::{ManualClock, SeededEntropy};

    use super::*;
    use SuspensionState::{Cancelling, Placed, Wanted};

    #[test]
    fn what_was_called_off_or_put_off_too_late_is_taken_back() {
        let (clock, entropy) = (ManualClock::at_second(1), SeededEntropy::new(1));
        let (this, another) = (OperationId::new(&clock, &entropy), OperationId::new(&clock, &entropy));
        let suspension = |state| Suspension {
            instance_id: InstanceId::new(&clock, &entropy),
            operation_id: this,
            at: Timestamp::UNIX_EPOCH,
            state,
            node_id: None,
        };
        for (state, operation, expected, ends) in [
            (Wanted, this, Happened::Suspend, true),
            (Placed, this, Happened::Suspend, true),
            (Placed, another, Happened::TakeBack, false),
            (Wanted, another, Happened::TakeBack, false),
            (Cancelling, another, Happened::TakeBack, true),
            (Cancelling, this, Happened::TakeBack, true),
        ] {
            let known = suspension(state);
            assert_eq!((known.happened(operation), known.ends_with(operation)), (expected, ends), "{state}");
        }
    }
}
