//! Opening SQLite or PostgreSQL, and what every method starts from.

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nemordp_types::{Clock, Entropy};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{PgPool, SqlitePool};
use tokio::sync::Mutex;

use crate::error::{Result, StoreError};
use crate::migrate;
use crate::transaction::{Reader, Tx};

/// Read-only connections to SQLite.
const SQLITE_READERS: u32 = 4;
/// Connections to PostgreSQL of one replica.
const POSTGRES_CONNECTIONS: u32 = 16;
/// How long a caller waits for a connection before it is told that the store is not reachable.
const ACQUIRE: Duration = Duration::from_secs(10);
/// Prepared statements that each connection keeps; more than the store has.
const STATEMENTS: usize = 256;

/// The two kinds of databases.
#[derive(Debug, Clone)]
pub(crate) enum Pools {
    /// One writer, so that writers queue here instead of failing there; readers see the last commit (WAL).
    Sqlite {
        writer: SqlitePool,
        readers: SqlitePool,
    },
    Postgres(PgPool),
}

#[derive(Debug)]
struct Shared {
    pools: Pools,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    commits: AtomicU64,
    /// Microseconds.
    held: AtomicU64,
    turns: Arc<Mutex<()>>,
}

/// What a process asked of its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Effort {
    /// Transactions that were committed.
    pub commits: u64,
    /// How long these were open, added up: what they waited for a connection does not count.
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
        let pools = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            open_postgres(url).await?
        } else {
            let path = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")).unwrap_or(url);
            open_sqlite(Path::new(path)).await?
        };
        let (commits, held) = (AtomicU64::new(0), AtomicU64::new(0));
        let store = Self(Arc::new(Shared { pools, clock, entropy, commits, held, turns: Arc::default() }));
        migrate::refuse_newer(store.pools()).await?;
        Ok(store)
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
        Effort {
            commits: self.0.commits.load(Ordering::Relaxed),
            held: Duration::from_micros(self.0.held.load(Ordering::Relaxed)),
        }
    }

    /// Counts a commit, and how long its transaction was open.
    pub(crate) fn committed(&self, held: Duration) {
        self.0.commits.fetch_add(1, Ordering::Relaxed);
        self.0.held.fetch_add(u64::try_from(held.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(crate) fn entropy(&self) -> &dyn Entropy {
        self.0.entropy.as_ref()
    }

    pub(crate) fn turns(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.0.turns)
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.0.pools
    }

    pub(crate) fn reader(&self) -> Reader<'_> {
        Reader(self.pools())
    }

    pub(crate) async fn begin(&self) -> Result<Tx> {
        Tx::begin(self.pools(), Arc::clone(&self.0.clock), Arc::clone(&self.0.entropy)).await
    }
}

async fn open_sqlite(path: &Path) -> Result<Pools> {
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
    let pool = || SqlitePoolOptions::new().acquire_timeout(ACQUIRE).idle_timeout(None).max_lifetime(None);
    let writer = pool().max_connections(1).connect_with(options.clone().create_if_missing(true)).await;
    let writer = writer.map_err(|e| opening(&e, &path.display()))?;
    let readers = options.read_only(true);
    let readers = pool().max_connections(SQLITE_READERS).connect_with(readers).await;
    Ok(Pools::Sqlite { writer, readers: readers.map_err(|e| opening(&e, &path.display()))? })
}

async fn open_postgres(url: &str) -> Result<Pools> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|e| StoreError::Driver(format!("the URL of the database cannot be used: {e}")))?
        .application_name("nemordp-control-plane")
        .statement_cache_capacity(STATEMENTS);
    let host = options.get_host().to_owned();
    let pool = PgPoolOptions::new().max_connections(POSTGRES_CONNECTIONS).acquire_timeout(ACQUIRE);
    Ok(Pools::Postgres(pool.connect_with(options).await.map_err(|e| opening(&e, &host))?))
}

/// Names what was opened, never the URL: a password may stand in it.
fn opening(error: &sqlx::Error, place: &dyn std::fmt::Display) -> StoreError {
    StoreError::Unreachable(format!("{place}: {error}"))
}
