//! Many orders in one commit, each with an outcome of its own.
//!
//! One order waits for one flush of the disk; a burst shares it, and shares the statements too: each table is written once
//! whatever the number of orders. The nodes of the burst are locked in the order of their ids, so that two bursts never
//! wait for each other in a circle; what an order asks for is compared with what is left then, and the write itself is
//! conditional as well. An order whose node was filled meanwhile gets the next of its alternatives in a second try that
//! locks those too. An order that is refused leaves nothing and hinders nobody. One that the database itself will not have
//! is found by halving the burst.

mod room;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use nemordp_model::{EventKind, GroupKey, Instance, Order};
use nemordp_types::instance::GpuSpec;
use nemordp_types::{ApiKeyId, NodeId};
use serde_json::json;

use crate::Store;
use crate::accept::{self, Accepted, OrderAccept};
use crate::claim::Network;
use crate::claim::many::{self, Demand};
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::group_member;
use crate::idempotency::{self, Idempotency, Once};
use crate::instance;
use crate::order;
use crate::reservation::{self, NewReservation};
use crate::rows::{Kind, Rows};
use crate::saga::{self, About};
use crate::sql::{Query, values};
use crate::transaction::{Sql as _, Tx};
use room::{Given, Room};

/// How many orders share a commit at most: beyond it the locks are held longer than the flush that is shared.
pub const BURST_MAX: usize = 500;

/// An order of a burst.
pub struct Candidate<'a> {
    /// What is to be accepted.
    pub accept: &'a OrderAccept,
    /// The client's name for it.
    pub intention: Option<&'a Idempotency<'a, Accepted>>,
}

impl std::fmt::Debug for Candidate<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Candidate").field("order_id", &self.accept.order.id).finish_non_exhaustive()
    }
}

/// What became of an order.
type Outcome = Result<Once<Accepted>>;

/// An order that the burst accepts, before it is written.
struct Ready<'a> {
    index: usize,
    accept: &'a OrderAccept,
    node_id: NodeId,
    sequence: u64,
    order: Order,
    instance: Instance,
    rest_shortened: bool,
}

/// An order with the node that takes it.
struct Fitting<'a> {
    index: usize,
    accept: &'a OrderAccept,
    node_id: NodeId,
    gpus: Option<GpuSpec>,
}

/// Which nodes of an order are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Try {
    /// The best one: nearly always it is still free, and locking one node hinders the fewest.
    Best,
    /// The alternatives too.
    All,
}

impl Try {
    fn of(self, accept: &OrderAccept) -> impl Iterator<Item = NodeId> + '_ {
        let alternatives = accept.alternatives.iter().copied().filter(move |_| self == Self::All);
        std::iter::once(accept.node_id).chain(alternatives)
    }
}

async fn accept_in_tx(tx: &mut Tx, burst: &[&Candidate<'_>], tries: Try) -> Result<Vec<Outcome>> {
    let mut outcomes: Vec<Option<Outcome>> = Vec::new();
    let intentions: Vec<&Idempotency<'_, Accepted>> = burst.iter().filter_map(|c| c.intention).collect();
    let known = idempotency::known_in_tx(tx, &intentions).await?;
    let nodes: BTreeSet<NodeId> = burst.iter().flat_map(|candidate| tries.of(candidate.accept)).collect();
    let groups = burst.iter().filter_map(|c| c.accept.siting.group_of(c.accept.order.tenant_id)).collect();
    let with_gpus = burst.iter().any(|candidate| candidate.accept.shape.gpus.is_some());
    let mut rooms = lock(tx, &nodes, &groups, with_gpus).await?;
    let mut fitting = Vec::new();
    for (index, candidate) in burst.iter().enumerate() {
        let accept = candidate.accept;
        let answered = candidate.intention.and_then(|i| known.get(&(i.api_key_id, i.key.to_owned())));
        if let Some(answer) = answered {
            outcomes.push(Some(answer.clone().map(Once::Replayed)));
            continue;
        }
        let taken = tries.of(accept).find_map(|id| Some((id, rooms.get_mut(&id)?.take(accept)?)));
        outcomes.push(if taken.is_none() { Some(Err(StoreError::Raced)) } else { None });
        fitting.extend(taken.map(|(node_id, Given { gpus })| Fitting { index, accept, node_id, gpus }));
    }
    let ready = claim(tx, &mut rooms, fitting, &mut outcomes).await?;
    write(tx, &rooms, &ready).await?;
    let mut answers = Vec::new();
    for Ready { index, order, instance, rest_shortened, .. } in ready {
        let accepted = Accepted { order, instance, rest_shortened };
        if let Some(intention) = burst[index].intention {
            answers.push((intention, (intention.respond)(&accepted)));
        }
        outcomes[index] = Some(Ok(Once::Done(accepted)));
    }
    idempotency::keep_in_tx(tx, &answers).await?;
    let lost = || Err(StoreError::Driver("an order of a burst got no outcome".to_owned()));
    Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(lost)).collect())
}

/// The nodes of the burst, each with each of its pools.
macro_rules! pools {
    ($lock:literal) => {
        concat!(
            "SELECT n.id, n.policy, n.availability, n.vcpu_capacity, n.vcpu_used, n.memory_capacity_mib, \
             n.memory_used_mib, n.inventory, n.labels, n.pinned_to, n.reservation_sequence, n.held_vcpu, \
             n.held_memory_mib, n.held_disk_bytes, p.storage_class, p.capacity_bytes, p.used_bytes FROM node n \
             JOIN node_pool p ON p.node_id = n.id WHERE n.id IN (SELECT node_id FROM {rows} AS r) \
             ORDER BY n.id, p.storage_class",
            $lock
        )
    };
}

/// Locks the nodes of the burst, in the order of their ids, and reads what is left on them and whom they have of the
/// burst's groups; GPUs where an order asks for any.
async fn lock(
    tx: &mut Tx,
    nodes: &BTreeSet<NodeId>,
    groups: &BTreeSet<GroupKey>,
    with_gpus: bool,
) -> Result<BTreeMap<NodeId, Room>> {
    let ids = || {
        let mut rows = Rows::new(&[("node_id", Kind::Blob)]);
        nodes.iter().for_each(|id| rows.push(values![*id]));
        rows
    };
    // What an order may take is in both tables: both rows are locked, so that both are what the last one left.
    let mut rooms: BTreeMap<NodeId, Room> = BTreeMap::new();
    for row in
        tx.fetch(Query::over("node", pools!(""), vec![], ids()).on_postgres(pools!(" FOR NO KEY UPDATE"))).await?
    {
        let room = match rooms.entry(row.get("id")?) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Room::read(&row)?),
        };
        let left = row.get::<u64>("capacity_bytes")?.saturating_sub(row.get::<u64>("used_bytes")?);
        room.pools.insert(row.get("storage_class")?, left.saturating_sub(room.held_disk));
    }
    if with_gpus {
        let sql = "SELECT node_id, model, capacity, used FROM node_gpu \
                   WHERE node_id IN (SELECT node_id FROM {rows} AS r)";
        for row in tx.fetch(Query::over("node_gpu", sql, vec![], ids())).await? {
            let left = row.get::<u64>("capacity")?.saturating_sub(row.get::<u64>("used")?);
            if let Some(room) = rooms.get_mut(&row.get("node_id")?) {
                room.gpus.insert(row.get("model")?, left);
            }
        }
    }
    // After the locks: what others put there before they gave them up is seen.
    for (id, members) in group_member::of(tx, groups).await? {
        if let Some(room) = rooms.get_mut(&id) {
            room.groups = members;
        }
    }
    Ok(rooms)
}

/// Claims ports and addresses; orders that get none are told why and hold nothing.
async fn claim<'a>(
    tx: &mut Tx,
    rooms: &mut BTreeMap<NodeId, Room>,
    fitting: Vec<Fitting<'a>>,
    outcomes: &mut [Option<Outcome>],
) -> Result<Vec<Ready<'a>>> {
    let mut demands = Vec::with_capacity(fitting.len());
    for Fitting { accept, node_id, .. } in &fitting {
        if let Some(room) = rooms.get(node_id) {
            let (node_id, instance_id) = (*node_id, accept.instance_id);
            demands.push(Demand { node_id, instance_id, inventory: &room.inventory });
        }
    }
    let networks = many::network_in_tx_many(tx, &demands).await?;
    drop(demands);
    let mut ready = Vec::with_capacity(fitting.len());
    for (Fitting { index, accept, node_id, gpus }, network) in fitting.into_iter().zip(networks) {
        let Some(room) = rooms.get_mut(&node_id) else { continue };
        match network {
            Ok(Network { spec, rest_shortened }) => {
                let sequence = room.keep(&accept.shape, gpus.as_ref());
                let (order, instance) = accept::begin(accept, node_id, gpus, spec, tx.now);
                ready.push(Ready { index, accept, node_id, sequence, order, instance, rest_shortened });
            }
            Err(refused) => {
                room.give_back(accept, gpus.as_ref());
                outcomes[index] = Some(Err(refused));
            }
        }
    }
    Ok(ready)
}

/// Writes all that the accepted orders need, each table once.
async fn write(tx: &mut Tx, rooms: &BTreeMap<NodeId, Room>, ready: &[Ready<'_>]) -> Result<()> {
    take_in_tx(tx, rooms).await?;
    let decision = |r: &Ready<'_>| r.accept.decision.as_ref().map(|decision| decision.reserved_on(r.node_id));
    order::insert_in_tx(tx, ready.iter().map(|r| (&r.order, decision(r)))).await?;
    instance::insert_in_tx(tx, ready.iter().map(|r| &r.instance)).await?;
    let reservations: Vec<NewReservation<'_>> = ready
        .iter()
        .map(|r| NewReservation {
            id: r.accept.reservation_id,
            instance_id: r.accept.instance_id,
            node_id: r.node_id,
            shape: &r.accept.shape,
            gpus: r.instance.spec.gpus.as_ref(),
            sequence: r.sequence,
        })
        .collect();
    reservation::insert_in_tx(tx, &reservations).await?;
    let about = |order: &Order| About {
        tenant_id: order.tenant_id,
        order_id: Some(order.id),
        instance_id: Some(order.instance_id),
    };
    let sagas: Vec<_> = ready.iter().map(|r| (&r.accept.saga, about(&r.order))).collect();
    saga::insert_many_in_tx(tx, &sagas).await?;
    let events = ready.iter().flat_map(|r| {
        [
            (EventKind::OrderAccepted, Subject::from(&r.order), json!({ "plan": r.order.plan })),
            (EventKind::InstanceCreated, Subject::from(&r.instance), json!({})),
        ]
    });
    tx.events(events).await
}

/// Writes what the burst takes of each node. The rows are locked and were compared; the condition holds whoever erred.
async fn take_in_tx(tx: &mut Tx, rooms: &BTreeMap<NodeId, Room>) -> Result<()> {
    let mut nodes =
        Rows::new(&[("node_id", Kind::Blob), ("vcpu", Kind::Int), ("memory_mib", Kind::Int), ("orders", Kind::Int)]);
    let mut pools = Rows::new(&[("pool_node", Kind::Blob), ("class", Kind::Text), ("bytes", Kind::Int)]);
    let mut gpus = Rows::new(&[("gpu_node", Kind::Blob), ("of_model", Kind::Text), ("cards", Kind::Int)]);
    for (id, room) in rooms.iter().filter(|(_, room)| room.taken_orders > 0) {
        nodes.push(values![*id, room.taken_vcpu, room.taken_memory, room.taken_orders]);
        for (class, bytes) in &room.taken_bytes {
            pools.push(values![*id, class, *bytes]);
        }
        for (model, count) in &room.taken_gpus {
            gpus.push(values![*id, model, *count]);
        }
    }
    let sql = "UPDATE node SET vcpu_used = node.vcpu_used + r.vcpu, \
               memory_used_mib = node.memory_used_mib + r.memory_mib, \
               reservation_sequence = node.reservation_sequence + r.orders FROM {rows} AS r \
               WHERE node.id = r.node_id AND node.policy = 'active' AND node.availability = 'available' \
               AND node.vcpu_used + r.vcpu <= node.vcpu_capacity - node.held_vcpu \
               AND node.memory_used_mib + r.memory_mib <= node.memory_capacity_mib - node.held_memory_mib";
    tx.execute_over(Query::over("node", sql, vec![], nodes)).await?;
    let sql = "UPDATE node_pool SET used_bytes = node_pool.used_bytes + r.bytes FROM {rows} AS r \
               WHERE node_pool.node_id = r.pool_node AND node_pool.storage_class = r.class \
               AND node_pool.used_bytes + r.bytes <= node_pool.capacity_bytes";
    tx.execute_over(Query::over("node_pool", sql, vec![], pools)).await?;
    let sql = "UPDATE node_gpu SET used = node_gpu.used + r.cards FROM {rows} AS r \
               WHERE node_gpu.node_id = r.gpu_node AND node_gpu.model = r.of_model \
               AND node_gpu.used + r.cards <= node_gpu.capacity";
    tx.execute_over(Query::over("node_gpu", sql, vec![], gpus)).await
}

/// Parts that may share a commit: as large as allowed, and never two of the same idempotency key.
fn parts(burst: &[Candidate<'_>]) -> Vec<Vec<usize>> {
    let mut parts: Vec<Vec<usize>> = Vec::new();
    let mut keys: BTreeSet<(ApiKeyId, &str)> = BTreeSet::new();
    for (index, candidate) in burst.iter().enumerate() {
        let repeated = candidate.intention.is_some_and(|i| !keys.insert((i.api_key_id, i.key)));
        match parts.last_mut() {
            Some(part) if !repeated && part.len() < BURST_MAX => part.push(index),
            Some(_) | None => {
                keys = candidate.intention.iter().map(|i| (i.api_key_id, i.key)).collect();
                parts.push(vec![index]);
            }
        }
    }
    parts
}

/// Whether it can be the doing of one order of a burst alone: then the others need not suffer from it.
const fn is_of_one(error: &StoreError) -> bool {
    match error {
        StoreError::NotFound { .. }
        | StoreError::AlreadyExists { .. }
        | StoreError::Refused(_)
        | StoreError::Raced
        | StoreError::PortPoolExhausted
        | StoreError::AddressPoolExhausted
        | StoreError::Inconsistency { .. }
        | StoreError::Constraint(_)
        | StoreError::Driver(_)
        | StoreError::IdempotencyKeyReused => true,
        StoreError::StaleFence
        | StoreError::TicketInvalid
        | StoreError::TicketExpired
        | StoreError::TicketReused
        | StoreError::AlreadyRevealed
        | StoreError::SchemaTooNew { .. }
        | StoreError::Busy(_)
        | StoreError::Unreachable(_)
        | StoreError::ReadOnly(_)
        | StoreError::DiskFull(_) => false,
    }
}

impl Store {
    /// Accepts many orders, up to [`BURST_MAX`] in one commit; gives what became of each, in their order. An order is
    /// accepted with all that it needs (idempotency key, order, instance, capacity, port, private address, saga, events)
    /// or leaves nothing. `Raced` when the room is gone on all its nodes: take a new snapshot and place again. The pools'
    /// exhaustion is typed. When the database cannot be reached, all that shared the commit are told so.
    pub async fn order_accept_burst(&self, burst: &[Candidate<'_>]) -> Vec<Outcome> {
        let mut outcomes: Vec<Option<Outcome>> = burst.iter().map(|_| None).collect();
        let mut parts: VecDeque<(Vec<usize>, Try)> = parts(burst).into_iter().map(|part| (part, Try::Best)).collect();
        while let Some((mut part, tries)) = parts.pop_front() {
            let candidates: Vec<&Candidate<'_>> = part.iter().map(|index| &burst[*index]).collect();
            let committed: Result<Vec<Outcome>> = transaction!(self, |tx| accept_in_tx(tx, &candidates, tries).await);
            match committed {
                Ok(committed) => {
                    let mut again = Vec::new();
                    for (index, outcome) in part.into_iter().zip(committed) {
                        let others = tries == Try::Best && !burst[index].accept.alternatives.is_empty();
                        if others && outcome == Err(StoreError::Raced) {
                            again.push(index);
                        }
                        outcomes[index] = Some(outcome);
                    }
                    if !again.is_empty() {
                        parts.push_front((again, Try::All));
                    }
                }
                Err(error) if part.len() > 1 && is_of_one(&error) => {
                    tracing::warn!(%error, orders = part.len(), "a burst is halved to find whose doing it is");
                    let second = part.split_off(part.len() / 2);
                    parts.push_front((second, tries));
                    parts.push_front((part, tries));
                }
                Err(error) => {
                    for index in part {
                        outcomes[index] = Some(Err(error.clone()));
                    }
                }
            }
        }
        let lost = || Err(StoreError::Driver("an order of a burst got no outcome".to_owned()));
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(lost)).collect()
    }
}
