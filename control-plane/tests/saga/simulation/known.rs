//! Lists that every run plays, whatever the seeds: plots in which panels of this trade leave something behind. A bug that a
//! seed finds gets its list here, cut to what it needs.

use nemordp_model::SagaKind;
use nemordp_types::operation::OperationKind;

use super::op::{Op, Wrong};

/// A plot with its name.
pub(super) const PLOTS: &[(&str, &[Op])] = &[
    (
        "a clone's answer is lost, its replica dies, its node dies before anybody adopts the order",
        &[
            Op::Order(0),
            Op::Fault(OperationKind::EnsureInstance, Wrong::AnswerLost, 1),
            Op::Crash(0, 6),
            Op::Fence(0),
            Op::Pass(10),
            Op::Carry(1),
            Op::Unfence(0),
            Op::Speak(0),
            Op::Reconcile,
            Op::Both,
        ],
    ),
    (
        "a reinstall dies half-way, and the customer deletes while the other replica's clock is ahead",
        &[
            Op::Order(0),
            Op::Carry(0),
            Op::Change(0, SagaKind::Reinstall, 0),
            Op::Crash(0, 9),
            Op::Skew(15),
            Op::Change(0, SagaKind::Delete, 0),
            Op::Both,
            Op::Both,
            Op::Skew(0),
            Op::Pass(10),
        ],
    ),
    (
        "a scheduled suspension comes while its node is cut off, is called off too late, and a resize follows",
        &[
            Op::Order(1),
            Op::Carry(1),
            Op::Suspend(0, 5),
            Op::Carry(0),
            Op::Cut(1),
            Op::Pass(20),
            Op::SuspendNever(0),
            Op::Change(0, SagaKind::Resize, 1),
            Op::Crash(1, 4),
            Op::Speak(1),
            Op::Reconcile,
            Op::Both,
        ],
    ),
    (
        "two deletions, the undo of an order among them, while the disk of the node is full",
        &[
            Op::Order(0),
            Op::Order(0),
            Op::Fault(OperationKind::SetPassword, Wrong::Full, 4),
            Op::Crash(0, 20),
            Op::Cancel(0),
            Op::Change(1, SagaKind::Delete, 0),
            Op::Change(1, SagaKind::Delete, 0),
            Op::Both,
            Op::Fault(OperationKind::DeleteInstance, Wrong::AnswerLost, 2),
            Op::Both,
            Op::Pass(30),
        ],
    ),
];
