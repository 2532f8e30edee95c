//! One transaction in a group.

use std::sync::Arc;

use sqlx::sqlite::SqliteConnection;
use tokio::sync::{OwnedMutexGuard, oneshot};

use super::{Inner, Lane, Tell, gone};
use crate::error::{Result, StoreError};
use crate::sql::{self, Query, Row};

/// How a transaction ends.
pub(super) enum Ending {
    Kept,
    /// With the error that stopped it, when that came from the database.
    TakenBack {
        cause: Option<StoreError>,
    },
}

/// A transaction in a group. Dropped without an end it is taken back, alone.
pub(crate) struct Member {
    pub(super) inner: Arc<Inner>,
    /// Absent once it has ended.
    pub(super) lane: Option<OwnedMutexGuard<Lane>>,
    /// What the database said when it may have taken back more than one statement: nothing of this transaction may run
    /// after that, or it would be committed by itself.
    pub(super) broken: Option<StoreError>,
}

impl Member {
    fn connection(&mut self) -> Result<&mut SqliteConnection> {
        if let Some(error) = &self.broken {
            return Err(error.clone());
        }
        self.lane.as_mut().and_then(|lane| lane.connection.as_mut()).ok_or_else(gone)
    }

    fn note<T>(&mut self, outcome: Result<T>) -> Result<T> {
        if let Err(error) = &outcome
            && !matches!(error, StoreError::Constraint(_))
        {
            self.broken.get_or_insert_with(|| error.clone());
        }
        outcome
    }

    pub(crate) async fn fetch(&mut self, query: &Query) -> Result<Vec<Row>> {
        let outcome = sql::sqlite::fetch(self.connection()?, query).await;
        self.note(outcome)
    }

    pub(crate) async fn execute(&mut self, query: &Query) -> Result<u64> {
        let outcome = sql::sqlite::execute(self.connection()?, query).await;
        self.note(outcome)
    }

    /// Keeps what it wrote; returns after the group's COMMIT.
    pub(crate) async fn commit(mut self) -> Result<()> {
        match self.broken.take() {
            None => self.end(Ending::Kept).await,
            Some(error) => {
                self.end(Ending::TakenBack { cause: Some(error.clone()) }).await?;
                Err(error)
            }
        }
    }

    /// Takes back what it wrote. Returns when what it has read is durable; with the error when it is not.
    pub(crate) async fn rollback(mut self) -> Result<()> {
        let cause = self.broken.take();
        self.end(Ending::TakenBack { cause }).await
    }

    async fn end(&mut self, ending: Ending) -> Result<()> {
        let (tell, told) = oneshot::channel();
        self.settle(ending, Some(tell));
        told.await.unwrap_or_else(|_| Err(gone()))
    }

    fn settle(&mut self, ending: Ending, tell: Option<Tell>) {
        let Some(mut lane) = self.lane.take() else { return };
        let inner = Arc::clone(&self.inner);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(async move {
                lane.end(ending, tell).await;
                inner.leave(lane).await;
            })),
            // Nobody is left who could commit: the database rolls back when the connection is gone.
            Err(_) => {
                lane.connection = None;
                lane.lose(&gone());
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let cause = self.broken.take();
        self.settle(Ending::TakenBack { cause }, None);
    }
}
