//! Opening SQLite or PostgreSQL, and what every method starts from.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use nemordp_types::{Clock, Entropy, Failure, Reason};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection as _, PgPool, SqlitePool};
use tokio::sync::Mutex;

use crate::backup::beside;
use crate::error::{Result, StoreError};
use crate::group::{Meter, Writer};
use crate::held_numbers::HeldNumbers;
use crate::lease::Writes;
use crate::migrate;
use crate::transaction::{Reader, Tx};

/// Read-only connections to SQLite.
const SQLITE_READERS: u32 = 4;
/// Connections to PostgreSQL of one replica.
const POSTGRES_CONNECTIONS: u32 = 16;
/// How long a caller waits for a connection before it is told that the store is not reachable.
pub(crate) const ACQUIRE: Duration = Duration::from_secs(10);
/// A connection to PostgreSQL that rested longer is asked whether it still is one.
const TESTED_AFTER: Duration = Duration::from_secs(1);
/// Prepared statements that each connection keeps; more than the store has.
const STATEMENTS: usize = 256;

/// How PostgreSQL plans. Every statement finds its rows by keys, so one plan each is enough, and making one costs more than
/// most of them. It may be made while the tables are empty, when to read them whole looks cheapest: it is the dearest
/// later, and until statistics are gathered nobody would tell. What must read a whole table still does; it then looks so dear
/// that it would be compiled first, which takes longer than reading.
const PLANS: [(&str, &str); 6] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
    ("enable_material", "off"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// The two kinds of databases.
#[derive(Debug, Clone)]
pub(crate) enum Pools {
    /// One writer, so that writers queue here instead of failing there; readers see the last commit (WAL).
    Sqlite {
        writer: Writer,
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

#[derive(Debug)]
struct Shared {
    pools: Pools,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    meter: Arc<Meter>,
    turns: Arc<Mutex<()>>,
    writes: Writes,
    held_numbers: HeldNumbers,
    renewal: Arc<Renewal>,
    /// Held as long as the store is open, so that nobody puts another file in its place.
    _lock: Option<File>,
}

/// What a process asked of its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effort {
    /// Commits: each costs a flush of the disk.
    pub commits: u64,
    /// Transactions that were committed; on SQLite several share a commit.
    pub transactions: u64,
    /// How long what was committed was open, added up: what waited for a connection does not count.
    pub held: Duration,
}

/// The control plane's memory; cheap to clone.
#[derive(Debug, Clone)]
pub struct Store(Arc<Shared>);

impl Store {
    /// Opens a database: a path or `sqlite:path` for SQLite, `postgres://…` for PostgreSQL.
    ///
    /// SQLite's file is made when it is missing; its folder must be there. A schema newer than this version knows is
    /// refused; an older one is brought up by [`Store::migrate`].
    pub async fn open(url: &str, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self> {
        let renewal = Arc::new(Renewal::default());
        let (pools, lock) = match sqlite_path(url) {
            None => (open_postgres(url, Arc::clone(&renewal)).await?, None),
            Some(path) => {
                let lock = lock_shared(path)?;
                (sqlite(path).await?, Some(lock))
            }
        };
        let (turns, meter) = (Arc::default(), meter(&pools));
        let store = Self(Arc::new(Shared {
            pools,
            clock,
            entropy,
            meter,
            turns,
            writes: Writes::default(),
            held_numbers: HeldNumbers::default(),
            renewal,
            _lock: lock,
        }));
        migrate::refuse_newer(store.pools()).await?;
        Ok(store)
    }

    /// Over a database that somebody else keeps locked.
    pub(crate) fn over(pools: Pools, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        let (turns, renewal, meter) = (Arc::default(), Arc::default(), meter(&pools));
        let (writes, held_numbers) = (Writes::default(), HeldNumbers::default());
        Self(Arc::new(Shared { pools, clock, entropy, meter, turns, writes, held_numbers, renewal, _lock: None }))
    }

    /// Brings the schema to this version; safe to call at every start and from several replicas at once.
    pub async fn migrate(&self) -> Result<()> {
        migrate::run(self.pools()).await
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<()> {
        use crate::sql::Query;
        use crate::transaction::Sql as _;
        self.reader().fetch(Query::new("installation", "SELECT singleton FROM installation", vec![])).await?;
        Ok(())
    }

    /// Ends all connections; what was acknowledged stays.
    pub async fn close(&self) {
        match self.pools() {
            Pools::Sqlite { writer, readers } => {
                readers.close().await;
                writer.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }

    /// Whether it is PostgreSQL, which several replicas may share.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        match self.pools() {
            Pools::Sqlite { .. } => false,
            Pools::Postgres(_) => true,
        }
    }

    /// The clock that rows are written with.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// What this process committed since its start.
    #[must_use]
    pub fn effort(&self) -> Effort {
        let meter = &self.0.meter;
        Effort {
            commits: meter.commits.load(Ordering::Relaxed),
            transactions: meter.transactions.load(Ordering::Relaxed),
            held: Duration::from_micros(meter.held.load(Ordering::Relaxed)),
        }
    }

    /// Counts a transaction that was committed, and how long it was open. On SQLite the writer counts its commits.
    pub(crate) fn committed(&self, held: Duration) {
        self.0.meter.transactions.fetch_add(1, Ordering::Relaxed);
        if self.is_shared() {
            self.0.meter.committed(held);
        }
    }

    /// Bounds the size of a SQLite store, in its pages; what does not fit is refused as a full disk is.
    #[doc(hidden)]
    pub async fn bound_pages(&self, pages: u32) -> Result<()> {
        let Pools::Sqlite { writer, .. } = self.pools() else { return Ok(()) };
        let pragma = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        sqlx::query(pragma).fetch_all(writer.alone().await?.connection()?).await?;
        Ok(())
    }

    /// Draws the consequences of an error beyond the transaction that met it.
    pub(crate) fn noticed(&self, error: &StoreError) {
        if matches!(error, StoreError::ReadOnly(_)) {
            self.0.renewal.renew();
        }
    }

    pub(crate) fn entropy(&self) -> &dyn Entropy {
        self.0.entropy.as_ref()
    }

    pub(crate) fn turns(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.0.turns)
    }

    pub(crate) fn writes(&self) -> &Writes {
        &self.0.writes
    }

    pub(crate) fn held_numbers(&self) -> &HeldNumbers {
        &self.0.held_numbers
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.0.pools
    }

    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader(self.pools())
    }

    pub(crate) async fn snapshot(&self) -> Result<Tx> {
        Tx::snapshot(self.pools(), Arc::clone(&self.0.clock), Arc::clone(&self.0.entropy)).await
    }

    pub(crate) async fn begin(&self) -> Result<Tx> {
        Tx::begin(self.pools(), Arc::clone(&self.0.clock), Arc::clone(&self.0.entropy)).await
    }
}

/// The file of a SQLite URL; none for PostgreSQL.
pub(crate) fn sqlite_path(url: &str) -> Option<&Path> {
    if url.starts_with("postgres://") || url.starts_with("postgresql://") {
        return None;
    }
    Some(Path::new(url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")).unwrap_or(url)))
}

fn lock_file(path: &Path) -> Result<File> {
    let path = beside(path, ".lock");
    let opened = File::options().write(true).create(true).truncate(false).open(&path);
    opened.map_err(|error| StoreError::Unreachable(format!("{}: {error}", path.display())))
}

/// Says that the store is in use. The lock ends with the process, however that ends.
fn lock_shared(path: &Path) -> Result<File> {
    let file = lock_file(path)?;
    match file.try_lock_shared() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(StoreError::Unreachable(format!("{} is being restored: try again when that is done", path.display())))
        }
        Err(TryLockError::Error(error)) => Err(StoreError::Unreachable(format!("{}: {error}", path.display()))),
    }
}

/// Keeps everybody out of a store that nobody uses.
pub(crate) fn lock_alone(path: &Path) -> Result<File> {
    let file = lock_file(path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let message = format!("{} is in use: stop the control plane first", path.display());
            Err(Failure::new(Reason::Conflict, message).into())
        }
        Err(TryLockError::Error(error)) => Err(StoreError::Unreachable(format!("{}: {error}", path.display()))),
    }
}

/// A file that nobody writes, not even its journal.
pub(crate) async fn sqlite_at_rest(path: &Path) -> Result<Pools> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).immutable(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await;
    let readers = pool.map_err(|e| opening(&e, &path.display()))?;
    // It never connects: nobody begins anything there.
    Ok(Pools::Sqlite { writer: Writer::new(options), readers })
}

pub(crate) async fn sqlite(path: &Path) -> Result<Pools> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // An acknowledged order survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        // What is erased is overwritten: sealed passwords leave no copy in free pages.
        .pragma("secure_delete", "ON")
        .statement_cache_capacity(STATEMENTS)
        .busy_timeout(Duration::from_secs(5));
    let writer = Writer::new(options.clone().create_if_missing(true));
    drop(writer.alone().await.map_err(|error| opening(&error, &path.display()))?);
    let readers = SqlitePoolOptions::new().acquire_timeout(ACQUIRE).idle_timeout(None).max_lifetime(None);
    // A file of this machine cannot have gone away meanwhile.
    let readers =
        readers.max_connections(SQLITE_READERS).test_before_acquire(false).connect_with(options.read_only(true)).await;
    Ok(Pools::Sqlite { writer, readers: readers.map_err(|e| opening(&e, &path.display()))? })
}

/// When connections were found that take no writes. A session keeps what it was opened with, also when the server takes
/// writes again: those from before are replaced.
#[derive(Debug, Default)]
struct Renewal(std::sync::Mutex<Option<Instant>>);

impl Renewal {
    fn renew(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn is_outdated(&self, age: Duration) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| age > at.elapsed())
    }
}

async fn open_postgres(url: &str, renewal: Arc<Renewal>) -> Result<Pools> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|e| StoreError::Driver(format!("the URL of the database cannot be used: {e}")))?
        .application_name("nemordp-control-plane")
        .options(PLANS)
        .statement_cache_capacity(STATEMENTS);
    let host = options.get_host().to_owned();
    let pool = PgPoolOptions::new().max_connections(POSTGRES_CONNECTIONS).acquire_timeout(ACQUIRE);
    // A question to the server before each statement would cost as much as the statement.
    let pool = pool.test_before_acquire(false).before_acquire(move |connection, meta| {
        let outdated = renewal.is_outdated(meta.age);
        Box::pin(async move {
            let fresh = meta.idle_for < TESTED_AFTER;
            Ok(!outdated && (fresh || connection.ping().await.is_ok()))
        })
    });
    Ok(Pools::Postgres(pool.connect_with(options).await.map_err(|e| opening(&e, &host))?))
}

fn meter(pools: &Pools) -> Arc<Meter> {
    match pools {
        Pools::Sqlite { writer, .. } => writer.meter(),
        Pools::Postgres(_) => Arc::default(),
    }
}

/// Names what was opened, never the URL: a password may stand in it.
fn opening(error: &dyn std::fmt::Display, place: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unreachable(format!("{place}: {error}"))
}
