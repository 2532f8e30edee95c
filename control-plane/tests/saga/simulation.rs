//! The whole of it by chance, with a seed: orders, second thoughts, every change there is, suspensions at a time, nodes that
//! are cut off, die and return, answers that get lost, hypervisors that lie, replicas that crash at any suspension, clocks
//! that jump and disagree.
//!
//! A seed makes a list of [`Op`]s, the list is played on a store with two replicas, whose clocks differ, then everything
//! is healed, settles, and is checked. A failure: a saga that does not end, an order that is neither done nor cleanly
//! refused, anything left behind or there twice, a password that does not open its guest. No failure: an order that failed
//! because it met more faults than a step has tries. SQLite's thread and the runtime are not under the dice: a seed repeats
//! what happens, not the exact order within one moment. Lists that are always played stand in `known`, the place for a bug
//! that a seed finds.

mod known;
mod op;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nemordp_control_plane::reconcile::{Deletion, Realignment, Reconciler as _};
use nemordp_control_plane::saga::carry::carry;
use nemordp_control_plane::saga::{Engine, Tools, plan};
use nemordp_model::{OrderState, SagaKind, SagaStatus, Wish};
use nemordp_proof::{Stage, Verdict};
use nemordp_store::{Once, Page, SagaFilter, Store, StoreError, TenantScope};
use nemordp_types::node::NodeAvailability;
use nemordp_types::{Clock as _, GiB, HostName, InstanceId, ManualClock, MiB, NodeId, OperationId, Vcpu};
use tokio_util::sync::CancellationToken;

use crate::kit::{Backend, Bought, LEASE, World};
use op::{Op, ops};

/// Seeds that every run plays; more with `NEMORDP_SEEDS=n`, another beginning with `NEMORDP_SEED=n`.
const SEEDS: u64 = 24;
const NODES: u8 = 3;
/// Longer than any pause between two tries.
const PAUSE: Duration = Duration::from_secs(31);

/// Two replicas on one store, each with a clock of its own.
struct Play {
    world: World,
    other: Tools,
    ahead: Arc<ManualClock>,
    bought: Vec<Bought>,
    /// What was on a machine when it died: some of it may be left there, off, for its operator to remove.
    held: BTreeSet<(NodeId, InstanceId)>,
}

impl Play {
    async fn new() -> Self {
        let world = World::with_nodes(NODES, Backend::Sqlite).await;
        let ahead = Arc::new(ManualClock::at_second(world.clock.now().as_second()));
        let store = Store::open(&world.url, ahead.clone(), world.tools.entropy.clone()).await.unwrap();
        let other = Tools { store, clock: ahead.clone(), ..world.tools.clone() };
        Self { world, other, ahead, bought: Vec::new(), held: BTreeSet::new() }
    }

    fn replica(&self, index: u8) -> &Tools {
        if index == 0 { &self.world.tools } else { &self.other }
    }

    fn pass(&self, time: Duration) {
        self.world.clock.advance(time);
        self.ahead.advance(time);
        self.world.nodes.time_comes(self.world.clock.now());
    }

    fn pick(&self, index: u8) -> Option<Bought> {
        (!self.bought.is_empty()).then(|| self.bought[usize::from(index) % self.bought.len()])
    }

    /// Every second order gets a GPU, as long as there are any.
    async fn buy(&self, node: usize) -> Result<Bought, StoreError> {
        if self.bought.len() % 2 == 1
            && let Ok(bought) = self.world.order_with_gpus(node, 1).await
        {
            return Ok(bought);
        }
        self.world.order_if_taken(node).await
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

    fn wish(&self, kind: SagaKind, much: u8) -> Wish {
        let much = u64::from(much) + 1;
        match kind {
            SagaKind::Stop => Wish::PowerOff,
            SagaKind::Start | SagaKind::Restart | SagaKind::Reset => Wish::PowerOn,
            SagaKind::Rename => Wish::Rename { host_name: HostName::new(format!("desk-{much}")).unwrap() },
            SagaKind::Resize => {
                let vcpu = Some(Vcpu(2 * u32::try_from(much).unwrap()));
                Wish::Resize { vcpu, memory: Some(MiB(4_096 * much)), disk: Some(GiB(50 * much)) }
            }
            SagaKind::Reinstall => Wish::Reinstall { template: None },
            SagaKind::Rescue => Wish::Rescue,
            SagaKind::Unrescue => Wish::Unrescue,
            SagaKind::Suspend => Wish::Suspend,
            SagaKind::Unsuspend => Wish::Unsuspend,
            SagaKind::DeleteLater => {
                Wish::DeleteLater { at: self.world.clock.now().checked_add(Duration::from_secs(much * 9)).unwrap() }
            }
            SagaKind::Restore => Wish::Restore,
            SagaKind::Realign => Wish::Realign,
            SagaKind::Delete => Wish::Delete,
            SagaKind::Provision | SagaKind::PasswordReset => Wish::Keep,
        }
    }

    async fn change(&self, bought: Bought, kind: SagaKind, much: u8) {
        let wish = self.wish(kind, much);
        let saga = plan::begin(kind, self.world.clock.as_ref(), self.world.tools.entropy.as_ref()).unwrap();
        let store = &self.world.tools.store;
        // Not delivered, gone, or busy: refused, as any customer would be.
        if let Ok(Once::Replayed(_)) =
            store.instance_change(TenantScope::All, bought.instance, &wish, &saga, None).await
        {
            panic!("nothing was asked for twice");
        }
    }

    async fn suspend(&self, bought: Bought, seconds: Option<u8>) {
        let (store, id) = (&self.world.tools.store, bought.instance);
        let operation = OperationId::new(self.world.clock.as_ref(), self.world.tools.entropy.as_ref());
        // Refused before it was handed over.
        match seconds {
            Some(seconds) => {
                let at = self.world.clock.now().checked_add(Duration::from_secs(seconds.into())).unwrap();
                drop(store.suspension_schedule(TenantScope::All, id, operation, at, None).await);
            }
            None => drop(store.suspension_cancel(TenantScope::All, id, operation).await),
        }
    }

    async fn reconcile(&self) {
        let Tools { store, clock, entropy, .. } = self.world.tools.clone();
        let deletion = Deletion::new(store.clone(), clock.clone(), entropy.clone(), Engine::new());
        deletion.run().await.unwrap();
        Realignment::new(store, clock, entropy, Engine::new()).run().await.unwrap();
        self.world.tell_ahead().await;
    }

    async fn fence(&mut self, index: usize) {
        let node = self.world.node_ids[index];
        if self.world.tools.store.node_fetch(node).await.unwrap().availability != NodeAvailability::Fenced {
            let there = self.world.nodes.guests().into_iter().filter(|(of, _, _)| *of == node);
            self.held.extend(there.map(|(of, id, _)| (of, id)));
            self.world.fence(index).await;
        }
    }

    async fn play(&mut self, op: Op) {
        match op {
            Op::Order(node) => match self.buy(usize::from(node)).await {
                Ok(bought) => self.bought.push(bought),
                // Placement would not have chosen it.
                Err(StoreError::Raced) => {}
                Err(error) => panic!("{error}"),
            },
            Op::Cancel(index) => {
                if let Some(bought) = self.pick(index) {
                    // Too late is an answer too.
                    drop(self.world.tools.store.order_cancel(TenantScope::All, bought.order, None).await);
                }
            }
            Op::Change(index, kind, much) => {
                if let Some(bought) = self.pick(index) {
                    self.change(bought, kind, much).await;
                }
            }
            Op::Suspend(index, _) | Op::SuspendNever(index) => {
                if let Some(bought) = self.pick(index) {
                    self.suspend(bought, if let Op::Suspend(_, seconds) = op { Some(seconds) } else { None }).await;
                }
            }
            Op::Cut(node) => self.world.nodes.cut(self.world.node_ids[usize::from(node)], true),
            Op::Fence(node) => self.fence(usize::from(node)).await,
            Op::Unfence(node) => self.world.unfence(usize::from(node)).await,
            Op::Speak(node) => {
                self.world.node_speaks(usize::from(node)).await;
            }
            Op::Reconcile => self.reconcile().await,
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
        for index in 0..usize::from(NODES) {
            self.world.unfence(index).await;
        }
        for _ in 0..2_000 {
            if self.carry(0, None).await | self.carry(1, None).await {
                continue;
            }
            if self.world.tools.store.saga_next_due().await.unwrap().is_some() {
                self.pass(PAUSE);
            } else if !self.goes_on().await {
                return;
            }
        }
        panic!("it does not end");
    }

    /// Nodes speak, reconcilers look, an operator lets go on what is stuck; whether that began anything.
    async fn goes_on(&self) -> bool {
        for index in 0..usize::from(NODES) {
            self.world.node_speaks(index).await;
        }
        self.reconcile().await;
        let store = &self.world.tools.store;
        let filter = SagaFilter { status: Some(SagaStatus::Stuck), ..SagaFilter::default() };
        for stuck in store.saga_list(TenantScope::All, filter, Page::first(200)).await.unwrap().items {
            // Refused while newer work is under way on the instance.
            drop(store.saga_resume(TenantScope::All, stuck.id, None, None).await);
        }
        store.saga_next_due().await.unwrap().is_some()
    }

    /// What is left on machines that died does not run, and is removed by their operator.
    async fn clean_up(&self) {
        for (node, id, guest) in self.world.nodes.guests() {
            let instance = self.world.instance(id).await;
            if instance.lifecycle.is_live() && instance.node_id == node {
                continue;
            }
            assert!(self.held.contains(&(node, id)), "{id} was left on a node that never died");
            assert!(!guest.running, "{id} runs where it may not");
            self.world.nodes.remove_from(node, id);
        }
    }
}

/// Plays a list to its end; how many orders were delivered, and how many were refused.
async fn simulate(ops: &[Op]) -> (usize, usize) {
    let mut play = Play::new().await;
    for op in ops {
        play.play(*op).await;
    }
    play.settle().await;
    play.clean_up().await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn known_plots_lose_nothing() {
    for (plot, ops) in known::PLOTS {
        println!("{plot}");
        let (delivered, refused) = simulate(ops).await;
        assert!(delivered + refused > 0, "{plot}: nothing was ordered");
    }
}

#[test]
fn a_seed_is_a_list() {
    assert_eq!(ops(7), ops(7));
    assert_ne!(ops(7), ops(8));
}
