//! What is written of a saga: a step's result and the next one's intent, many sagas at once.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_model::{EventKind, SagaStatus, SagaStep};
use nemordp_types::{Failure, SagaId};
use serde_json::json;

use super::{Lease, lease_end};
use crate::codec::json_opt;
use crate::effect::{self, Effect};
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::page::TenantScope;
use crate::rows::{Kind, Rows};
use crate::saga;
use crate::sql::{Query, values};
use crate::transaction::{Sql as _, Tx};

/// What becomes of the lease with a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Kept: for this long from now when less than [`kept_at_least`] of it is left, else as it is. A lease that stays leaves
    /// the indexes of the saga alone, which are most of what PostgreSQL does for a write.
    Keep(Duration),
    /// Given back; somebody takes it at this time or later.
    Until(Timestamp),
}

/// How long a lease of this length is held after a write that keeps it, at least.
#[must_use]
pub fn kept_at_least(lease: Duration) -> Duration {
    lease * 2 / 3
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

/// A write in line, with all that it needs.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) lease: Lease,
    state: String,
    status: SagaStatus,
    step: u32,
    failure: Option<Failure>,
    hold: Hold,
    steps: Vec<SagaStep>,
    effects: Vec<Effect>,
}

impl Entry {
    pub(super) fn new(lease: &Lease, write: &SagaWrite<'_>) -> Self {
        Self {
            lease: lease.clone(),
            state: write.state.to_owned(),
            status: write.status,
            step: write.step,
            failure: write.failure.cloned(),
            hold: write.hold,
            steps: write.steps.to_vec(),
            effects: write.effects.to_vec(),
        }
    }
}

/// Writes sagas, each of them at most once, and each table once. One whose lease is lost changes nothing, and hears of it.
pub(super) async fn write_in_tx(tx: &mut Tx, entries: &[&Entry]) -> Result<Vec<Result<()>>> {
    let held = write_sagas(tx, entries).await?;
    let kept: Vec<&Entry> = entries.iter().copied().filter(|entry| held.contains(&entry.lease.saga_id)).collect();
    let effects: Vec<&Effect> = kept.iter().flat_map(|entry| &entry.effects).collect();
    effect::apply_all_in_tx(tx, &effects).await?;
    // Last, so that they are told with what the effects write.
    write_steps(tx, &kept).await?;
    for entry in kept.iter().filter(|entry| entry.status == SagaStatus::Stuck) {
        call_human(tx, entry).await?;
    }
    let outcome = |entry: &&Entry| {
        if held.contains(&entry.lease.saga_id) { Ok(()) } else { Err(StoreError::StaleFence) }
    };
    Ok(entries.iter().map(outcome).collect())
}

/// Writes those whose lease is still held; gives which.
async fn write_sagas(tx: &mut Tx, entries: &[&Entry]) -> Result<BTreeSet<SagaId>> {
    let now = tx.now;
    let mut rows = Rows::new(&[
        ("saga_id", Kind::Blob),
        ("at_fence", Kind::Int),
        ("holder", Kind::Text),
        ("new_state", Kind::Text),
        ("new_status", Kind::Text),
        ("new_step", Kind::Int),
        ("new_failure", Kind::Text),
        ("new_owner", Kind::Text),
        ("new_until", Kind::Int),
        ("long_enough", Kind::Int),
        ("new_next_run_at", Kind::Int),
        ("new_finished_at", Kind::Int),
    ]);
    for Entry { lease, state, status, step, failure, hold, .. } in entries {
        let (owner, until, long_enough, next_run_at) = match (status.is_open(), *hold) {
            (true, Hold::Keep(lease_for)) => {
                let (end, least) = (lease_end(now, lease_for), lease_end(now, kept_at_least(lease_for)));
                (Some(lease.owner.as_str()), Some(end), Some(least), end)
            }
            (true, Hold::Until(at)) => (None, None, None, at),
            (false, _) => (None, None, None, now),
        };
        let finished = !status.is_open() && *status != SagaStatus::Stuck;
        rows.push(values![
            lease.saga_id,
            lease.fence,
            lease.owner.as_str(),
            state.as_str(),
            *status,
            *step,
            json_opt(failure.as_ref())?,
            owner,
            until,
            long_enough,
            next_run_at,
            finished.then_some(now),
        ]);
    }
    // The ended ones are named, not the open ones: those have an index of their own, and PostgreSQL would go through all of
    // it for each row as long as its statistics call it short.
    let sql = "UPDATE saga SET state = r.new_state, status = r.new_status, step = r.new_step, failure = r.new_failure, \
               lease_owner = r.new_owner, updated_at = $1, finished_at = r.new_finished_at, \
               lease_until = CASE WHEN saga.lease_until BETWEEN r.long_enough AND r.new_until THEN saga.lease_until \
               ELSE r.new_until END, \
               next_run_at = CASE WHEN saga.lease_until BETWEEN r.long_enough AND r.new_until THEN saga.next_run_at \
               ELSE r.new_next_run_at END FROM {rows} AS r WHERE saga.id = r.saga_id AND saga.fence = r.at_fence \
               AND saga.lease_owner = r.holder AND saga.status NOT IN ('done', 'unwound', 'cancelled', 'stuck') RETURNING id";
    let written = tx.fetch(Query::over("saga", sql, values![now], rows)).await?;
    written.iter().map(|row| row.get("id")).collect()
}

async fn write_steps(tx: &mut Tx, entries: &[&Entry]) -> Result<()> {
    let mut rows = Rows::new(&[
        ("of_saga", Kind::Blob),
        ("at_position", Kind::Int),
        ("new_state", Kind::Text),
        ("new_attempts", Kind::Int),
        ("new_started_at", Kind::Int),
        ("new_finished_at", Kind::Int),
        ("new_percent", Kind::Int),
        ("new_detail", Kind::Text),
        ("new_failure", Kind::Text),
    ]);
    for (saga_id, step) in entries.iter().flat_map(|entry| entry.steps.iter().map(|step| (entry.lease.saga_id, step))) {
        rows.push(values![
            saga_id,
            step.position,
            step.state,
            step.attempts,
            step.started_at,
            step.finished_at,
            step.percent,
            step.detail.as_deref(),
            json_opt(step.failure.as_ref())?,
        ]);
    }
    let sql = "UPDATE saga_step SET state = r.new_state, attempts = r.new_attempts, started_at = r.new_started_at, \
               finished_at = r.new_finished_at, percent = r.new_percent, detail = r.new_detail, \
               failure = r.new_failure FROM {rows} AS r \
               WHERE saga_step.saga_id = r.of_saga AND saga_step.position = r.at_position";
    tx.execute_over_or(Query::over("saga_step", sql, vec![], rows), Some(StoreError::NotFound { noun: "step" })).await
}

async fn call_human(tx: &mut Tx, entry: &Entry) -> Result<()> {
    let stuck = saga::fetch(tx, TenantScope::All, entry.lease.saga_id).await?;
    let reason = entry.failure.as_ref().map(|failure| failure.reason);
    let name = stuck.steps.iter().find(|step| step.position == entry.step).map(|step| step.name.as_str());
    let body = json!({ "operation_id": stuck.id, "kind": stuck.kind, "step": name, "reason": reason });
    tx.event(EventKind::SagaStuck, Subject::from(&stuck), body).await
}
