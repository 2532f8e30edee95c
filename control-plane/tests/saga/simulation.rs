//! The whole of it by chance, with a seed: orders, second thoughts, changes, nodes that die and return, answers that get
//! lost, hypervisors that lie, replicas that crash at any suspension, clocks that jump and disagree.
//!
//! A seed makes a list of [`Op`]s, the list is played on a store with two replicas, whose clocks differ, then everything
//! is healed, settles, and is checked. A failure: a saga that does not end, an order that is neither done nor cleanly
//! refused, anything left behind or there twice, a password that does not open its guest. No failure: an order that failed
//! because it met more faults than a step has tries. SQLite's thread and the runtime are not under the dice: a seed repeats
//! what happens, not the exact order within one moment. Every bug that was found stays below as a literal list.

use std::sync::Arc;
use std::time::Duration;

use nemordp_control_plane::saga::carry::carry;
use nemordp_control_plane::saga::{Tools, plan};
use nemordp_model::{OrderState, SagaKind};
use nemordp_proof::{Stage, Verdict};
use nemordp_store::{Once, Store, TenantScope, Wish};
use nemordp_types::operation::OperationKind;
use nemordp_types::{Clock as _, Entropy as _, ManualClock, Reason, SeededEntropy};
use tokio_util::sync::CancellationToken;

use crate::kit::{Backend, Bought, LEASE, World};
use crate::node::Fault;

/// Seeds that every run plays; more with `NEMORDP_SEEDS=n`, another beginning with `NEMORDP_SEED=n`.
const SEEDS: u64 = 24;
const OPS: usize = 60;
const NODES: u8 = 3;
/// Longer than any pause between two tries.
const PAUSE: Duration = Duration::from_secs(31);

/// One thing that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    /// A customer orders, and placement chooses this node.
    Order(u8),
    /// A customer calls an order off, whatever it does just now.
    Cancel(u8),
    /// A customer wants something of a desktop.
    Change(u8, SagaKind),
    /// So many changes of a kind go wrong.
    Fault(OperationKind, Wrong, u8),
    /// The next login is dropped, as if the hypervisor had stored another password.
    Lie,
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
enum Wrong {
    Away,
    AnswerLost,
    Fails,
    Full,
    ForGood,
}

impl Wrong {
    fn fault(self) -> Fault {
        match self {
            Self::Away => Fault::Unreachable,
            Self::AnswerLost => Fault::AnswerLost,
            Self::Fails => Fault::Fails(Reason::HostFailure),
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

    fn op(&self) -> Op {
        let kinds = [SagaKind::Stop, SagaKind::Start, SagaKind::Restart, SagaKind::PasswordReset, SagaKind::Delete];
        match self.below(20) {
            0..=3 => Op::Order(self.byte(usize::from(NODES))),
            4 => Op::Cancel(self.byte(64)),
            5..=6 => Op::Change(self.byte(64), self.of(&kinds)),
            7..=8 => {
                let wrong = self.of(&[Wrong::Away, Wrong::AnswerLost, Wrong::Fails, Wrong::Full]);
                let kinds = [OperationKind::EnsureInstance, OperationKind::SetPassword, OperationKind::EndSessions];
                Op::Fault(self.of(&kinds), wrong, 1 + self.byte(3))
            }
            // An undo that fails for good waits for a human, which is right, and no end.
            9 => Op::Fault(OperationKind::DeleteInstance, self.of(&[Wrong::Away, Wrong::AnswerLost]), 1 + self.byte(4)),
            10 => Op::Fault(OperationKind::SetPassword, Wrong::ForGood, 1),
            11 => Op::Lie,
            12..=13 => Op::Carry(self.byte(2)),
            14..=16 => Op::Crash(self.byte(2), self.byte(90)),
            17 => Op::Both,
            18 => Op::Pass(self.byte(40)),
            _ => Op::Skew(self.byte(20)),
        }
    }
}

fn ops(seed: u64) -> Vec<Op> {
    let dice = Dice(SeededEntropy::new(seed));
    (0..OPS).map(|_| dice.op()).collect()
}

/// Two replicas on one store, each with a clock of its own.
struct Play {
    world: World,
    other: Tools,
    ahead: Arc<ManualClock>,
    bought: Vec<Bought>,
}

impl Play {
    async fn new() -> Self {
        let world = World::with_nodes(NODES, Backend::Sqlite).await;
        let ahead = Arc::new(ManualClock::at_second(world.clock.now().as_second()));
        let store = Store::open(&world.url, ahead.clone(), world.tools.entropy.clone()).await.unwrap();
        let other = Tools { store, clock: ahead.clone(), ..world.tools.clone() };
        Self { world, other, ahead, bought: Vec::new() }
    }

    fn replica(&self, index: u8) -> &Tools {
        if index == 0 { &self.world.tools } else { &self.other }
    }

    fn pass(&self, time: Duration) {
        self.world.clock.advance(time);
        self.ahead.advance(time);
    }

    fn pick(&self, index: u8) -> Option<Bought> {
        (!self.bought.is_empty()).then(|| self.bought[usize::from(index) % self.bought.len()])
    }

    /// Carries what is due; with a crash at a suspension if one is asked for. False when nothing is due.
    async fn carry(&self, index: u8, crash: Option<u8>) -> bool {
        let tools = self.replica(index);
        let owner = format!("replica-{index}");
        let Some(leased) = tools.store.saga_claim(&owner, LEASE).await.unwrap() else { return false };
        match crash {
            Some(at) => {
                World::crash(tools, leased, u32::from(at)).await;
            }
            None => {
                carry(tools, leased, LEASE, &CancellationToken::new()).await;
            }
        }
        true
    }

    async fn change(&self, bought: Bought, kind: SagaKind) {
        let wish = match kind.word() {
            "stop" => Wish::PowerOff,
            "start" | "restart" => Wish::PowerOn,
            "delete" => Wish::Delete,
            _ => Wish::Keep,
        };
        let saga = plan::begin(kind, self.world.clock.as_ref(), self.world.tools.entropy.as_ref()).unwrap();
        let store = &self.world.tools.store;
        // Not delivered, gone, or busy: refused, as any customer would be.
        if let Ok(Once::Replayed(_)) =
            store.instance_change(TenantScope::All, bought.instance, &wish, &saga, None).await
        {
            panic!("nothing was asked for twice");
        }
    }

    async fn play(&mut self, op: Op) {
        match op {
            Op::Order(node) => self.bought.push(self.world.order_at(usize::from(node)).await),
            Op::Cancel(index) => {
                if let Some(bought) = self.pick(index) {
                    // Too late is an answer too.
                    drop(self.world.tools.store.order_cancel(TenantScope::All, bought.order, None).await);
                }
            }
            Op::Change(index, kind) => {
                if let Some(bought) = self.pick(index) {
                    self.change(bought, kind).await;
                }
            }
            Op::Fault(kind, wrong, times) => self.world.nodes.fault(kind, wrong.fault(), u32::from(times)),
            Op::Lie => self.world.nodes.verdict(Verdict::Dropped { stage: Stage::CredentialSent }),
            Op::Carry(index) => {
                self.carry(index, None).await;
            }
            Op::Crash(index, at) => {
                self.carry(index, Some(at)).await;
            }
            Op::Both => {
                tokio::join!(self.carry(0, None), self.carry(1, None));
            }
            Op::Pass(seconds) => self.pass(Duration::from_secs(u64::from(seconds))),
            Op::Skew(0) => self.ahead.set(self.world.clock.now()),
            Op::Skew(seconds) => self.ahead.advance(Duration::from_secs(u64::from(seconds))),
        }
    }

    /// Heals everything and lets it end.
    async fn settle(&self) {
        self.world.nodes.heal();
        for _ in 0..2_000 {
            if self.carry(0, None).await | self.carry(1, None).await {
                continue;
            }
            if self.world.tools.store.saga_next_due().await.unwrap().is_none() {
                return;
            }
            self.pass(PAUSE);
        }
        panic!("it does not end");
    }
}

/// Plays a list to its end; how many orders were delivered, and how many were refused.
async fn simulate(ops: &[Op]) -> (usize, usize) {
    let mut play = Play::new().await;
    for op in ops {
        play.play(*op).await;
    }
    play.settle().await;
    play.world.audit().await;
    let (mut delivered, mut refused) = (0, 0);
    for bought in &play.bought {
        match play.world.order_now(*bought).await.state {
            OrderState::Active => delivered += 1,
            OrderState::Failed | OrderState::Cancelled => refused += 1,
            OrderState::Accepted | OrderState::Provisioning | OrderState::Cancelling | OrderState::Refused => {
                panic!("{bought:?} did not settle");
            }
        }
    }
    (delivered, refused)
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chance_loses_nothing() {
    let (first, count) = (number("NEMORDP_SEED", 1), number("NEMORDP_SEEDS", SEEDS));
    let (mut delivered, mut refused) = (0, 0);
    for seed in first..first + count {
        // Shown when it fails: play this one again with NEMORDP_SEED and NEMORDP_SEEDS=1.
        println!("seed {seed}");
        let outcome = simulate(&ops(seed)).await;
        (delivered, refused) = (delivered + outcome.0, refused + outcome.1);
    }
    println!("{count} seeds from {first}: {delivered} delivered, {refused} refused");
    assert!(count < 4 || delivered > 0 && refused > 0, "{delivered} delivered, {refused} refused: chance is no chance");
}

#[test]
fn a_seed_is_a_list() {
    assert_eq!(ops(7), ops(7));
    assert_ne!(ops(7), ops(8));
}
