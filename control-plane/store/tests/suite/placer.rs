//! One who places orders on a full fleet, a few together: takes a snapshot, decides each on what those before it left, and has
//! them accepted; gives an instance back for each that finds no room; is cut off now and then, and begins again with the same idempotency key, as a client does that got no answer.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nemordp_model::{GpuDemand, PlacementRequest, explain};
use nemordp_store::{Accepted, Candidate, Idempotency, Once, OrderAccept, StoreError, StoredResponse};
use nemordp_types::node::GpuInventory;
use nemordp_types::{Entropy as _, GpuModel, InstanceId, NodeId};

use crate::history;
use crate::postgres::Cluster;
use crate::support::{DAY, World, label, region, shape, template};

/// What happened, for whoever keeps the books.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happened {
    /// An order is committed, and its placer knows it.
    Accepted(u64, InstanceId),
    /// An instance holds nothing any more.
    Released(InstanceId),
    /// All nodes of the decision were filled meanwhile: placed again.
    PlacedAgain,
    /// Cut off in the middle of an order.
    CutOff,
    /// The database was away or busy.
    NotReached,
}

/// What one placer has to do, and what it may give back.
pub(crate) struct Placer<'w> {
    pub(crate) world: &'w World,
    pub(crate) orders: Vec<u64>,
    /// How many share a decision and a commit.
    pub(crate) together: usize,
    /// What any of them may give back.
    pub(crate) live: &'w Mutex<Vec<InstanceId>>,
    /// Of 65536 commits so many are cut off somewhere within the limit.
    pub(crate) cut_off: (u16, Duration),
}

/// GPUs of every third order, of any model.
fn gpus(number: u64) -> Option<GpuDemand> {
    number.is_multiple_of(3).then_some(GpuDemand { count: 1, model: None })
}

pub(crate) fn request(gpus: Option<GpuDemand>) -> PlacementRequest {
    PlacementRequest {
        template: template().digest,
        template_size: template().file_size,
        ..PlacementRequest::new(
            region(),
            nemordp_model::Demand {
                vcpu: shape().vcpu,
                memory: shape().memory,
                disk: shape().disk,
                storage_class: shape().storage_class,
                gpus,
            },
        )
    }
}

fn respond(accepted: &Accepted) -> StoredResponse {
    StoredResponse { status: 202, body: accepted.instance.id.to_string() }
}

/// An order that is not answered yet.
struct Open {
    number: u64,
    key: String,
    accept: OrderAccept,
    /// Its placer was cut off while it asked, so it may have been accepted.
    cut_off: bool,
}

impl Placer<'_> {
    fn random(&self) -> u16 {
        let mut bytes = [0u8; 2];
        self.world.entropy.fill(&mut bytes);
        u16::from_le_bytes(bytes)
    }

    /// Places all its orders.
    pub(crate) async fn run(self, happened: &(dyn Fn(Happened) + Sync)) {
        for numbers in self.orders.chunks(self.together) {
            let mut open: Vec<Open> = numbers.iter().map(|number| self.draft(*number)).collect();
            while !open.is_empty() {
                open = match self.world.store.placement_turn().await {
                    Ok(turn) => {
                        let left = self.place(open, happened).await;
                        turn.end().await;
                        left
                    }
                    Err(error) => {
                        pause(&error, happened).await;
                        open
                    }
                };
            }
        }
    }

    fn draft(&self, number: u64) -> Open {
        let mut accept = self.world.order(NodeId::from_uuid(uuid::Uuid::nil()));
        accept.order.external_reference = Some(label(&format!("order {number}")));
        accept.shape.gpus = gpus(number);
        Open { number, key: format!("key-{number}"), accept, cut_off: false }
    }

    /// Places the orders once; gives those that are still open.
    async fn place(&self, mut open: Vec<Open>, happened: &(dyn Fn(Happened) + Sync)) -> Vec<Open> {
        let mut fleet = match self.world.store.fleet_snapshot(Some(&region())).await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                pause(&error, happened).await;
                return open;
            }
        };
        let (mut asked, mut short) = (Vec::new(), 0);
        for (at, order) in open.iter_mut().enumerate() {
            let request = request(gpus(order.number));
            let explained = explain(&request, &fleet);
            if let Some(choice) = explained.choice {
                fleet.nodes.iter_mut().filter(|node| node.id == choice).for_each(|node| node.reserve(&request));
                order.accept.node_id = choice;
                order.accept.alternatives = explained.best().map(|(id, _)| id).filter(|id| *id != choice).collect();
                asked.push(at);
                continue;
            }
            short += 1;
            // Whoever was cut off may have got the last room already, and asks for the answer.
            if order.cut_off {
                order.accept.node_id = fleet.nodes[0].id;
                asked.push(at);
            }
        }
        futures::future::join_all((0..short).map(|_| self.give_one_back(happened))).await;
        self.ask(open, &asked, short > 0, happened).await
    }

    async fn ask(
        &self,
        mut open: Vec<Open>,
        asked: &[usize],
        full: bool,
        happened: &(dyn Fn(Happened) + Sync),
    ) -> Vec<Open> {
        let intentions: Vec<_> = asked.iter().map(|at| intention(self.world, &open[*at].key)).collect();
        let burst: Vec<_> = asked
            .iter()
            .zip(&intentions)
            .map(|(at, intention)| Candidate { accept: &open[*at].accept, intention: Some(intention) })
            .collect();
        let accept = self.world.store.order_accept_burst(&burst);
        let outcomes = if self.random() < self.cut_off.0 {
            let within = self.cut_off.1.mul_f64(f64::from(self.random()) / 65_536.0);
            tokio::time::timeout(within, accept).await.ok()
        } else {
            Some(accept.await)
        };
        let Some(outcomes) = outcomes else {
            happened(Happened::CutOff);
            drop(burst);
            drop(intentions);
            asked.iter().for_each(|at| open[*at].cut_off = true);
            return open;
        };
        let mut answered = BTreeMap::new();
        for (at, outcome) in asked.iter().zip(outcomes) {
            match outcome {
                Ok(Once::Done(accepted)) => drop(answered.insert(*at, accepted.instance.id)),
                Ok(Once::Replayed(answer)) => drop(answered.insert(*at, answer.body.parse().unwrap())),
                Err(StoreError::Raced) if full && open[*at].cut_off => {}
                Err(StoreError::Raced) => happened(Happened::PlacedAgain),
                Err(error) => pause(&error, happened).await,
            }
        }
        let mut left = Vec::new();
        for (at, order) in open.into_iter().enumerate() {
            let Some(instance) = answered.get(&at) else {
                // A database that went away in the middle of the commit may have kept it.
                left.push(Open { cut_off: order.cut_off || asked.contains(&at), ..order });
                continue;
            };
            self.live.lock().unwrap().push(*instance);
            happened(Happened::Accepted(order.number, *instance));
        }
        left
    }

    async fn give_one_back(&self, happened: &(dyn Fn(Happened) + Sync)) {
        let at = usize::from(self.random());
        let taken = {
            let mut live = self.live.lock().unwrap();
            let at = at % live.len().max(1);
            (at < live.len()).then(|| live.swap_remove(at))
        };
        let Some(instance) = taken else { return };
        while let Err(error) = self.world.store.order_release(instance).await {
            pause(&error, happened).await;
        }
        happened(Happened::Released(instance));
    }
}

fn intention<'a>(world: &World, key: &'a str) -> Idempotency<'a, Accepted> {
    Idempotency { api_key_id: world.key, key, fingerprint: [1; 32], lifetime: DAY, respond: &respond }
}

/// Waits where waiting helps.
async fn pause(error: &StoreError, happened: &(dyn Fn(Happened) + Sync)) {
    assert!(
        matches!(error, StoreError::Unreachable(_) | StoreError::Busy(_) | StoreError::Driver(_)),
        "an order met {error:?}"
    );
    happened(Happened::NotReached);
    tokio::time::sleep(Duration::from_millis(20)).await;
}

/// Placers at once.
pub(crate) const PLACERS: u64 = 8;

/// Eight placers fill a fleet and go on, in turns on these stores; gives what happened. `progress` counts what was accepted.
pub(crate) async fn campaign(
    worlds: &[World],
    orders: u64,
    together: usize,
    cut_off: (u16, Duration),
    progress: &AtomicU64,
) -> Vec<Happened> {
    let (books, live) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    let happened = |event: Happened| {
        if matches!(event, Happened::Accepted(..)) {
            progress.fetch_add(1, Ordering::Relaxed);
        }
        books.lock().unwrap().push(event);
    };
    let placers = (0..PLACERS).map(|placer| {
        let orders = (0..orders).filter(|order| order % PLACERS == placer).collect();
        let world = &worlds[usize::try_from(placer).unwrap() % worlds.len()];
        Placer { world, orders, together, live: &live, cut_off }.run(&happened)
    });
    futures::future::join_all(placers).await;
    books.into_inner().unwrap()
}

/// Crashes the server whenever so many orders more were accepted, until all were; gives how often.
pub(crate) async fn crash_every(mut cluster: Cluster, every: u64, orders: u64, progress: &AtomicU64) -> (Cluster, u64) {
    let mut crashes = 0;
    while progress.load(Ordering::Relaxed) < orders {
        if progress.load(Ordering::Relaxed) >= every * (crashes + 1) {
            let crashed = tokio::task::spawn_blocking(move || {
                cluster.crash();
                cluster
            });
            cluster = crashed.await.unwrap();
            crashes += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (cluster, crashes)
}

/// How often something happened.
pub(crate) fn count(books: &[Happened], kind: impl Fn(&Happened) -> bool) -> usize {
    books.iter().filter(|happened| kind(happened)).count()
}

/// An independent reader finds all orders, each once, never more held than there is; gives how many were placed again.
pub(crate) async fn judge(world: &World, books: &[Happened], orders: u64) -> usize {
    let accepted = count(books, |happened| matches!(happened, Happened::Accepted(..)));
    assert_eq!(u64::try_from(accepted).unwrap(), orders);
    let released = count(books, |happened| matches!(happened, Happened::Released(_)));
    let replayed = history::replay(world).await;
    replayed.assert_sound(accepted - released);
    assert_eq!(u64::try_from(replayed.references.len()).unwrap(), orders, "an order was lost or doubled");
    assert_eq!(replayed.entries, accepted + released);
    for happened in books {
        if let Happened::Accepted(number, _) = happened {
            let name = format!("order {number}");
            assert!(replayed.references.contains(&name), "{name} was acknowledged and is gone");
        }
    }
    count(books, |happened| *happened == Happened::PlacedAgain)
}

/// Nodes that hold so many instances each, with more ports and addresses than the orders will ever take.
pub(crate) async fn fleet(world: &World, nodes: u8, instances: u32) {
    for address in 1..=nodes {
        let id = world.node(&format!("node-{address}"), address, instances, 40_000).await;
        let mut wide = crate::support::inventory(address, instances, 40_000);
        wide.private_subnet = "10.64.0.0/16".parse().unwrap();
        // Processors are sold twice; here every dimension is to bind.
        wide.vcpu = nemordp_types::Vcpu(instances);
        wide.gpus = vec![GpuInventory { model: GpuModel::new("rtx4000").unwrap(), count: instances / 4 }];
        world.beat(id, wide).await;
    }
}
