//! Taking turns: who decides on a full fleet asks for the turn first, and meets nobody between snapshot and reservation.
//!
//! Nothing rests on it: the reservation compares again, whoever had the turn. It only spares placements anew where several
//! replicas want the same few places. In one process it is a mutex, between processes an advisory lock of PostgreSQL that
//! goes with its transaction, so that a replica that dies takes no turn with it.

use tokio::sync::OwnedMutexGuard;

use crate::Store;
use crate::error::Result;
use crate::open::Pools;
use crate::sql::Query;
use crate::transaction::{Sql as _, Tx};

/// The turn; given back when it is dropped, or at once by [`Turn::end`].
pub struct Turn {
    lock: Option<Tx>,
    _here: OwnedMutexGuard<()>,
}

impl std::fmt::Debug for Turn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Turn").field("shared", &self.lock.is_some()).finish()
    }
}

impl Turn {
    /// Gives it back.
    pub async fn end(self) {
        if let Some(lock) = self.lock {
            drop(lock.rollback().await);
        }
    }
}

impl Store {
    /// Waits for the turn to place.
    pub async fn placement_turn(&self) -> Result<Turn> {
        let here = self.turns().lock_owned().await;
        let lock = match self.pools() {
            Pools::Sqlite { .. } => None,
            Pools::Postgres(_) => {
                let mut tx = self.begin().await?;
                // Any number that nobody else of this database uses: "place" in ASCII.
                let sql = "SELECT 1::bigint AS turn FROM pg_advisory_xact_lock(482670502757)";
                tx.fetch(Query::new("turn", sql, vec![])).await?;
                Some(tx)
            }
        };
        Ok(Turn { lock, _here: here })
    }
}
