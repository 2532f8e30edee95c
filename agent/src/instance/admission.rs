//! Decides by operation id, numbers and tombstone whether a request may act on an instance.
//!
//! | what came | what happens |
//! |---|---|
//! | the operation id of another instance or kind | `invalid_argument` |
//! | anything but a delete, after a delete was accepted | `instance_deleted`, whatever its numbers |
//! | an operation that succeeded | its recorded outcome, whatever its numbers: nothing acts |
//! | numbers below the highest seen | `stale_generation` |
//! | an operation that still runs | the running operation |
//! | an operation that failed | runs again |
//! | a new operation with equal or higher numbers | runs |
//!
//! A delete after a delete is accepted under its own operation id too: what it wants is there already.

use nemordp_types::operation::{Operation, OperationKind, OperationState};
use nemordp_types::{Failure, Mutation, Reason};

use crate::journal::Record;

/// What happens with a request that is not refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The answer is known already, or under way.
    Recorded(Box<Operation>),
    /// It acts.
    Act,
}

/// Applies the table above.
///
/// # Errors
/// The refusals of the table; each message says what the caller should do.
pub fn admit(record: &Record, mutation: &Mutation, kind: OperationKind) -> Result<Admission, Failure> {
    let known = record.operation(mutation.operation_id);
    if known.is_some_and(|operation| operation.kind != kind) {
        return Err(Failure::field(
            "mutation.operation_id",
            "this id belongs to an operation of another kind: use one id for one operation",
        ));
    }
    if record.tombstone.is_some() && kind != OperationKind::DeleteInstance {
        return Err(Failure::new(
            Reason::InstanceDeleted,
            "the instance was deleted on this node: nothing brings it back, order a new one",
        ));
    }
    if let Some(operation) = known
        && operation.state == OperationState::Succeeded
    {
        return Ok(Admission::Recorded(Box::new(operation.clone())));
    }
    if mutation.pair < record.pair {
        return Err(stale(record, mutation));
    }
    match known {
        Some(operation) if operation.state == OperationState::Running => {
            Ok(Admission::Recorded(Box::new(operation.clone())))
        }
        Some(_) | None => Ok(Admission::Act),
    }
}

/// Whether something may be planned for an instance: not after a delete, not under lower numbers.
///
/// # Errors
/// `instance_deleted`, `stale_generation`.
pub fn admit_plan(record: &Record, mutation: &Mutation) -> Result<(), Failure> {
    if record.tombstone.is_some() {
        return Err(Failure::new(Reason::InstanceDeleted, "the instance was deleted on this node"));
    }
    if mutation.pair < record.pair { Err(stale(record, mutation)) } else { Ok(()) }
}

/// Refuses to start what was moved away or has ended, unless it came back under a higher generation.
///
/// # Errors
/// `stale_generation`.
pub fn require_wanted_here(record: &Record, mutation: &Mutation) -> Result<(), Failure> {
    match record.withdrawn {
        Some(withdrawn) if mutation.pair.generation <= withdrawn => Err(Failure::new(
            Reason::StaleGeneration,
            format!(
                "the instance was moved away from this node, or has ended, at generation {}: it does not start here",
                withdrawn.0
            ),
        )
        .with_field("mutation.generation")),
        Some(_) | None => Ok(()),
    }
}

fn stale(record: &Record, mutation: &Mutation) -> Failure {
    Failure::new(
        Reason::StaleGeneration,
        format!(
            "this node has seen generation {} fence {} for the instance, the request carries generation {} fence {}: read the instance again",
            record.pair.generation.0, record.pair.fence.0, mutation.pair.generation.0, mutation.pair.fence.0
        ),
    )
    .with_field("mutation.generation")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::Tombstone;
    use jiff::Timestamp;
    use nemordp_types::operation::Stage;
    use nemordp_types::{Fence, Generation, InstanceId, ManualClock, OperationId, Pair, SeededEntropy};

    const fn pair(generation: u64, fence: u64) -> Pair {
        Pair { generation: Generation(generation), fence: Fence(fence) }
    }

    struct World {
        record: Record,
        instance: InstanceId,
        first: OperationId,
        second: OperationId,
    }

    /// One ensure in the given state at (2, 5).
    fn world(state: OperationState) -> World {
        let (clock, entropy) = (ManualClock::at_second(1), SeededEntropy::new(1));
        let instance = InstanceId::new(&clock, &entropy);
        let (first, second) = (OperationId::new(&clock, &entropy), OperationId::new(&clock, &entropy));
        let mut record = Record::new(instance);
        record.pair = pair(2, 5);
        record.put(Operation {
            mutation: Mutation { operation_id: first, instance_id: instance, pair: pair(2, 5) },
            kind: OperationKind::EnsureInstance,
            stage: Stage::Finished,
            percent: None,
            state,
            accepted_at: Timestamp::UNIX_EPOCH,
            finished_at: None,
        });
        World { record, instance, first, second }
    }

    #[derive(Debug, PartialEq)]
    enum Answer {
        Recorded,
        Act,
        Refused(Reason),
    }

    fn ask(world: &World, operation_id: OperationId, pair: Pair, kind: OperationKind) -> Answer {
        let mutation = Mutation { operation_id, instance_id: world.instance, pair };
        match admit(&world.record, &mutation, kind) {
            Ok(Admission::Recorded(_)) => Answer::Recorded,
            Ok(Admission::Act) => Answer::Act,
            Err(failure) => Answer::Refused(failure.reason),
        }
    }

    #[test]
    fn the_table_holds_without_a_tombstone() {
        use Answer::{Act, Recorded, Refused};
        use OperationKind::{DeleteInstance, EnsureInstance};
        let failed = || OperationState::Failed(Failure::internal("x"));
        let stale = || Refused(Reason::StaleGeneration);
        let cases = [
            (OperationState::Succeeded, true, pair(2, 5), EnsureInstance, Recorded),
            (OperationState::Succeeded, true, pair(1, 9), EnsureInstance, Recorded),
            (OperationState::Succeeded, true, pair(3, 1), EnsureInstance, Recorded),
            (OperationState::Running, true, pair(2, 5), EnsureInstance, Recorded),
            (OperationState::Running, true, pair(2, 6), EnsureInstance, Recorded),
            (OperationState::Running, true, pair(2, 4), EnsureInstance, stale()),
            (failed(), true, pair(2, 5), EnsureInstance, Act),
            (failed(), true, pair(2, 6), EnsureInstance, Act),
            (failed(), true, pair(2, 4), EnsureInstance, stale()),
            (failed(), true, pair(1, 6), EnsureInstance, stale()),
            (failed(), true, pair(9, 9), DeleteInstance, Refused(Reason::InvalidArgument)),
            (failed(), false, pair(2, 5), EnsureInstance, Act),
            (failed(), false, pair(3, 0), EnsureInstance, Act),
            (failed(), false, pair(2, 4), EnsureInstance, stale()),
            (failed(), false, pair(1, 99), DeleteInstance, stale()),
            (failed(), false, pair(2, 5), DeleteInstance, Act),
        ];
        for (state, same, pair, kind, expected) in cases {
            let world = world(state.clone());
            let id = if same { world.first } else { world.second };
            assert_eq!(ask(&world, id, pair, kind), expected, "{state:?} same {same} {pair:?} {kind:?}");
        }
    }

    #[test]
    fn a_tombstone_refuses_all_but_deletes_whatever_their_numbers() {
        let mut world = world(OperationState::Succeeded);
        world.record.tombstone = Some(Tombstone { accepted_at: Timestamp::UNIX_EPOCH, finished_at: None });
        for kind in [
            OperationKind::EnsureInstance,
            OperationKind::PowerInstance,
            OperationKind::SetPassword,
            OperationKind::EndSessions,
        ] {
            for numbers in [pair(1, 1), pair(2, 5), pair(99, 99)] {
                let refused = Answer::Refused(Reason::InstanceDeleted);
                assert_eq!(ask(&world, world.second, numbers, kind), refused);
            }
        }
        let late = ask(&world, world.first, pair(2, 5), OperationKind::EnsureInstance);
        assert_eq!(late, Answer::Refused(Reason::InstanceDeleted), "a recorded success does not bring it back either");
        assert_eq!(ask(&world, world.second, pair(2, 5), OperationKind::DeleteInstance), Answer::Act);
        let below = ask(&world, world.second, pair(2, 4), OperationKind::DeleteInstance);
        assert_eq!(below, Answer::Refused(Reason::StaleGeneration));
    }
}
