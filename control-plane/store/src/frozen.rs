//! Instances of which a node may know more than the store, after a restore: nothing is done to them, here or there, until
//! their node's word or the operator settles it.
//!
//! | what a node reports | instance | becomes |
//! |---|---|---|
//! | numbers above the store's | any | frozen, `store_behind` |
//! | numbers up to the store's | `unverified`, `missing`, a saga open | frozen, `undecided` |
//! | numbers up to the store's | `unverified`, `missing`, no saga open | work goes on |
//! | nothing of it | `unverified` | frozen, `missing` |

use nemordp_model::{
    Adoption, AfterReport, EventKind, Freeze, Instance, Lifecycle, Order, OrderChange, OrderState, SagaKind,
};
use nemordp_types::instance::{DesiredPower, InstanceStatus, ObservedPower};
use nemordp_types::node::{NodeAvailability, NodePolicy};
use nemordp_types::{Failure, InstanceId, NodeId, Reason, SagaId};
use serde_json::json;

use crate::Store;
use crate::codec;
use crate::effect;
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::idempotency::{Idempotency, Once, once};
use crate::instance;
use crate::node;
use crate::order;
use crate::page::TenantScope;
use crate::saga;
use crate::sql::{Query, values};
use crate::transaction::{Sql as _, Tx};

/// How far the number of the revocation list jumps with a restore, so that nodes do not ignore what is revoked next.
const REVOCATIONS_JUMP: u64 = 1_000_000;

/// What a restore left to be settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Instances that wait for their node's word.
    pub instances: u64,
    /// Nodes that take no new instances until the operator says so.
    pub nodes: u64,
    /// Tickets that were made invalid: each may have been used since the backup.
    pub tickets: u64,
    /// Credentials links that were made invalid: each may have been opened since.
    pub links: u64,
}

/// Ends the lease of whoever works on it; nobody gets another as long as it is frozen.
async fn freeze_in_tx(tx: &mut Tx, found: &Instance, why: Freeze) -> Result<()> {
    let now = tx.now;
    let sql = "UPDATE instance SET frozen = $2, frozen_at = $3, updated_at = $3 WHERE id = $1";
    tx.execute_one(Query::new("instance", sql, values![found.id, why, now]), instance::MISSING).await?;
    let sql = "UPDATE saga SET lease_owner = NULL, lease_until = NULL, next_run_at = $2 \
               WHERE instance_id = $1 AND status IN ('running', 'unwinding')";
    tx.execute(Query::new("saga", sql, values![found.id, now])).await?;
    tx.event(EventKind::InstanceFrozen, Subject::from(found), json!({ "why": why })).await
}

async fn thaw_in_tx(tx: &mut Tx, id: InstanceId) -> Result<()> {
    let now = tx.now;
    let sql = "UPDATE instance SET frozen = NULL, frozen_at = NULL, updated_at = $2 WHERE id = $1";
    tx.execute_one(Query::new("instance", sql, values![id, now]), instance::MISSING).await
}

/// Draws the consequences of a node's word about one instance; gives whether it is frozen for being behind since now.
pub(crate) async fn reported_in_tx(
    tx: &mut Tx,
    found: &Instance,
    node_id: NodeId,
    status: &InstanceStatus,
) -> Result<bool> {
    if !found.lifecycle.is_live() {
        return Ok(false);
    }
    let under_way = found.frozen.is_some() && saga::open_in_tx(tx, found.id).await?.is_some();
    match found.verdict(status, under_way) {
        AfterReport::AsBefore => Ok(false),
        AfterReport::Freeze(why) => freeze_in_tx(tx, found, why).await.map(|()| why == Freeze::StoreBehind),
        // Another node's word about it proves nothing of its own node's.
        AfterReport::Thaw if found.node_id != node_id => Ok(false),
        AfterReport::Thaw => {
            thaw_in_tx(tx, found.id).await?;
            tx.event(EventKind::InstanceVerified, Subject::from(found), json!({})).await?;
            Ok(false)
        }
    }
}

/// Instances that should have been in a node's word and were not.
pub(crate) async fn unreported_in_tx(tx: &mut Tx, node_id: NodeId, reported: &[InstanceStatus]) -> Result<()> {
    let sql = "SELECT id FROM instance WHERE frozen = 'unverified' AND node_id = $1";
    let waiting = tx.fetch(Query::new("instance", sql, values![node_id])).await?;
    for row in waiting {
        let id: InstanceId = row.get("id")?;
        if reported.iter().any(|status| status.instance_id == id) {
            continue;
        }
        let found = instance::fetch_locked(tx, TenantScope::All, id).await?;
        let sql = "UPDATE instance SET observed = NULL, observed_at = NULL WHERE id = $1";
        tx.execute(Query::new("instance", sql, values![id])).await?;
        freeze_in_tx(tx, &found, Freeze::Missing).await?;
    }
    Ok(())
}

fn refuse(message: impl Into<String>) -> StoreError {
    Failure::new(Reason::Conflict, message).with_field("how").into()
}

/// The node's last word about a frozen instance, spoken after it was frozen.
async fn word_of_node(tx: &mut Tx, found: &Instance) -> Result<()> {
    let node = node::fetch(tx, found.node_id).await?;
    // The life sign that froze it counts: it brought the node's word.
    let fresh = node.last_heartbeat_at.is_some_and(|at| Some(at) >= found.frozen_at);
    if fresh && node.availability == NodeAvailability::Available {
        return Ok(());
    }
    Err(refuse(format!("node {} has not reported since the instance was frozen: wait for its heartbeat", node.name)))
}

/// The order is fulfilled, whatever the store remembers of its way there.
async fn deliver(tx: &mut Tx, found: &Instance, open: SagaId) -> Result<()> {
    saga::supersede_in_tx(tx, open).await?;
    let order: Order = order::fetch(tx, TenantScope::All, found.order_id).await?;
    if order.state == OrderState::Accepted {
        order::change_in_tx(tx, TenantScope::All, order.id, OrderChange::Provision).await?;
    }
    order::change_in_tx(tx, TenantScope::All, order.id, OrderChange::Activate).await?;
    effect::lifecycle(tx, found.id, Lifecycle::Active, EventKind::InstanceActive).await
}

/// The instance is over, and its order with it if it was not fulfilled.
async fn bury(tx: &mut Tx, found: &Instance, open: Option<SagaId>) -> Result<()> {
    if let Some(open) = open {
        saga::supersede_in_tx(tx, open).await?;
    }
    if found.lifecycle == Lifecycle::Provisioning {
        let gone = Failure::new(Reason::InstanceDeleted, "the instance was found gone after a restore: order again");
        let order_id = found.order_id;
        let order: Order = order::fetch(tx, TenantScope::All, order_id).await?;
        let change = match order.state {
            OrderState::Cancelling => OrderChange::Cancel,
            OrderState::Accepted
            | OrderState::Provisioning
            | OrderState::Active
            | OrderState::Refused
            | OrderState::Failed
            | OrderState::Cancelled => OrderChange::Fail(gone),
        };
        order::change_in_tx(tx, TenantScope::All, order_id, change).await?;
        return effect::apply_in_tx(tx, &effect::Effect::InstanceFailed { instance_id: found.id }).await;
    }
    effect::lifecycle(tx, found.id, Lifecycle::Deleting, EventKind::InstanceDeleting).await?;
    effect::apply_in_tx(tx, &effect::Effect::InstanceDeleted { instance_id: found.id }).await
}

/// Takes the node's numbers where they are higher, and its power where nothing is under way.
async fn take_word(tx: &mut Tx, found: &Instance, idle: bool) -> Result<()> {
    let now = tx.now;
    let mut adopted = found.clone();
    if let Some(observed) = &found.observed {
        let pair = observed.pair.max(found.pair());
        (adopted.generation, adopted.fence) = (pair.generation, pair.fence);
        match observed.power {
            ObservedPower::Running | ObservedPower::Paused if idle => adopted.spec.power = DesiredPower::On,
            ObservedPower::Off if idle => adopted.spec.power = DesiredPower::Off,
            ObservedPower::Running
            | ObservedPower::Paused
            | ObservedPower::Off
            | ObservedPower::Absent
            | ObservedPower::Failed => {}
        }
    }
    let sql = "UPDATE instance SET generation = $2, fence = $3, spec = $4, updated_at = $5 WHERE id = $1";
    let spec = codec::json(&adopted.spec)?;
    let values = values![found.id, adopted.generation, adopted.fence, spec, now];
    tx.execute_one(Query::new("instance", sql, values), instance::MISSING).await
}

async fn adopt_in_tx(tx: &mut Tx, id: InstanceId, how: Adoption) -> Result<Instance> {
    let found = instance::fetch_locked(tx, TenantScope::All, id).await?;
    if found.frozen.is_none() {
        return Err(refuse("the instance is not frozen: there is nothing to settle"));
    }
    word_of_node(tx, &found).await?;
    let open = saga::open_in_tx(tx, id).await?;
    let building = open.filter(|(_, kind)| *kind == SagaKind::Provision).map(|(open, _)| open);
    let present = found.observed.as_ref().is_some_and(|observed| observed.power != ObservedPower::Absent);
    match how {
        Adoption::Gone if present => return Err(refuse("its node has it: delete it after it was adopted")),
        Adoption::Keep | Adoption::Delivered if !present => {
            return Err(refuse("its node does not have it: say that it is gone, or that its order shall go on"));
        }
        Adoption::Keep if building.is_some() => {
            return Err(refuse(
                "its order was under way when the backup was made: say whether the customer has it already (delivered) or \
                 not (resume)",
            ));
        }
        Adoption::Delivered if building.is_none() => {
            return Err(refuse("its order is not under way: keep it as its node has it, or say that it is gone"));
        }
        Adoption::Resume if open.is_none() => {
            return Err(refuse("nothing is under way: keep it as its node has it, or say that it is gone"));
        }
        Adoption::Keep | Adoption::Delivered | Adoption::Resume | Adoption::Gone => {}
    }
    thaw_in_tx(tx, id).await?;
    take_word(tx, &found, how != Adoption::Resume).await?;
    match (how, open, building) {
        (Adoption::Gone, open, _) => bury(tx, &found, open.map(|(open, _)| open)).await?,
        (Adoption::Delivered, _, Some(building)) => deliver(tx, &found, building).await?,
        (Adoption::Keep, Some((open, kind)), None) if kind != SagaKind::Delete => {
            saga::supersede_in_tx(tx, open).await?;
        }
        (Adoption::Keep | Adoption::Resume | Adoption::Delivered, _, _) => {}
    }
    let adopted = instance::fetch(tx, TenantScope::All, id).await?;
    let body = json!({ "how": how, "generation": adopted.generation, "fence": adopted.fence });
    tx.event(EventKind::InstanceAdopted, Subject::from(&adopted), body).await?;
    Ok(adopted)
}

async fn cordon_all(tx: &mut Tx) -> Result<u64> {
    let now = tx.now;
    let sql = "SELECT id, availability FROM node WHERE availability IN ('available', 'suspect')";
    for row in tx.fetch(Query::new("node", sql, vec![])).await? {
        let (id, from): (NodeId, NodeAvailability) = (row.get("id")?, row.get("availability")?);
        let sql = "UPDATE node SET availability = 'unknown', availability_changed_at = $2 WHERE id = $1";
        tx.execute_one(Query::new("node", sql, values![id, now]), node::MISSING).await?;
        let body = json!({ "from": from, "to": NodeAvailability::Unknown });
        tx.event(EventKind::NodeAvailabilityChanged, Subject::node(id), body).await?;
    }
    let sql = "UPDATE node SET policy = 'cordoned', policy_reason = $2, updated_at = $1 WHERE policy = 'active' \
               RETURNING id";
    let reason = "the store was restored from a backup: look at `nemordp audit` first";
    let rows = tx.fetch(Query::new("node", sql, values![now, reason])).await?;
    for row in &rows {
        let body = json!({ "from": NodePolicy::Active, "to": NodePolicy::Cordoned });
        tx.event(EventKind::NodePolicyChanged, Subject::node(row.get("id")?), body).await?;
    }
    Ok(rows.len() as u64)
}

async fn mark_restored_in_tx(tx: &mut Tx) -> Result<Restored> {
    let now = tx.now;
    let sql = "UPDATE installation SET restored_at = $1, revocation_number = revocation_number + $2";
    let missing = StoreError::NotFound { noun: "installation" };
    tx.execute_one(Query::new("installation", sql, values![now, REVOCATIONS_JUMP]), missing).await?;
    let sql = "UPDATE instance SET frozen = 'unverified', frozen_at = $1, observed = NULL, observed_at = NULL \
               WHERE lifecycle IN ('provisioning', 'active', 'deleting')";
    let instances = tx.execute(Query::new("instance", sql, values![now])).await?;
    let sql = "UPDATE saga SET lease_owner = NULL, lease_until = NULL, next_run_at = $1 \
               WHERE status IN ('running', 'unwinding')";
    tx.execute(Query::new("saga", sql, values![now])).await?;
    let sql = "UPDATE ticket SET expires_at = $1 WHERE used_at IS NULL AND expires_at > $1";
    let tickets = tx.execute(Query::new("ticket", sql, values![now])).await?;
    let sql = "UPDATE secret SET link_sha256 = NULL, link_expires_at = NULL WHERE link_sha256 IS NOT NULL";
    let links = tx.execute(Query::new("secret", sql, vec![])).await?;
    let nodes = cordon_all(tx).await?;
    let restored = Restored { instances, nodes, tickets, links };
    let body = json!({ "instances": instances, "nodes": nodes, "tickets": tickets, "links": links });
    tx.event(EventKind::StoreRestored, Subject::default(), body).await?;
    Ok(restored)
}

impl Store {
    /// Says that this store was put back from a backup. Every instance is frozen until its node's word shows that nothing
    /// was forgotten, no node takes new instances until the operator says so, and what is good once (tickets, links) is
    /// good no more.
    pub async fn mark_restored(&self) -> Result<Restored> {
        transaction!(self, |tx| mark_restored_in_tx(tx).await)
    }

    /// Freezes an instance because its node refused the numbers of whoever holds the lease. Gives false, and changes
    /// nothing, when newer work holds the instance meanwhile: then the node was right.
    pub async fn instance_freeze_behind(&self, lease: &crate::Lease) -> Result<bool> {
        transaction!(self, |tx| {
            let Some((id, pair)) = lease.instance else { return Ok(false) };
            let found = instance::fetch_locked(tx, TenantScope::All, id).await?;
            if found.pair() != pair || found.frozen.is_some() || !found.lifecycle.is_live() {
                return Ok(false);
            }
            freeze_in_tx(tx, &found, Freeze::StoreBehind).await?;
            Ok(true)
        })
    }

    /// Settles a frozen instance as the operator decided, with its node's numbers. `Conflict` when its node has not
    /// reported since it was frozen, or when the decision does not fit what the node reported.
    pub async fn instance_adopt(
        &self,
        id: InstanceId,
        how: Adoption,
        intention: Option<&Idempotency<'_, Instance>>,
    ) -> Result<Once<Instance>> {
        transaction!(self, |tx| once!(tx, intention, adopt_in_tx(tx, id, how).await?))
    }

    /// How many instances are frozen, by reason.
    pub async fn instance_frozen_count(&self) -> Result<Vec<(Freeze, u64)>> {
        let sql = "SELECT frozen, COUNT(*) AS number FROM instance WHERE frozen IS NOT NULL GROUP BY frozen";
        let rows = self.reader().fetch(Query::new("instance", sql, vec![])).await?;
        rows.iter().map(|row| Ok((row.get("frozen")?, row.get("number")?))).collect()
    }
}
