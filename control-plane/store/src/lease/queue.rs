//! Writes of sagas in line: those that come while others are written share the next transaction, each with an outcome of
//! its own.
//!
//! Nobody waits for company: a lone write goes at once. One that the database or the model will not have hinders nobody:
//! then each is written alone. A transaction shared by many costs the statements of one.
//!
//! Whoever has the turn writes for those in line too. When its future is dropped half-way, as in a crash, the transaction is
//! taken back and the others are in line again. Only if it was being committed in that instant they are written a second
//! time, which changes nothing: their leases are what they were, or have ended with the first.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use tokio::sync::{Mutex as Turn, oneshot};

use super::write::{Entry, write_in_tx};
use super::{Lease, SagaWrite};
use crate::Store;
use crate::error::{Result, StoreError};

/// How many share a transaction at most: beyond it the first one waits longer for the last than for the disk.
const SHARED_MAX: usize = 64;

/// A write, and whoever waits for it.
#[derive(Debug)]
struct Waiting {
    entry: Entry,
    tell: oneshot::Sender<Result<()>>,
}

/// Those in line, and the turn to write them.
#[derive(Debug, Default)]
pub(crate) struct Writes {
    line: Mutex<VecDeque<Waiting>>,
    turn: Turn<()>,
}

impl Writes {
    fn push(&self, waiting: Waiting) {
        self.line.lock().unwrap_or_else(PoisonError::into_inner).push_back(waiting);
    }

    /// The next ones that may share a transaction: no saga twice. Whoever does not wait any more gets nothing written.
    fn take(&self) -> Vec<Waiting> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        line.retain(|waiting| !waiting.tell.is_closed());
        let mut sagas = BTreeSet::new();
        let shared =
            line.iter().take(SHARED_MAX).take_while(|waiting| sagas.insert(waiting.entry.lease.saga_id)).count();
        line.drain(..shared).collect()
    }
}

/// What is being written; what is left of it when it is dropped stands in line again, in front.
struct Taken<'w> {
    writes: &'w Writes,
    waiting: Vec<Waiting>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut line = self.writes.line.lock().unwrap_or_else(PoisonError::into_inner);
        for waiting in self.waiting.drain(..).rev() {
            line.push_front(waiting);
        }
    }
}

impl Store {
    /// Writes a step's result, the next step's intent and all that changes with them, or `StaleFence` and nothing. Writes
    /// of other sagas that come at the same time share the transaction.
    pub async fn saga_write(&self, lease: &Lease, write: &SagaWrite<'_>) -> Result<()> {
        let (tell, mut told) = oneshot::channel();
        self.writes().push(Waiting { entry: Entry::new(lease, write), tell });
        loop {
            let _turn = tokio::select! {
                biased;
                outcome = &mut told => return outcome.unwrap_or_else(|_| Err(gone())),
                turn = self.writes().turn.lock() => turn,
            };
            Box::pin(self.write_next()).await;
        }
    }

    async fn write_next(&self) {
        let mut taken = Taken { writes: self.writes(), waiting: self.writes().take() };
        let entries: Vec<&Entry> = taken.waiting.iter().map(|waiting| &waiting.entry).collect();
        let outcomes = self.write_all(&entries).await;
        for (waiting, outcome) in taken.waiting.drain(..).zip(outcomes) {
            // Who does not wait any more needs no answer.
            drop(waiting.tell.send(outcome));
        }
    }

    async fn write_all(&self, entries: &[&Entry]) -> Vec<Result<()>> {
        if entries.is_empty() {
            return Vec::new();
        }
        match self.write_shared(entries).await {
            Ok(outcomes) => outcomes,
            Err(error) if entries.len() == 1 || is_of_all(&error) => vec![Err(error); entries.len()],
            Err(error) => {
                tracing::debug!(%error, writes = entries.len(), "writes of sagas are done one by one");
                let mut outcomes = Vec::with_capacity(entries.len());
                for entry in entries {
                    let alone = self.write_shared(std::slice::from_ref(entry)).await;
                    outcomes.push(alone.and_then(|mut outcome| outcome.pop().unwrap_or(Err(StoreError::StaleFence))));
                }
                outcomes
            }
        }
    }

    async fn write_shared(&self, entries: &[&Entry]) -> Result<Vec<Result<()>>> {
        transaction!(self, |tx| write_in_tx(tx, entries).await)
    }
}

/// Whether writing one by one would meet the same.
const fn is_of_all(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Busy(_) | StoreError::Unreachable(_) | StoreError::ReadOnly(_) | StoreError::DiskFull(_)
    )
}

fn gone() -> StoreError {
    StoreError::Unreachable("the write ended without an outcome".to_owned())
}
