//! The numbers that keep late or doubled work from acting on an instance.

use serde::{Deserialize, Serialize};

use crate::id::{InstanceId, OperationId};

/// Counts the changes of what is wanted of an instance; raised by the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// Counts how often work on an instance changed hands; raised in the transaction that leases the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(pub u64);

/// Generation and fence; compares lexicographically, generation first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Pair {
    /// What is wanted.
    pub generation: Generation,
    /// Who may act.
    pub fence: Fence,
}

/// What every mutation of an instance carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mutation {
    /// The same across retries of the same step: a recorded success is returned, a recorded failure runs again.
    pub operation_id: OperationId,
    /// Whom it concerns.
    pub instance_id: InstanceId,
    /// What is refused when the node has seen a higher one.
    pub pair: Pair,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generation_outweighs_the_fence() {
        let older = Pair { generation: Generation(1), fence: Fence(900) };
        let newer = Pair { generation: Generation(2), fence: Fence(1) };
        assert!(older < newer);
    }
}
