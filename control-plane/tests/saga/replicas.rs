//! Several replicas on one store, and what operators are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use nemordp_control_plane::reconcile::{Drift, Outcome, ROLE, Reconciler, Reconcilers, ReservationReaper};
use nemordp_control_plane::saga::carry::{Rest, carry};
use nemordp_control_plane::saga::{Engine, Settings, Tools};
use nemordp_model::audit::FindingKind;
use nemordp_model::{Freeze, OrderState, SagaKind};
use nemordp_providers::{Change, Place, Provider as _};
use nemordp_store::{Store, TenantScope, Wish};
use nemordp_types::operation::OperationKind;
use nemordp_types::{Failure, Generation, InstanceId, Mutation, NodeAddress, OperationId, Pair, Reason};
use tokio_util::sync::CancellationToken;

use crate::kit::{Backend, LEASE, World, on_both_stores};
use crate::node::Fault;

async fn two_replicas_share_the_work_and_do_nothing_twice(backend: Backend) {
    let world = World::with_nodes(2, backend).await;
    let mut orders = Vec::new();
    for _ in 0..30 {
        orders.push(world.order().await);
    }
    let stop = CancellationToken::new();
    let replicas: Vec<_> = ["one", "two"]
        .into_iter()
        .map(|name| {
            let settings = Settings { at_once: 4, ..Settings::named(name.to_owned()) };
            tokio::spawn(Engine::new().run(world.tools.clone(), settings, stop.clone()))
        })
        .collect();
    let all_ended = async {
        for bought in &orders {
            while !world.order_now(*bought).await.state.is_final() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), all_ended).await.unwrap();
    stop.cancel();
    for replica in replicas {
        replica.await.unwrap();
    }
    for bought in orders {
        assert_eq!(world.order_now(bought).await.state, OrderState::Active);
    }
    assert_eq!(world.nodes.stale(), 0);
    assert_eq!(world.nodes.proofs(), 30);
    world.audit().await;
}

async fn drift_names_what_is_missing_and_what_nobody_owns_and_touches_neither(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let kept = world.delivered().await;
    let lost = world.delivered().await;
    world.clock.advance(Duration::from_secs(1));
    let auditor = world.auditor();
    assert_eq!(Drift::new(auditor.clone()).run().await.unwrap().text, "nodes and store agree");
    assert_eq!(auditor.audit().await.unwrap().findings, [], "everything else fits too");
    let address = world.tools.store.node_fetch(world.node_ids[0]).await.unwrap().agent_address;
    let place = Place { node: world.node_ids[0], address };
    let (clock, entropy) = (world.tools.clock.as_ref(), world.tools.entropy.as_ref());
    let by_hand = |instance_id: InstanceId| Mutation {
        operation_id: OperationId::new(clock, entropy),
        instance_id,
        pair: Pair { generation: Generation(9), ..Pair::default() },
    };
    world.nodes.send(&place, by_hand(lost.instance), &Change::Delete, Duration::ZERO).await.unwrap();
    let stranger = InstanceId::new(clock, entropy);
    let spec = world.nodes.guest(kept.instance).unwrap().1.spec;
    world.nodes.send(&place, by_hand(stranger), &Change::Ensure(Box::new(spec)), Duration::ZERO).await.unwrap();
    let found = world.auditor().drift().await.unwrap().findings;
    let found: Vec<_> = found.iter().map(|finding| (finding.kind, finding.instance_id)).collect();
    let missing = (FindingKind::DomainMissing, Some(lost.instance));
    assert_eq!(found, [(FindingKind::DomainUnknown, Some(stranger)), missing]);
    let text = Drift::new(world.auditor()).run().await.unwrap().text;
    assert_eq!(text, "1 domain_unknown, 1 domain_missing");
    assert!(world.nodes.guest(stranger).is_some(), "nothing is removed by itself");
}

async fn drift_knows_a_store_that_was_restored_from_a_backup(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    let place = Place { node: world.node_ids[0], address: NodeAddress(([127, 0, 0, 1], 1).into()) };
    let (clock, entropy) = (world.tools.clock.as_ref(), world.tools.entropy.as_ref());
    let mutation = Mutation {
        operation_id: OperationId::new(clock, entropy),
        instance_id: bought.instance,
        pair: Pair { generation: Generation(9), ..Pair::default() },
    };
    let action = nemordp_types::instance::PowerAction::Restart;
    world.nodes.send(&place, mutation, &Change::Power(action), Duration::ZERO).await.unwrap();
    world.clock.advance(Duration::from_secs(1));
    let found = world.auditor().drift().await.unwrap().findings;
    assert_eq!((found.len(), found[0].kind), (1, FindingKind::StoreBehind));
    assert_eq!(found[0].instance_id, Some(bought.instance));
    // Work that the store still believes in is refused by the node; trying on would raise its numbers until they count.
    let saga = world.change(bought.instance, SagaKind::Restart, Wish::Keep).await;
    let leased = world.claim("one", saga).await.unwrap();
    assert_eq!(carry(&world.tools, leased, LEASE, &CancellationToken::new()).await, Rest::Lost);
    world.clock.advance(LEASE * 100);
    assert!(world.claim("two", saga).await.is_none(), "nobody works on it any more");
    let instance = world.tools.store.instance_fetch(TenantScope::All, bought.instance).await.unwrap();
    assert_eq!(instance.frozen, Some(Freeze::StoreBehind));
    assert_eq!(world.nodes.stale(), 1, "asked once");
}

async fn the_reaper_finds_nothing_after_failures(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    world.delivered().await;
    world.nodes.fault(OperationKind::SetPassword, Fault::Fails(Reason::NotOurs), 1);
    let failed = world.order().await;
    world.settle(failed.saga).await;
    let reaper = ReservationReaper::new(world.tools.store.clone());
    let outcome = reaper.run().await.unwrap();
    assert_eq!(outcome.text, "1 open reservations, 0 given back, 0 ports and addresses too");
}

/// Says how often it ran.
#[derive(Debug)]
struct Counts(Arc<AtomicU32>);

impl Reconciler for Counts {
    fn name(&self) -> &'static str {
        "counts"
    }

    fn purpose(&self) -> &'static str {
        "counts"
    }

    fn period(&self) -> Duration {
        Duration::from_millis(200)
    }

    fn run(&self) -> BoxFuture<'_, Result<Outcome, Failure>> {
        let runs = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        async move { Ok(format!("{runs} runs").into()) }.boxed()
    }
}

/// A replica in a runtime of its own: dropping that is what kill -9 is to the others.
fn replica(world: &World, store: Store, name: &'static str) -> (tokio::runtime::Runtime, Arc<AtomicU32>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (tools, runs) = (Tools { store: store.clone(), ..world.tools.clone() }, Arc::new(AtomicU32::new(0)));
    runtime.spawn(Engine::new().run(tools, Settings::named(name.to_owned()), CancellationToken::new()));
    let every: Vec<Box<dyn Reconciler>> = vec![Box::new(Counts(Arc::clone(&runs)))];
    let reconcilers = Reconcilers::new(every, store, world.clock.clone(), name);
    runtime.spawn(reconcilers.run(CancellationToken::new()));
    (runtime, runs)
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) -> Duration {
    let began = std::time::Instant::now();
    while !holds().await {
        assert!(began.elapsed() < Duration::from_secs(30), "{what} does not come true");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

/// Two stores on one PostgreSQL, time that runs, and a replica that is cut off in the middle of a step.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_replicas_work_is_adopted_within_seconds() {
    if !crate::postgres::available() {
        return;
    }
    let world = World::with_nodes(1, Backend::Postgres).await;
    let clock = world.clock.clone();
    let running = tokio::spawn(async move {
        let (began, mut shown) = (std::time::Instant::now(), Duration::ZERO);
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            let now = began.elapsed();
            clock.advance(now - shown);
            shown = now;
        }
    });
    world.nodes.fault(OperationKind::EnsureInstance, Fault::Hangs, 1);
    let bought = world.order().await;
    let owner = async || world.saga(bought.saga).await.lease_owner;
    let leader = async || world.tools.store.role_owner(ROLE).await.unwrap();
    let (first, first_runs) = replica(&world, world.reopen().await, "one");
    until("the first replica works", async || owner().await.as_deref() == Some("one")).await;
    until("its reconcilers run", async || first_runs.load(Ordering::Relaxed) > 0).await;
    let (second, second_runs) = replica(&world, world.reopen().await, "two");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(owner().await.as_deref(), Some("one"), "what is held is left alone");
    assert_eq!(second_runs.load(Ordering::Relaxed), 0, "one replica runs the reconcilers");
    first.shutdown_background();
    let saga = until("the saga is adopted", async || owner().await.as_deref() == Some("two")).await;
    let rest = until("the reconcilers are adopted", async || second_runs.load(Ordering::Relaxed) > 0).await;
    assert_eq!(leader().await.as_deref(), Some("two"));
    assert!(saga < Duration::from_secs(10) && saga + rest < Duration::from_secs(10), "{saga:?} {rest:?}");
    second.shutdown_background();
    running.abort();
}

on_both_stores! {
    two_replicas_share_the_work_and_do_nothing_twice
    drift_names_what_is_missing_and_what_nobody_owns_and_touches_neither
    drift_knows_a_store_that_was_restored_from_a_backup
    the_reaper_finds_nothing_after_failures
}
