//! The desk at which orders queue: those that arrive while one commit is under way share the next one.
//!
//! Nobody waits for company: a lone order is served at once. A burst is decided on one snapshot, each order on what those
//! before it left, so orders of one replica never race each other; what another replica was quicker with is placed again, and
//! from then on the replicas take turns for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use metrics::{counter, histogram};
use nemordp_model::{FleetSnapshot, GroupKey, PlacementRequest, Refusals, explain};
use nemordp_store::{
    Accepted, BURST_MAX, Candidate, Decision, Idempotency, Once, OrderAccept, Store, StoreError, StoredResponse,
};
use nemordp_types::{ApiKeyId, Failure, Reason, RegionName};
use tokio::sync::{mpsc, oneshot};

use super::fleet::Fleet;

/// Whoever loses the race for a node this often in a row meets a fleet that fills up faster than it can be read.
const PLACEMENTS_MAX: u32 = 16;
/// Bursts that are placed in turns with the other replicas after one of them was quicker.
const TURNS_AFTER_RACE: u32 = 200;
/// Orders that may queue; more wait at the door, each within its request's deadline.
const QUEUE_MAX: usize = 4 * BURST_MAX;

/// A client's name for an order, kept until the order was served, whatever became of its request.
#[derive(Debug, Clone)]
pub struct Intention {
    /// Whose intention.
    pub api_key_id: ApiKeyId,
    /// The client's name for it.
    pub key: String,
    /// SHA-256 of the request.
    pub fingerprint: [u8; 32],
    /// How long the answer is kept.
    pub lifetime: Duration,
    /// The answer.
    pub respond: fn(&Accepted) -> StoredResponse,
}

impl Intention {
    fn as_stored(&self) -> Idempotency<'_, Accepted> {
        Idempotency {
            api_key_id: self.api_key_id,
            key: &self.key,
            fingerprint: self.fingerprint,
            lifetime: self.lifetime,
            respond: &self.respond,
        }
    }
}

/// What is told to whoever brought an order.
type Answer = Result<Once<Accepted>, Failure>;

/// An order in the queue.
#[derive(Debug)]
struct Waiting {
    accept: OrderAccept,
    request: PlacementRequest,
    intention: Option<Intention>,
    reply: oneshot::Sender<Answer>,
    placements: u32,
}

/// Where orders are handed in; cheap to clone.
#[derive(Debug, Clone)]
pub struct Desk(mpsc::Sender<Box<Waiting>>);

impl Desk {
    /// Opens it: a task serves the queue until the last handle is gone.
    #[must_use]
    pub fn open(store: Store, fleet: Fleet) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(serve(store, fleet, queue));
        Self(sender)
    }

    /// Queues an order and waits for its outcome. Who stops waiting before it was served takes it back.
    ///
    /// # Errors
    /// `capacity_exhausted` and its like when no node takes it; what the store says otherwise.
    pub(super) async fn accept(
        &self,
        accept: OrderAccept,
        request: PlacementRequest,
        intention: Option<Intention>,
    ) -> Answer {
        let closed = || Failure::new(Reason::Unavailable, "the control plane is stopping: try again");
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { accept, request, intention, reply, placements: 0 };
        self.0.send(Box::new(waiting)).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }
}

async fn serve(store: Store, fleet: Fleet, mut queue: mpsc::Receiver<Box<Waiting>>) {
    let mut burst: Vec<Box<Waiting>> = Vec::new();
    let mut turns = 0u32;
    loop {
        if burst.is_empty() {
            let Some(first) = queue.recv().await else { return };
            burst.push(first);
        }
        while burst.len() < BURST_MAX
            && let Ok(next) = queue.try_recv()
        {
            burst.push(next);
        }
        burst.retain(|waiting| !waiting.reply.is_closed());
        if burst.is_empty() {
            continue;
        }
        let turn = if turns > 0 { store.placement_turn().await.ok() } else { None };
        burst = serve_burst(&store, &fleet, burst).await;
        // Another replica wants the same nodes: for a while they place in turns.
        turns = if burst.is_empty() { turns.saturating_sub(1) } else { TURNS_AFTER_RACE };
        if let Some(turn) = turn {
            turn.end().await;
        }
    }
}

/// Serves a burst; gives those that are to be placed again.
#[expect(clippy::vec_box, reason = "an order with all that it asks is large, and is moved from list to list")]
async fn serve_burst(store: &Store, fleet: &Fleet, burst: Vec<Box<Waiting>>) -> Vec<Box<Waiting>> {
    let mut snapshots = BTreeMap::new();
    let groups: BTreeSet<GroupKey> = burst.iter().filter_map(|waiting| waiting.request.group_key()).collect();
    for waiting in &burst {
        let region = &waiting.request.region;
        if snapshots.contains_key(region) {
            continue;
        }
        match fleet.snapshot_for(Some(region), &groups).await {
            Ok(snapshot) => drop(snapshots.insert(region.clone(), snapshot)),
            Err(failure) => {
                for waiting in burst {
                    answer(*waiting, Err(failure.clone()));
                }
                return Vec::new();
            }
        }
    }
    // Deciding over many nodes takes its time; nobody else's task waits for it.
    let decided = tokio::task::spawn_blocking(move || decide(snapshots, burst)).await;
    let (placed, refused) = match decided {
        Ok(decided) => decided,
        Err(error) => {
            tracing::error!(%error, "a burst of orders was lost while it was decided");
            return Vec::new();
        }
    };
    let intentions: Vec<_> = placed.iter().map(|w| w.intention.as_ref().map(Intention::as_stored)).collect();
    let candidates: Vec<Candidate<'_>> = placed
        .iter()
        .zip(&intentions)
        .map(|(waiting, intention)| Candidate { accept: &waiting.accept, intention: intention.as_ref() })
        .collect();
    if !candidates.is_empty() {
        histogram!("nemordp_order_burst_orders").record(u32::try_from(candidates.len()).map_or(0.0, f64::from));
    }
    let outcomes = store.order_accept_burst(&candidates).await;
    drop(candidates);
    drop(intentions);
    let mut again = Vec::new();
    // Room that was counted for an order which did not get it may be what a refused one was missing.
    let all_went_well = outcomes.iter().all(Result::is_ok);
    for (waiting, outcome) in placed.into_iter().zip(outcomes) {
        match outcome {
            Err(StoreError::Raced) => again.extend(place_again(waiting, StoreError::Raced.into())),
            outcome => answer(*waiting, outcome.map_err(Failure::from)),
        }
    }
    for (waiting, refusals) in refused {
        let failure = refusals.clone().into_failure();
        if all_went_well {
            refuse(*waiting, &refusals, failure);
        } else {
            again.extend(place_again(waiting, failure));
        }
    }
    again
}

type Decided = (Vec<Box<Waiting>>, Vec<(Box<Waiting>, Refusals)>);

/// Places one after the other, each on what those before it left.
#[expect(clippy::vec_box, reason = "an order with all that it asks is large, and is moved from list to list")]
fn decide(mut snapshots: BTreeMap<RegionName, FleetSnapshot>, burst: Vec<Box<Waiting>>) -> Decided {
    let (mut placed, mut refused) = (Vec::new(), Vec::new());
    for mut waiting in burst {
        let Some(snapshot) = snapshots.get_mut(&waiting.request.region) else { continue };
        let explained = explain(&waiting.request, snapshot);
        let Some(choice) = explained.choice else {
            refused.push((waiting, explained.refusals()));
            continue;
        };
        if let Some(node) = snapshot.nodes.iter_mut().find(|node| node.id == choice) {
            node.reserve(&waiting.request);
        }
        waiting.accept.node_id = choice;
        waiting.accept.alternatives = explained.best().map(|(id, _)| id).filter(|id| *id != choice).collect();
        waiting.accept.decision = Some(Decision::of(&explained));
        placed.push(waiting);
    }
    (placed, refused)
}

/// The order for another try, unless it had enough of them.
fn place_again(mut waiting: Box<Waiting>, failure: Failure) -> Option<Box<Waiting>> {
    waiting.placements += 1;
    counter!("nemordp_order_placed_again_total").increment(1);
    if waiting.placements < PLACEMENTS_MAX {
        tracing::debug!(order_id = %waiting.accept.order.id, "lost the race for a node, placing again");
        return Some(waiting);
    }
    answer(*waiting, Err(failure));
    None
}

fn refuse(waiting: Waiting, refusals: &Refusals, failure: Failure) {
    for (refusal, nodes) in refusals.counts() {
        let nodes = u64::try_from(nodes).unwrap_or(u64::MAX);
        counter!("nemordp_order_refusing_nodes_total", "refusal" => refusal.word()).increment(nodes);
    }
    tracing::info!(
        order_id = %waiting.accept.order.id, plan = %waiting.accept.order.plan, region = %waiting.request.region,
        refusals = failure.context.as_deref().unwrap_or_default(), "no node takes the order"
    );
    answer(waiting, Err(failure));
}

/// Whoever stopped waiting hears nothing; an accepted order stays, and a repetition of the request finds it.
fn answer(waiting: Waiting, answer: Answer) {
    drop(waiting.reply.send(answer));
}

/// Names what the desk records.
pub(crate) fn describe() {
    use metrics::{Unit, describe_counter, describe_histogram};
    describe_histogram!("nemordp_order_burst_orders", Unit::Count, "Orders that shared a commit.");
    describe_counter!(
        "nemordp_order_placed_again_total",
        Unit::Count,
        "Placements anew because another replica was quicker with a node."
    );
    describe_counter!(
        "nemordp_order_refusing_nodes_total",
        Unit::Count,
        "Nodes that did not take an order which was then refused, by their reason."
    );
}
