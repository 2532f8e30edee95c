//! What follows a failure: a pure decision.

use std::time::Duration;

use nemordp_model::SagaKind;
use nemordp_types::{Entropy, Failure, Retry};

/// Tries of one step before it counts as impossible.
const TRIES_MAX: u32 = 6;
/// Nodes that are tried for one order.
const NODES_MAX: usize = 3;
/// How often a step may be begun at all, by whatever replica: one that takes its replica with it never fails, it only
/// begins again.
pub const BEGUN_MAX: u32 = 40;
/// Tries of an undo before a human looks.
const UNDO_TRIES_MAX: u32 = 12;
/// The first pause.
const PAUSE: Duration = Duration::from_millis(400);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// A failure, and what may be done about it; usually what its reason says.
#[derive(Debug, Clone)]
pub struct StepFailure {
    /// What happened.
    pub failure: Failure,
    /// What may be done.
    pub retry: Retry,
}

impl StepFailure {
    /// Trying again changes nothing, whatever the reason says in general.
    #[must_use]
    pub const fn for_good(failure: Failure) -> Self {
        Self { failure, retry: Retry::Permanent }
    }
}

impl From<Failure> for StepFailure {
    fn from(failure: Failure) -> Self {
        let retry = failure.reason.retry();
        Self { failure, retry }
    }
}

impl From<nemordp_store::StoreError> for StepFailure {
    fn from(error: nemordp_store::StoreError) -> Self {
        Failure::from(error).into()
    }
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// The same step after this pause.
    Again(Duration),
    /// From the first step on another node.
    OtherNode,
    /// Everything back.
    Unwind,
    /// A human looks.
    Stuck,
}

/// After a step failed for the `tries`-th time; `patient`: it has to work in the end, however long the node stays away.
#[must_use]
pub fn after_failure(
    kind: SagaKind,
    patient: bool,
    retry: Retry,
    tries: u32,
    nodes: usize,
    entropy: &dyn Entropy,
) -> Next {
    match retry {
        Retry::Transient if patient || tries < TRIES_MAX => Next::Again(pause(tries, entropy)),
        Retry::Elsewhere if kind == SagaKind::Provision && nodes + 1 < NODES_MAX => Next::OtherNode,
        Retry::Elsewhere if patient => Next::Again(pause(tries, entropy)),
        Retry::Transient | Retry::Elsewhere | Retry::Permanent if patient => Next::Stuck,
        Retry::Transient | Retry::Elsewhere | Retry::Permanent => Next::Unwind,
    }
}

/// After an undo failed for the `tries`-th time.
#[must_use]
pub fn after_failed_undo(retry: Retry, tries: u32, entropy: &dyn Entropy) -> Next {
    match retry {
        Retry::Transient | Retry::Elsewhere if tries < UNDO_TRIES_MAX => Next::Again(pause(tries, entropy)),
        Retry::Transient | Retry::Elsewhere | Retry::Permanent => Next::Stuck,
    }
}

/// Doubles up to a bound, then half of it at random, so that many that failed together do not come back together.
fn pause(tries: u32, entropy: &dyn Entropy) -> Duration {
    let whole = PAUSE.saturating_mul(1 << tries.saturating_sub(1).min(10)).min(PAUSE_MAX);
    let mut byte = [0u8];
    entropy.fill(&mut byte);
    whole / 2 + (whole / 2) * u32::from(byte[0]) / 255
}

#[cfg(test)]
mod tests {
    use nemordp_types::SeededEntropy;

    use super::*;

    #[test]
    fn every_failure_ends_somewhere() {
        let entropy = SeededEntropy::new(5);
        for kind in SagaKind::ALL.iter().copied().filter(|kind| !kind.is_patient()) {
            for retry in [Retry::Transient, Retry::Elsewhere, Retry::Permanent] {
                let next = after_failure(kind, false, retry, TRIES_MAX, NODES_MAX, &entropy);
                assert_eq!(next, Next::Unwind, "{kind} {retry:?}");
            }
        }
        assert_eq!(after_failed_undo(Retry::Transient, UNDO_TRIES_MAX, &entropy), Next::Stuck);
        assert_eq!(after_failed_undo(Retry::Permanent, 1, &entropy), Next::Stuck);
    }

    #[test]
    fn a_deletion_waits_for_its_node_and_a_refused_one_calls_a_human() {
        let entropy = SeededEntropy::new(5);
        assert!(matches!(after_failure(SagaKind::Delete, true, Retry::Transient, 1_000, 0, &entropy), Next::Again(_)));
        assert_eq!(after_failure(SagaKind::Delete, true, Retry::Permanent, 1, 0, &entropy), Next::Stuck);
    }

    #[test]
    fn pauses_grow_and_stay_within_their_bound() {
        let entropy = SeededEntropy::new(5);
        for tries in 1..40 {
            let pause = pause(tries, &entropy);
            assert!(pause <= PAUSE_MAX && pause >= PAUSE / 2, "{tries}: {pause:?}");
        }
    }
}
