//! The right of one replica to work on a saga, until a time.
//!
//! Taking a lease raises the fence of the saga and of its instance in one transaction; every write of the work carries the
//! fence and counts the rows that it changed, so whoever lost the lease changes nothing, here or on a node.

use std::time::Duration;

use jiff::Timestamp;
use nemordp_model::{EventKind, Saga, SagaStatus, SagaStep};
use nemordp_types::{Failure, Fence, Generation, InstanceId, Pair, SagaId};
use serde_json::json;

use crate::Store;
use crate::codec::json_opt;
use crate::effect::{self, Effect};
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::page::TenantScope;
use crate::saga::{self, columns};
use crate::sql::{Query, values};
use crate::transaction::{Sql as _, Tx};

/// A lease on a saga.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Of which saga.
    pub saga_id: SagaId,
    /// Who holds it.
    pub owner: String,
    /// What every write carries.
    pub fence: Fence,
    /// The instance that it is about, with the numbers that every mutation on a node carries.
    pub instance: Option<(InstanceId, Pair)>,
}

/// A saga to be worked on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedSaga {
    /// The right to do so.
    pub lease: Lease,
    /// Where it is.
    pub saga: Saga,
    /// The engine's state as JSON text.
    pub state: String,
}

/// What becomes of the lease with a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Kept for this long from now.
    Keep(Duration),
    /// Given back; somebody takes it at this time or later.
    Until(Timestamp),
}

/// A step's result and the next step's intent, in one write.
#[derive(Debug, Clone)]
pub struct SagaWrite<'a> {
    /// The engine's state as JSON text. Never holds a password.
    pub state: &'a str,
    /// Where the saga is now; anything but running and unwinding ends the lease.
    pub status: SagaStatus,
    /// The step it is at.
    pub step: u32,
    /// Why it is undone.
    pub failure: Option<&'a Failure>,
    /// What becomes of the lease.
    pub hold: Hold,
    /// Steps that changed.
    pub steps: &'a [SagaStep],
    /// What changes with it.
    pub effects: &'a [Effect],
}

/// Refuses with `StaleFence` unless the lease is still held; locks the saga's row.
pub(crate) async fn guard_in_tx(tx: &mut Tx, lease: &Lease) -> Result<()> {
    let now = tx.now;
    let sql = "UPDATE saga SET updated_at = $4 WHERE id = $1 AND fence = $2 AND lease_owner = $3 \
               AND status IN ('running', 'unwinding')";
    let values = values![lease.saga_id, lease.fence, lease.owner.as_str(), now];
    tx.execute_one(Query::new("saga", sql, values), StoreError::StaleFence).await
}

fn lease_end(now: Timestamp, lease: Duration) -> Timestamp {
    now.checked_add(lease).unwrap_or(Timestamp::MAX)
}

/// Work on a frozen instance is not due.
macro_rules! not_frozen {
    () => {
        "AND NOT EXISTS (SELECT 1 FROM instance i WHERE i.id = saga.instance_id AND i.frozen IS NOT NULL)"
    };
}

/// Raises the instance's fence and copies it into the saga.
async fn raise_fence(tx: &mut Tx, saga_id: SagaId, instance_id: InstanceId) -> Result<Pair> {
    let sql = "UPDATE instance SET fence = fence + 1 WHERE id = $1 AND frozen IS NULL RETURNING generation, fence";
    let row = tx.fetch_optional(Query::new("instance", sql, values![instance_id])).await?;
    // It was there a statement ago.
    let row = row.ok_or_else(|| StoreError::Busy("the instance was frozen meanwhile".to_owned()))?;
    let (generation, fence): (Generation, Fence) = (row.get("generation")?, row.get("fence")?);
    let sql = "UPDATE saga SET fence = $2 WHERE id = $1";
    tx.execute_one(Query::new("saga", sql, values![saga_id, fence]), saga::MISSING).await?;
    Ok(Pair { generation, fence })
}

async fn claim_in_tx(tx: &mut Tx, owner: &str, lease: Duration) -> Result<Option<LeasedSaga>> {
    let now = tx.now;
    // A leased saga is due again when its lease ends, so that one index finds both new and abandoned work.
    let sql = concat!(
        "UPDATE saga SET attempt = attempt + 1, fence = fence + 1, lease_owner = $1, lease_until = $2, \
         next_run_at = $2, updated_at = $3 WHERE id = (SELECT id FROM saga WHERE status IN ('running', 'unwinding') \
         AND next_run_at <= $3 ",
        not_frozen!(),
        " ORDER BY next_run_at, id LIMIT 1) RETURNING state, ",
        columns!()
    );
    let skipping = concat!(
        "UPDATE saga SET attempt = attempt + 1, fence = fence + 1, lease_owner = $1, lease_until = $2, \
         next_run_at = $2, updated_at = $3 WHERE id = (SELECT id FROM saga WHERE status IN ('running', 'unwinding') \
         AND next_run_at <= $3 ",
        not_frozen!(),
        " ORDER BY next_run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING state, ",
        columns!()
    );
    let query = Query::new("saga", sql, values![owner, lease_end(now, lease), now]).on_postgres(skipping);
    let Some(row) = tx.fetch_optional(query).await? else { return Ok(None) };
    let mut saga = saga::saga(&row)?;
    let mut instance = None;
    if let Some(instance_id) = saga.instance_id {
        let pair = raise_fence(tx, saga.id, instance_id).await?;
        saga.fence = pair.fence;
        instance = Some((instance_id, pair));
    }
    saga.steps = saga::steps(tx, saga.id).await?;
    let lease = Lease { saga_id: saga.id, owner: owner.to_owned(), fence: saga.fence, instance };
    Ok(Some(LeasedSaga { lease, saga, state: row.get("state")? }))
}

async fn write_in_tx(tx: &mut Tx, lease: &Lease, write: &SagaWrite<'_>) -> Result<()> {
    let now = tx.now;
    let (owner, until, next_run_at) = match (write.status.is_open(), write.hold) {
        (true, Hold::Keep(lease_for)) => {
            let end = lease_end(now, lease_for);
            (Some(lease.owner.as_str()), Some(end), end)
        }
        (true, Hold::Until(at)) => (None, None, at),
        (false, _) => (None, None, now),
    };
    let finished = !write.status.is_open() && write.status != SagaStatus::Stuck;
    let sql = "UPDATE saga SET state = $4, status = $5, step = $6, failure = $7, lease_owner = $8, lease_until = $9, \
               next_run_at = $10, updated_at = $11, finished_at = $12 WHERE id = $1 AND fence = $2 \
               AND lease_owner = $3 AND status IN ('running', 'unwinding')";
    let values = values![
        lease.saga_id,
        lease.fence,
        lease.owner.as_str(),
        write.state,
        write.status,
        write.step,
        json_opt(write.failure)?,
        owner,
        until,
        next_run_at,
        now,
        finished.then_some(now),
    ];
    tx.execute_one(Query::new("saga", sql, values), StoreError::StaleFence).await?;
    for step in write.steps {
        write_step(tx, lease.saga_id, step).await?;
    }
    for effect in write.effects {
        effect::apply_in_tx(tx, effect).await?;
    }
    if write.status == SagaStatus::Stuck {
        let stuck = saga::fetch(tx, TenantScope::All, lease.saga_id).await?;
        let reason = write.failure.map(|failure| failure.reason);
        let name = stuck.steps.iter().find(|step| step.position == write.step).map(|step| step.name.as_str());
        let body = json!({ "operation_id": stuck.id, "kind": stuck.kind, "step": name, "reason": reason });
        tx.event(EventKind::SagaStuck, Subject::from(&stuck), body).await?;
    }
    Ok(())
}

async fn write_step(tx: &mut Tx, saga_id: SagaId, step: &SagaStep) -> Result<()> {
    let sql = "UPDATE saga_step SET state = $3, attempts = $4, started_at = $5, finished_at = $6, percent = $7, \
               detail = $8, failure = $9 WHERE saga_id = $1 AND position = $2";
    let values = values![
        saga_id,
        step.position,
        step.state,
        step.attempts,
        step.started_at,
        step.finished_at,
        step.percent,
        step.detail.as_deref(),
        json_opt(step.failure.as_ref())?,
    ];
    tx.execute_one(Query::new("saga_step", sql, values), StoreError::NotFound { noun: "step" }).await
}

impl Store {
    /// Leases the saga that is due longest, if any: a new one, one that waits for its next attempt, or one whose holder
    /// died.
    pub async fn saga_claim(&self, owner: &str, lease: Duration) -> Result<Option<LeasedSaga>> {
        // Asking costs no write as long as nothing is due.
        let now = self.clock().now();
        let sql = concat!(
            "SELECT id FROM saga WHERE status IN ('running', 'unwinding') AND next_run_at <= $1 ",
            not_frozen!(),
            " LIMIT 1"
        );
        if self.reader().fetch_optional(Query::new("saga", sql, values![now])).await?.is_none() {
            return Ok(None);
        }
        transaction!(self, |tx| claim_in_tx(tx, owner, lease).await)
    }

    /// When the next saga is due, leased or not; none when none is open. For who wants to sleep until then.
    pub async fn saga_next_due(&self) -> Result<Option<Timestamp>> {
        let sql = concat!(
            "SELECT next_run_at AS due FROM saga WHERE status IN ('running', 'unwinding') ",
            not_frozen!(),
            " ORDER BY next_run_at LIMIT 1"
        );
        let row = self.reader().fetch_optional(Query::new("saga", sql, vec![])).await?;
        row.map(|row| row.get("due")).transpose()
    }

    /// Keeps the lease for this long from now; gives whether somebody asked to stop.
    pub async fn saga_renew(&self, lease: &Lease, lease_for: Duration) -> Result<bool> {
        transaction!(self, |tx| {
            let sql = "UPDATE saga SET lease_until = $4, next_run_at = $4 WHERE id = $1 AND fence = $2 \
                       AND lease_owner = $3 AND status IN ('running', 'unwinding') RETURNING cancel_requested_at";
            let until = lease_end(tx.now, lease_for);
            let values = values![lease.saga_id, lease.fence, lease.owner.as_str(), until];
            let row = tx.fetch_optional(Query::new("saga", sql, values)).await?.ok_or(StoreError::StaleFence)?;
            Ok(row.get::<Option<Timestamp>>("cancel_requested_at")?.is_some())
        })
    }

    /// Shows how far a step is.
    pub async fn saga_progress(
        &self,
        lease: &Lease,
        position: u32,
        percent: Option<u8>,
        detail: Option<&str>,
    ) -> Result<()> {
        transaction!(self, |tx| {
            guard_in_tx(tx, lease).await?;
            let sql = "UPDATE saga_step SET percent = $3, detail = $4 WHERE saga_id = $1 AND position = $2";
            let values = values![lease.saga_id, position, percent.map(|p| p.min(100)), detail];
            tx.execute_one(Query::new("saga_step", sql, values), StoreError::NotFound { noun: "step" }).await
        })
    }

    /// Writes a step's result, the next step's intent and all that changes with them, or `StaleFence` and nothing.
    pub async fn saga_write(&self, lease: &Lease, write: &SagaWrite<'_>) -> Result<()> {
        transaction!(self, |tx| write_in_tx(tx, lease, write).await)
    }
}
