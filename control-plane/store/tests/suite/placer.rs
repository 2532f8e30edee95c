//! One who places orders on a full fleet: takes a snapshot, decides, and has the order accepted; gives an instance back when
//! nothing is free; is cut off now and then, and begins again with the same idempotency key, as a client does that got no answer.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nemordp_model::{PlacementRequest, explain};
use nemordp_store::{Accepted, Idempotency, Once, OrderAccept, StoreError, StoredResponse};
use nemordp_types::{Entropy as _, InstanceId};

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
    /// What any of them may give back.
    pub(crate) live: &'w Mutex<Vec<InstanceId>>,
    /// Of 65536 orders so many are cut off somewhere within the limit.
    pub(crate) cut_off: (u16, Duration),
}

pub(crate) fn request() -> PlacementRequest {
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
                gpus: None,
            },
        )
    }
}

fn respond(accepted: &Accepted) -> StoredResponse {
    StoredResponse { status: 202, body: accepted.instance.id.to_string() }
}

impl Placer<'_> {
    fn random(&self) -> u16 {
        let mut bytes = [0u8; 2];
        self.world.entropy.fill(&mut bytes);
        u16::from_le_bytes(bytes)
    }

    /// Places all its orders.
    pub(crate) async fn run(mut self, happened: &(dyn Fn(Happened) + Sync)) {
        let orders = std::mem::take(&mut self.orders);
        for number in orders {
            let mut order = self.world.order(nemordp_types::NodeId::from_uuid(uuid()));
            order.order.external_reference = Some(label(&format!("order {number}")));
            let instance = self.place(number, order, happened).await;
            self.live.lock().unwrap().push(instance);
            happened(Happened::Accepted(number, instance));
        }
    }

    async fn give_one_back(&mut self, happened: &(dyn Fn(Happened) + Sync)) {
        let at = usize::from(self.random());
        let taken = {
            let mut live = self.live.lock().unwrap();
            let at = at % live.len().max(1);
            (at < live.len()).then(|| live.swap_remove(at))
        };
        let Some(instance) = taken else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            return;
        };
        while let Err(error) = self.world.store.order_release(instance).await {
            pause(error, happened).await;
        }
        happened(Happened::Released(instance));
    }

    async fn place(&mut self, number: u64, mut order: OrderAccept, happened: &(dyn Fn(Happened) + Sync)) -> InstanceId {
        let key = format!("key-{number}");
        let intention = Idempotency {
            api_key_id: self.world.key,
            key: &key,
            fingerprint: [1; 32],
            lifetime: DAY,
            respond: &respond,
        };
        let mut cut_off = false;
        loop {
            let turn = match self.world.store.placement_turn().await {
                Ok(turn) => turn,
                Err(error) => {
                    pause(error, happened).await;
                    continue;
                }
            };
            let snapshot = match self.world.store.fleet_snapshot(Some(&region())).await {
                Ok(snapshot) => snapshot,
                Err(error) => {
                    pause(error, happened).await;
                    continue;
                }
            };
            let explained = explain(&request(), &snapshot);
            if explained.choice.is_none() {
                self.give_one_back(happened).await;
                // Whoever was cut off may have got the last room already, and asks for the answer.
                if !cut_off {
                    continue;
                }
            }
            let Some(choice) = explained.choice.or_else(|| snapshot.nodes.first().map(|node| node.id)) else {
                continue;
            };
            order.node_id = choice;
            order.alternatives = explained.best().map(|(id, _)| id).filter(|id| *id != choice).collect();
            let accept = self.world.store.order_accept(&order, Some(&intention));
            let outcome = if self.random() < self.cut_off.0 {
                let within = self.cut_off.1.mul_f64(f64::from(self.random()) / 65_536.0);
                tokio::time::timeout(within, accept).await.ok()
            } else {
                Some(accept.await)
            };
            turn.end().await;
            match outcome {
                None => {
                    cut_off = true;
                    happened(Happened::CutOff);
                }
                Some(Ok(Once::Done(accepted))) => return accepted.instance.id,
                Some(Ok(Once::Replayed(answer))) => return answer.body.parse().unwrap(),
                Some(Err(StoreError::Raced)) if explained.choice.is_none() => {}
                Some(Err(StoreError::Raced)) => happened(Happened::PlacedAgain),
                Some(Err(error)) => pause(error, happened).await,
            }
        }
    }
}

fn uuid() -> uuid::Uuid {
    uuid::Uuid::nil()
}

/// Waits where waiting helps.
async fn pause(error: StoreError, happened: &(dyn Fn(Happened) + Sync)) {
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
        Placer { world, orders, live: &live, cut_off }.run(&happened)
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
        world.beat(id, wide).await;
    }
}
