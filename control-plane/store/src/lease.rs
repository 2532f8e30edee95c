//! The right of one replica to work on a saga, until a time.
//!
//! Taking a lease raises the fence of the saga and of its instance in one transaction; every write of the work carries the
//! fence and counts the rows that it changed, so whoever lost the lease changes nothing, here or on a node.

mod queue;
mod write;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_model::Saga;
use nemordp_types::{Fence, InstanceId, Pair, SagaId};

use crate::Store;
use crate::error::{Result, StoreError};
use crate::rows::{Kind, Rows};
use crate::saga::{self, columns};
use crate::sql::{Query, Value, values};
use crate::transaction::{Sql as _, Tx};

pub(crate) use queue::Writes;
pub use write::{Hold, SagaWrite, kept_at_least};

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

/// Ids as a relation with the column `wanted`.
fn wanted<K: Into<Value>>(ids: impl Iterator<Item = K>) -> Rows {
    let mut rows = Rows::new(&[("wanted", Kind::Blob)]);
    ids.for_each(|id| rows.push(vec![id.into()]));
    rows
}

/// Raises the fences of instances; locks their rows in the order of their ids, so that nobody waits in a circle.
async fn raise_fences(tx: &mut Tx, sagas: &[Saga]) -> Result<BTreeMap<InstanceId, Pair>> {
    let instances = wanted(sagas.iter().filter_map(|saga| saga.instance_id));
    let count = instances.len();
    if count == 0 {
        return Ok(BTreeMap::new());
    }
    let sql = "UPDATE instance SET fence = fence + 1 WHERE id IN (SELECT wanted FROM {rows} AS r) AND frozen IS NULL \
               RETURNING id, generation, fence";
    let ordered = "WITH locked AS MATERIALIZED (SELECT id AS locked_id FROM instance \
                   WHERE id IN (SELECT wanted FROM {rows} AS r) ORDER BY id FOR UPDATE) \
                   UPDATE instance SET fence = fence + 1 FROM locked WHERE id = locked_id AND frozen IS NULL \
                   RETURNING id, generation, fence";
    let query = Query::over("instance", sql, vec![], instances).on_postgres(ordered);
    let mut pairs = BTreeMap::new();
    for row in tx.fetch(query).await? {
        pairs.insert(row.get("id")?, Pair { generation: row.get("generation")?, fence: row.get("fence")? });
    }
    // All were there a statement ago.
    if pairs.len() < count {
        return Err(StoreError::Busy("an instance was frozen meanwhile".to_owned()));
    }
    Ok(pairs)
}

/// Leases what is due longest, at most so many.
async fn claim_in_tx(tx: &mut Tx, owner: &str, lease: Duration, most: u32) -> Result<Vec<LeasedSaga>> {
    let now = tx.now;
    // A leased saga is due again when its lease ends, so that one index finds both new and abandoned work.
    let sql = concat!(
        "UPDATE saga SET attempt = attempt + 1, fence = fence + 1, lease_owner = $1, lease_until = $2, \
         next_run_at = $2, updated_at = $3 WHERE id IN (SELECT id FROM saga WHERE status IN ('running', 'unwinding') \
         AND next_run_at <= $3 ",
        not_frozen!(),
        " ORDER BY next_run_at, id LIMIT $4) RETURNING state, ",
        columns!()
    );
    let skipping = concat!(
        "WITH due AS MATERIALIZED (SELECT id AS due_id FROM saga WHERE status IN ('running', 'unwinding') \
         AND next_run_at <= $3 ",
        not_frozen!(),
        " ORDER BY next_run_at, id LIMIT $4 FOR UPDATE SKIP LOCKED) \
         UPDATE saga SET attempt = attempt + 1, fence = fence + 1, lease_owner = $1, lease_until = $2, \
         next_run_at = $2, updated_at = $3 FROM due WHERE id = due_id RETURNING state, ",
        columns!()
    );
    let query = Query::new("saga", sql, values![owner, lease_end(now, lease), now, most]).on_postgres(skipping);
    let rows = tx.fetch(query).await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let mut sagas = rows.iter().map(saga::saga).collect::<Result<Vec<_>>>()?;
    let pairs = raise_fences(tx, &sagas).await?;
    let mut fences = Rows::new(&[("saga_id", Kind::Blob), ("new_fence", Kind::Int)]);
    for saga in &mut sagas {
        if let Some(pair) = saga.instance_id.and_then(|id| pairs.get(&id)) {
            saga.fence = pair.fence;
            fences.push(values![saga.id, pair.fence]);
        }
    }
    let sql = "UPDATE saga SET fence = r.new_fence FROM {rows} AS r WHERE saga.id = r.saga_id";
    tx.execute_over(Query::over("saga", sql, vec![], fences)).await?;
    let mut steps = saga::steps_of(tx, wanted(sagas.iter().map(|saga| saga.id))).await?;
    let mut leased = Vec::with_capacity(sagas.len());
    for (mut saga, row) in sagas.into_iter().zip(&rows) {
        saga.steps = steps.remove(&saga.id).unwrap_or_default();
        let instance = saga.instance_id.and_then(|id| Some((id, *pairs.get(&id)?)));
        let lease = Lease { saga_id: saga.id, owner: owner.to_owned(), fence: saga.fence, instance };
        leased.push(LeasedSaga { lease, saga, state: row.get("state")? });
    }
    Ok(leased)
}

async fn renew_in_tx(tx: &mut Tx, lease: &Lease, lease_for: Duration) -> Result<bool> {
    let sql = "UPDATE saga SET lease_until = $4, next_run_at = $4 WHERE id = $1 AND fence = $2 \
               AND lease_owner = $3 AND status IN ('running', 'unwinding') RETURNING cancel_requested_at";
    let until = lease_end(tx.now, lease_for);
    let values = values![lease.saga_id, lease.fence, lease.owner.as_str(), until];
    let row = tx.fetch_optional(Query::new("saga", sql, values)).await?.ok_or(StoreError::StaleFence)?;
    Ok(row.get::<Option<Timestamp>>("cancel_requested_at")?.is_some())
}

impl Store {
    /// Leases the saga that is due longest, if any: a new one, one that waits for its next attempt, or one whose holder
    /// died.
    pub async fn saga_claim(&self, owner: &str, lease: Duration) -> Result<Option<LeasedSaga>> {
        Ok(self.saga_claim_many(owner, lease, 1).await?.pop())
    }

    /// Leases up to so many sagas in one commit, those that are due longest.
    pub async fn saga_claim_many(&self, owner: &str, lease: Duration, most: u32) -> Result<Vec<LeasedSaga>> {
        // Asking costs no write as long as nothing is due.
        let now = self.clock().now();
        let sql = concat!(
            "SELECT id FROM saga WHERE status IN ('running', 'unwinding') AND next_run_at <= $1 ",
            not_frozen!(),
            " ORDER BY next_run_at LIMIT 1"
        );
        if self.reader().fetch_optional(Query::new("saga", sql, values![now])).await?.is_none() {
            return Ok(Vec::new());
        }
        transaction!(self, |tx| claim_in_tx(tx, owner, lease, most).await)
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
        transaction!(self, |tx| renew_in_tx(tx, lease, lease_for).await)
    }

    /// Shows how far a step is, in percent and in a word, and keeps the lease for this long from now; gives whether somebody
    /// asked to stop.
    pub async fn saga_progress(
        &self,
        lease: &Lease,
        lease_for: Duration,
        position: u32,
        (percent, detail): (Option<u8>, Option<&str>),
    ) -> Result<bool> {
        transaction!(self, |tx| {
            let stop = renew_in_tx(tx, lease, lease_for).await?;
            let sql = "UPDATE saga_step SET percent = $3, detail = $4 WHERE saga_id = $1 AND position = $2";
            let values = values![lease.saga_id, position, percent.map(|p| p.min(100)), detail];
            tx.execute_one(Query::new("saga_step", sql, values), StoreError::NotFound { noun: "step" }).await?;
            Ok(stop)
        })
    }
}
