//! Waking other replicas: a hint that something was stored, never the truth. Whoever misses it looks a little later.

use sqlx::postgres::PgListener;

use crate::Store;
use crate::error::Result;
use crate::open::Pools;
use crate::sql::{Query, values};
use crate::transaction::Sql as _;

const CHANNEL: &str = "nemordp";

/// What there is to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// A saga is due.
    Saga,
    /// A reconciler is wanted.
    Reconciler,
    /// Nobody knows what was missed: the connection was made anew.
    All,
}

impl Wake {
    const fn word(self) -> &'static str {
        match self {
            Self::Saga => "saga",
            Self::Reconciler => "reconciler",
            Self::All => "all",
        }
    }

    fn from_word(word: &str) -> Self {
        [Self::Saga, Self::Reconciler].into_iter().find(|wake| wake.word() == word).unwrap_or(Self::All)
    }
}

/// Hints of other replicas, and of this one.
#[derive(Debug)]
pub struct Wakes(Option<PgListener>);

impl Wakes {
    /// The next hint. Never comes on SQLite, which one process has alone.
    pub async fn next(&mut self) -> Result<Wake> {
        let Some(listener) = &mut self.0 else { return std::future::pending().await };
        Ok(listener.try_recv().await?.map_or(Wake::All, |hint| Wake::from_word(hint.payload())))
    }
}

impl Store {
    /// Follows hints from now on.
    pub async fn wakes(&self) -> Result<Wakes> {
        let Pools::Postgres(pool) = self.pools() else { return Ok(Wakes(None)) };
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(Wakes(Some(listener)))
    }

    /// Gives every replica a hint; nothing on SQLite. Outside of the transaction that stored something: telling would
    /// queue all commits at one lock. It may be lost in a crash, so nobody waits for the disk.
    pub async fn wake(&self, wake: Wake) -> Result<()> {
        if self.is_shared() {
            let sql = "SELECT set_config('synchronous_commit', 'off', true) AS told FROM pg_notify($1, $2)";
            self.reader().fetch(Query::new("wake", sql, values![CHANNEL, wake.word()])).await?;
        }
        Ok(())
    }
}
