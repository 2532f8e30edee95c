//! Transactions that can be cancelled at any instant and run again when the database asks for it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_types::{Clock, Entropy, EventId};
use sqlx::{Postgres, Sqlite, Transaction};
use uuid::Uuid;

use crate::error::{Result, StoreError};
use crate::group::Member;
use crate::open::Pools;
use crate::sql::{self, Query, Row};

/// How often a transaction runs before its caller is told that the database is busy.
const ATTEMPTS: u32 = 12;

/// Where statements run: inside a transaction, or each on its own.
pub(crate) trait Sql: Send {
    fn fetch(&mut self, query: Query) -> impl Future<Output = Result<Vec<Row>>> + Send;

    /// At most one row.
    fn fetch_optional(&mut self, query: Query) -> impl Future<Output = Result<Option<Row>>> + Send {
        async move { Ok(self.fetch(query).await?.into_iter().next()) }
    }
}

/// Statements outside of a transaction; on SQLite by the read-only connections.
pub(crate) struct Reader<'p>(pub(crate) &'p Pools);

impl Sql for Reader<'_> {
    async fn fetch(&mut self, query: Query) -> Result<Vec<Row>> {
        match self.0 {
            Pools::Sqlite { readers, .. } => sql::sqlite::fetch(readers, &query).await,
            Pools::Postgres(pool) => sql::postgres::fetch(pool, &query).await,
        }
    }
}

enum Connection {
    /// One that may write shares its commit with others.
    Sqlite(Member),
    /// One that only reads.
    SqliteReader(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// A write of PostgreSQL that waits to be told with others, and what it means when a row of it could not be written.
struct Untold {
    query: Query,
    otherwise: Option<StoreError>,
}

/// An open transaction. Dropped without a commit it is rolled back.
pub(crate) struct Tx {
    connection: Connection,
    /// The one instant that everything in it is written with.
    pub(crate) now: Timestamp,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// The newest event of this transaction; the next one's id is above it.
    last_event: Option<EventId>,
    /// Writes that PostgreSQL has not been told yet, each of another table: the next question or the commit takes them along.
    untold: Vec<Untold>,
}

impl Tx {
    /// Opens a transaction that may write.
    ///
    /// `begin` of the driver is not safe against being dropped half-way: the connection would go back to the pool inside
    /// an open transaction and later acknowledge writes that nobody commits. In a task of its own it always runs to its
    /// end; what nobody waits for any more is rolled back when the task's result is dropped.
    pub(crate) async fn begin(pools: &Pools, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self> {
        let connection = match pools {
            Pools::Sqlite { writer, .. } => Connection::Sqlite(writer.begin().await?),
            Pools::Postgres(pool) => {
                let pool = pool.clone();
                let task = tokio::spawn(async move { pool.begin_with("BEGIN").await });
                let begun = task.await.map_err(|e| StoreError::Driver(format!("begin: {e}")))?;
                Connection::Postgres(begun?)
            }
        };
        let now = clock.now();
        Ok(Self { connection, now, clock, entropy, last_event: None, untold: Vec::new() })
    }

    /// Opens a transaction that only reads, all of it as of one instant; writers go on beside it. In a task of its own
    /// for the same reason.
    pub(crate) async fn snapshot(pools: &Pools, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self> {
        const POSTGRES: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY";
        let pools = pools.clone();
        let task = tokio::spawn(async move {
            match &pools {
                Pools::Sqlite { readers, .. } => readers.begin_with("BEGIN").await.map(Connection::SqliteReader),
                Pools::Postgres(pool) => pool.begin_with(POSTGRES).await.map(Connection::Postgres),
            }
        });
        let connection = task.await.map_err(|e| StoreError::Driver(format!("begin: {e}")))??;
        let now = clock.now();
        Ok(Self { connection, now, clock, entropy, last_event: None, untold: Vec::new() })
    }

    /// An id above that of every event of this transaction, so that they keep their order.
    pub(crate) fn event_id(&mut self) -> EventId {
        let fresh = EventId::new(self.clock.as_ref(), self.entropy.as_ref());
        let id = match self.last_event {
            Some(last) if fresh <= last => EventId::from_uuid(Uuid::from_u128(last.as_uuid().as_u128() + 1)),
            Some(_) | None => fresh,
        };
        self.last_event = Some(id);
        id
    }

    /// Commits, also when the caller is dropped meanwhile: for the same reason, in a task of its own. On SQLite it returns
    /// after the COMMIT that is shared with others.
    pub(crate) async fn commit(mut self) -> Result<()> {
        self.tell().await?;
        let task = match self.connection {
            Connection::Sqlite(member) => return member.commit().await,
            Connection::SqliteReader(transaction) => tokio::spawn(transaction.commit()),
            Connection::Postgres(transaction) => tokio::spawn(transaction.commit()),
        };
        Ok(task.await.map_err(|e| StoreError::Driver(format!("commit: {e}")))??)
    }

    /// Rolls back now instead of when the connection is used next. An error says that what was read in it is not true: on
    /// SQLite it may have been written by a transaction that was not committed in the end.
    pub(crate) async fn rollback(self) -> Result<()> {
        let outcome = match self.connection {
            Connection::Sqlite(member) => return member.rollback().await,
            Connection::SqliteReader(transaction) => transaction.rollback().await,
            Connection::Postgres(transaction) => transaction.rollback().await,
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "rollback");
        }
        Ok(())
    }

    /// Runs a statement; gives the number of rows that it changed.
    pub(crate) async fn execute(&mut self, query: Query) -> Result<u64> {
        self.tell().await?;
        self.run(&query).await
    }

    async fn run(&mut self, query: &Query) -> Result<u64> {
        match &mut self.connection {
            Connection::Sqlite(member) => member.execute(query).await,
            Connection::SqliteReader(transaction) => sql::sqlite::execute(&mut **transaction, query).await,
            Connection::Postgres(transaction) => sql::postgres::execute(&mut **transaction, query).await,
        }
    }

    /// Runs a statement that must change exactly one row.
    pub(crate) async fn execute_one(&mut self, query: Query, otherwise: StoreError) -> Result<()> {
        let table = query.table;
        match self.execute(query).await? {
            1 => Ok(()),
            0 => Err(otherwise),
            more => Err(StoreError::Driver(format!("{more} rows of {table} were changed where one was meant"))),
        }
    }

    /// Runs a statement over many rows that must change exactly one row for each of them; over none it does nothing. What is
    /// wrong with it may be told only by what is asked next, or by the commit: PostgreSQL is told of several at once. So
    /// it must not read what another such statement before it has changed, unless that is its own table.
    pub(crate) async fn execute_over(&mut self, query: Query) -> Result<()> {
        self.execute_over_or(query, None).await
    }

    /// The same, with the error for rows that could not be written.
    pub(crate) async fn execute_over_or(&mut self, query: Query, otherwise: Option<StoreError>) -> Result<()> {
        if query.rows() == 0 {
            return Ok(());
        }
        match self.connection {
            Connection::Sqlite(_) | Connection::SqliteReader(_) => {
                let changed = self.run(&query).await?;
                complete(&query, changed, otherwise)
            }
            Connection::Postgres(_) => {
                if self.untold.iter().any(|untold| untold.query.table == query.table) {
                    self.tell().await?;
                }
                self.untold.push(Untold { query, otherwise });
                Ok(())
            }
        }
    }

    /// Tells PostgreSQL what it was not told yet.
    async fn tell(&mut self) -> Result<()> {
        let (writes, otherwise): (Vec<Query>, Vec<Option<StoreError>>) =
            self.untold.drain(..).map(|untold| (untold.query, untold.otherwise)).unzip();
        let changed = match (writes.as_slice(), &mut self.connection) {
            ([], _) => return Ok(()),
            ([alone], _) => vec![self.run(alone).await?],
            (several, Connection::Postgres(transaction)) => sql::together::execute(&mut **transaction, several).await?,
            (_, Connection::Sqlite(_) | Connection::SqliteReader(_)) => return Ok(()),
        };
        let mut each = writes.iter().zip(changed).zip(otherwise);
        each.try_for_each(|((query, changed), otherwise)| complete(query, changed, otherwise))
    }

    /// Begins a part that can be taken back alone.
    pub(crate) async fn savepoint(&mut self) -> Result<()> {
        self.execute(Query::new("savepoint", "SAVEPOINT part", vec![])).await.map(|_| ())
    }

    /// Takes back what was done since the savepoint.
    pub(crate) async fn rollback_to_savepoint(&mut self) -> Result<()> {
        self.execute(Query::new("savepoint", "ROLLBACK TO SAVEPOINT part", vec![])).await?;
        self.release_savepoint().await
    }

    /// Ends the part and keeps it.
    pub(crate) async fn release_savepoint(&mut self) -> Result<()> {
        self.execute(Query::new("savepoint", "RELEASE SAVEPOINT part", vec![])).await.map(|_| ())
    }
}

impl Sql for Tx {
    async fn fetch(&mut self, query: Query) -> Result<Vec<Row>> {
        self.tell().await?;
        match &mut self.connection {
            Connection::Sqlite(member) => member.fetch(&query).await,
            Connection::SqliteReader(transaction) => sql::sqlite::fetch(&mut **transaction, &query).await,
            Connection::Postgres(transaction) => sql::postgres::fetch(&mut **transaction, &query).await,
        }
    }
}

/// Whether a statement over many rows changed one for each of them.
fn complete(query: &Query, changed: u64, otherwise: Option<StoreError>) -> Result<()> {
    let wanted = query.rows();
    if usize::try_from(changed) == Ok(wanted) {
        return Ok(());
    }
    // Everything that it depends on was read in this transaction: it has to be read again.
    let outdated = || StoreError::Busy(format!("{changed} of {wanted} rows of {} could be written", query.table));
    Err(otherwise.unwrap_or_else(outdated))
}

/// Waits before the next attempt, longer each time and never two callers alike, or gives the error up.
pub(crate) async fn again(error: StoreError, attempt: &mut u32, entropy: &dyn Entropy) -> Result<()> {
    *attempt += 1;
    if !matches!(error, StoreError::Busy(_)) || *attempt >= ATTEMPTS {
        return Err(error);
    }
    let mut jitter = [0u8; 1];
    entropy.fill(&mut jitter);
    let ceiling = 2u64 << (*attempt).min(7);
    let millis = ceiling / 2 + ceiling * u64::from(jitter[0]) / 512;
    tracing::debug!(%error, attempt, millis, "transaction runs again");
    tokio::time::sleep(Duration::from_millis(millis)).await;
    Ok(())
}

/// Runs the body in a transaction and commits, unless it gives an error: then all of it is rolled back. When the database
/// is busy the whole body runs again, so it must have no effect outside of the transaction.
macro_rules! transaction {
    ($store:expr, |$tx:ident| $body:expr) => {{
        let store: &$crate::Store = $store;
        let mut attempt = 0u32;
        loop {
            let run = async {
                let mut opened = store.begin().await?;
                let began = std::time::Instant::now();
                let outcome: $crate::error::Result<_> = async {
                    let $tx = &mut opened;
                    $body
                }
                .await;
                match outcome {
                    Ok(value) => {
                        opened.commit().await?;
                        store.committed(began.elapsed());
                        Ok(value)
                    }
                    Err(error) => Err(opened.rollback().await.err().unwrap_or(error)),
                }
            };
            match Box::pin(run).await {
                Ok(value) => break Ok(value),
                Err(error) => {
                    store.noticed(&error);
                    match $crate::transaction::again(error, &mut attempt, store.entropy()).await {
                        Ok(()) => {}
                        Err(error) => break Err(error),
                    }
                }
            }
        }
    }};
}
