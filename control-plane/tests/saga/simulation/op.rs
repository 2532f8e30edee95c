//! What can happen, and how a seed becomes a list of it.

use nemordp_model::SagaKind;
use nemordp_types::operation::OperationKind;
use nemordp_types::{Entropy as _, Reason, SeededEntropy};

use super::NODES;
use crate::node::Fault;

/// How much happens.
const OPS: usize = 90;

/// What is wanted of a desktop; nothing that costs more than the next one of its kind.
const KINDS: &[SagaKind] = &[
    SagaKind::Stop,
    SagaKind::Start,
    SagaKind::Restart,
    SagaKind::Reset,
    SagaKind::PasswordReset,
    SagaKind::Rename,
    SagaKind::Resize,
    SagaKind::Reinstall,
    SagaKind::Rescue,
    SagaKind::Unrescue,
    SagaKind::Suspend,
    SagaKind::Unsuspend,
    SagaKind::DeleteLater,
    SagaKind::Restore,
    SagaKind::Delete,
];

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    /// A customer orders, and placement chooses this node.
    Order(u8),
    /// A customer calls an order off, whatever it does just now.
    Cancel(u8),
    /// A customer wants something of a desktop, so much of it where that can be said.
    Change(u8, SagaKind, u8),
    /// A storefront has a desktop suspended in so many seconds, or not any more.
    Suspend(u8, u8),
    SuspendNever(u8),
    /// So many changes of a kind go wrong.
    Fault(OperationKind, Wrong, u8),
    /// The next login is dropped, as if the hypervisor had stored another password.
    Lie,
    /// Nobody reaches a node any more.
    Cut(u8),
    /// A machine dies, and an operator says so.
    Fence(u8),
    /// It is back, and he says so.
    Unfence(u8),
    /// A node sends its heartbeat.
    Speak(u8),
    /// The reconcilers have their turn.
    Reconcile,
    /// A replica carries the saga that is due longest to its next rest.
    Carry(u8),
    /// The same, but it crashes at this suspension.
    Crash(u8, u8),
    /// Both replicas carry at the same time.
    Both,
    /// Time passes.
    Pass(u8),
    /// One replica's clock jumps ahead, or back to the other's.
    Skew(u8),
}

/// How a change goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrong {
    Away,
    AnswerLost,
    Fails,
    Late,
    Full,
    ForGood,
}

impl Wrong {
    pub(super) fn fault(self) -> Fault {
        match self {
            Self::Away => Fault::Unreachable,
            Self::AnswerLost => Fault::AnswerLost,
            Self::Fails => Fault::Fails(Reason::HostFailure),
            Self::Late => Fault::FailsLate(Reason::GuestBootTimeout),
            Self::Full => Fault::Fails(Reason::DiskFull),
            Self::ForGood => Fault::Fails(Reason::NotOurs),
        }
    }
}

struct Dice(SeededEntropy);

impl Dice {
    fn below(&self, bound: usize) -> usize {
        let mut bytes = [0u8; 4];
        self.0.fill(&mut bytes);
        usize::try_from(u32::from_le_bytes(bytes)).unwrap() % bound.max(1)
    }

    fn byte(&self, bound: usize) -> u8 {
        u8::try_from(self.below(bound)).unwrap()
    }

    fn of<T: Copy>(&self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    fn node(&self) -> u8 {
        self.byte(usize::from(NODES))
    }

    fn fault(&self) -> Op {
        let kinds = [
            OperationKind::EnsureInstance,
            OperationKind::PowerInstance,
            OperationKind::SetPassword,
            OperationKind::EndSessions,
            OperationKind::DeleteInstance,
        ];
        let wrong = [Wrong::Away, Wrong::AnswerLost, Wrong::Fails, Wrong::Late, Wrong::Full, Wrong::ForGood];
        Op::Fault(self.of(&kinds), self.of(&wrong), 1 + self.byte(4))
    }

    fn op(&self) -> Op {
        match self.below(40) {
            0..=4 => Op::Order(self.node()),
            5 => Op::Cancel(self.byte(64)),
            6..=11 => Op::Change(self.byte(64), self.of(KINDS), self.byte(8)),
            12 => Op::Suspend(self.byte(64), 1 + self.byte(40)),
            13 => Op::SuspendNever(self.byte(64)),
            14..=17 => self.fault(),
            18 => Op::Lie,
            19 => Op::Cut(self.node()),
            20 => Op::Fence(self.node()),
            21 => Op::Unfence(self.node()),
            22..=23 => Op::Speak(self.node()),
            24..=25 => Op::Reconcile,
            26..=29 => Op::Carry(self.byte(2)),
            30..=34 => Op::Crash(self.byte(2), self.byte(90)),
            35 => Op::Both,
            36..=38 => Op::Pass(self.byte(40)),
            _ => Op::Skew(self.byte(20)),
        }
    }
}

pub(super) fn ops(seed: u64) -> Vec<Op> {
    let dice = Dice(SeededEntropy::new(seed));
    (0..OPS).map(|_| dice.op()).collect()
}
