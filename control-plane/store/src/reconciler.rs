//! What reconcilers found, for every replica to show; and which replica runs them.

use std::time::Duration;

use jiff::Timestamp;
use nemordp_types::Failure;
use serde_json::Value as Json;

use crate::Store;
use crate::codec::{json, json_opt};
use crate::error::Result;
use crate::sql::{Query, Row, values};
use crate::transaction::Sql as _;

/// One run of a reconciler.
#[derive(Debug, Clone, PartialEq)]
pub struct ReconcilerRun {
    /// Its name.
    pub name: String,
    /// Runs so far.
    pub runs: u64,
    /// When it began.
    pub at: Timestamp,
    /// How long it took.
    pub took: Duration,
    /// What it found and did, or why it did not work.
    pub outcome: Result<String, Failure>,
    /// What it found, piece by piece.
    pub details: Option<Json>,
}

fn run(row: &Row) -> Result<ReconcilerRun> {
    let (failure, outcome): (Option<Failure>, Option<String>) = (row.json_opt("failure")?, row.get("outcome")?);
    Ok(ReconcilerRun {
        name: row.get("name")?,
        runs: row.get("runs")?,
        at: row.get("last_run_at")?,
        took: Duration::from_millis(row.get("last_run_ms")?),
        outcome: failure.map_or_else(|| Ok(outcome.unwrap_or_default()), Err),
        details: row.json_opt("details")?,
    })
}

impl Store {
    /// Takes or keeps a role for this long from now; false while another owner has it.
    pub async fn role_hold(&self, role: &str, owner: &str, hold: Duration) -> Result<bool> {
        transaction!(self, |tx| {
            let now = tx.now;
            let until = now.checked_add(hold).unwrap_or(Timestamp::MAX);
            let sql = "INSERT INTO role_lease (name, owner, held_until) VALUES ($1, $2, $3) \
                       ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, held_until = excluded.held_until \
                       WHERE role_lease.owner = excluded.owner OR role_lease.held_until <= $4";
            let held = tx.execute(Query::new("role_lease", sql, values![role, owner, until, now])).await?;
            Ok(held == 1)
        })
    }

    /// Gives a role back, so that another owner has it at once.
    pub async fn role_release(&self, role: &str, owner: &str) -> Result<()> {
        transaction!(self, |tx| {
            let sql = "DELETE FROM role_lease WHERE name = $1 AND owner = $2";
            tx.execute(Query::new("role_lease", sql, values![role, owner])).await.map(|_| ())
        })
    }

    /// Who has a role now, if anybody.
    pub async fn role_owner(&self, role: &str) -> Result<Option<String>> {
        let now = self.clock().now();
        let sql = "SELECT owner FROM role_lease WHERE name = $1 AND held_until > $2";
        let row = self.reader().fetch_optional(Query::new("role_lease", sql, values![role, now])).await?;
        row.map(|row| row.get("owner")).transpose()
    }

    /// Notes a run, and that whoever wanted one before it began has got it.
    pub async fn reconciler_record(&self, run: &ReconcilerRun) -> Result<()> {
        transaction!(self, |tx| {
            let sql = "INSERT INTO reconciler (name, runs, last_run_at, last_run_ms, outcome, failure, details) \
                       VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (name) DO UPDATE SET runs = excluded.runs, \
                       last_run_at = excluded.last_run_at, last_run_ms = excluded.last_run_ms, \
                       outcome = excluded.outcome, failure = excluded.failure, details = excluded.details";
            let took = u64::try_from(run.took.as_millis()).unwrap_or(u64::MAX);
            let values = values![
                run.name.as_str(),
                run.runs,
                run.at,
                took,
                run.outcome.as_ref().ok().map(String::as_str),
                json_opt(run.outcome.as_ref().err())?,
                run.details.as_ref().map(json).transpose()?,
            ];
            tx.execute(Query::new("reconciler", sql, values)).await?;
            let sql = "DELETE FROM reconciler_wish WHERE name = $1 AND wanted_at <= $2";
            tx.execute(Query::new("reconciler_wish", sql, values![run.name.as_str(), run.at])).await.map(|_| ())
        })
    }

    /// The last run of each, by name.
    pub async fn reconciler_list(&self) -> Result<Vec<ReconcilerRun>> {
        let sql =
            "SELECT name, runs, last_run_at, last_run_ms, outcome, failure, details FROM reconciler ORDER BY name";
        let rows = self.reader().fetch(Query::new("reconciler", sql, vec![])).await?;
        rows.iter().map(run).collect()
    }

    /// Wants a reconciler to run, on whichever replica does.
    pub async fn reconciler_want(&self, name: &str) -> Result<()> {
        transaction!(self, |tx| {
            let now = tx.now;
            let sql = "INSERT INTO reconciler_wish (name, wanted_at) VALUES ($1, $2) \
                       ON CONFLICT (name) DO UPDATE SET wanted_at = excluded.wanted_at";
            tx.execute(Query::new("reconciler_wish", sql, values![name, now])).await.map(|_| ())
        })
    }

    /// Reconcilers that somebody wants to run.
    pub async fn reconciler_wanted(&self) -> Result<Vec<String>> {
        let sql = "SELECT name FROM reconciler_wish ORDER BY name";
        let rows = self.reader().fetch(Query::new("reconciler_wish", sql, vec![])).await?;
        rows.iter().map(|row| row.get("name")).collect()
    }
}
