//! The one writer of SQLite, whose transactions share commits.
//!
//! A durable commit costs a flush of the disk, whatever stands in it. So the writer keeps an outer transaction open, the
//! group; each caller's transaction is a savepoint in it, strictly one after the other. A caller is told "committed" only
//! after the COMMIT of the group, which happens when nobody stands in line, or when the group is large or old enough.
//!
//! ```text
//!  BEGIN ─ SAVEPOINT a … RELEASE ─ SAVEPOINT b … ROLLBACK TO ─ SAVEPOINT c … RELEASE ─ COMMIT ─► a, b and c are told
//! ```
//!
//! Members see what those before them wrote, although it is not durable yet. That is safe, because
//!
//! 1. they become durable together or not at all, in the order in which they ran: nothing lasts without that on which it
//!    was decided;
//! 2. nobody outside learns anything of a group before its COMMIT. A refusal rests on what was read as much as a success
//!    does, so a member that was taken back is told after the COMMIT too, and when that fails it is told so instead;
//! 3. everybody else reads by other connections, which see what is committed (WAL);
//! 4. a process that dies loses the whole group, of which nobody was told.
//!
//! A statement that fails is taken back alone, its transaction to its savepoint. Where SQLite itself takes back the whole
//! group (a full disk, an error of the disk), the savepoint is gone too, which is how it is noticed: nothing of that
//! transaction runs any further, the connection is replaced, and those that had ended in the group run again.
//!
//! Beginning and ending run in tasks of their own: whoever is dropped meanwhile leaves neither an open savepoint nor a group
//! that nobody commits.

mod member;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};
use tokio::time::timeout;

use crate::error::{Result, StoreError};
use crate::open::ACQUIRE;
use crate::sql::{self, Query};

use member::Ending;
pub(crate) use member::Member;

/// How many transactions share a commit at most.
const TRANSACTIONS_MAX: usize = 256;
/// How long a group stays open while others stand in line: what the first one waits for the others at most. A few flushes of
/// a disk, so that on a slow one too most of the time is spent on transactions.
const TIME_MAX: Duration = Duration::from_millis(10);
/// After a COMMIT that a constraint stopped, so many transactions are committed alone, to find whose doing it was.
const SINGLY: usize = TRANSACTIONS_MAX;

/// What was committed, and how long that took.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    pub(crate) commits: AtomicU64,
    pub(crate) transactions: AtomicU64,
    /// Microseconds.
    pub(crate) held: AtomicU64,
}

impl Meter {
    /// Counts a commit, and how long its transaction was open.
    pub(crate) fn committed(&self, held: Duration) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.held.fetch_add(u64::try_from(held.as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// How far a group grows.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    transactions: usize,
    time: Duration,
}

/// Whoever waits for the COMMIT of a group.
type Tell = oneshot::Sender<Result<()>>;

/// The outer transaction that is open.
struct Group {
    began: Instant,
    /// Transactions in it that wrote something and were not taken back.
    kept: usize,
    waiting: Vec<Tell>,
}

impl Group {
    fn tell(self, outcome: &Result<()>) {
        for tell in self.waiting {
            // Who does not wait any more needs no answer.
            drop(tell.send(outcome.clone()));
        }
    }
}

/// The writer's connection. Whoever holds its lock writes; the lock is fair.
#[derive(Default)]
struct Lane {
    /// Absent until it is needed, and after it was found in a state that nobody knows.
    connection: Option<SqliteConnection>,
    /// The transaction that is open on the connection.
    group: Option<Group>,
    /// How many of the next transactions are committed alone.
    singly: usize,
    closed: bool,
}

struct Inner {
    options: SqliteConnectOptions,
    bounds: Bounds,
    lane: Arc<Mutex<Lane>>,
    /// How many stand in line for the lane.
    line: AtomicUsize,
    meter: Arc<Meter>,
}

/// The one writer; cheap to clone.
#[derive(Clone)]
pub(crate) struct Writer(Arc<Inner>);

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("line", &self.0.line).finish_non_exhaustive()
    }
}

async fn run(connection: &mut SqliteConnection, text: &'static str) -> Result<()> {
    sql::sqlite::execute(&mut *connection, &Query::new("transaction", text, vec![])).await.map(drop)
}

/// Ends a connection in a state that nobody knows; what is open on it is rolled back.
async fn discard(connection: SqliteConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "the writer's connection was not closed in order");
    }
}

fn gone() -> StoreError {
    StoreError::Unreachable("the writer's connection ended before the commit".to_owned())
}

impl Lane {
    async fn connect(&mut self, options: &SqliteConnectOptions) -> Result<SqliteConnection> {
        if self.closed {
            return Err(StoreError::Unreachable("the store is closed".to_owned()));
        }
        match self.connection.take() {
            Some(connection) => Ok(connection),
            None => {
                self.lose(&gone());
                Ok(options.connect().await?)
            }
        }
    }

    /// Begins a transaction in the group that is open, or in a new one.
    async fn open(&mut self, options: &SqliteConnectOptions) -> Result<()> {
        let mut connection = self.connect(options).await?;
        let text = match self.group {
            Some(_) => "SAVEPOINT member",
            None => "BEGIN IMMEDIATE; SAVEPOINT member",
        };
        match run(&mut connection, text).await {
            Ok(()) => {
                self.connection = Some(connection);
                self.group.get_or_insert_with(|| Group { began: Instant::now(), kept: 0, waiting: Vec::new() });
                Ok(())
            }
            Err(error) => {
                discard(connection).await;
                self.lose(&error);
                Err(error)
            }
        }
    }

    /// Ends a transaction of the group; whoever is told is told after the COMMIT, unless nothing depends on it.
    async fn end(&mut self, ending: Ending, tell: Option<Tell>) {
        let (text, keep) = match &ending {
            Ending::Kept => ("RELEASE member", true),
            Ending::TakenBack { .. } => ("ROLLBACK TO member; RELEASE member", false),
        };
        let ended = match &mut self.connection {
            Some(connection) => run(connection, text).await,
            None => Err(gone()),
        };
        let lost = match (ended, &mut self.group) {
            (Ok(()), Some(group)) => {
                group.kept += usize::from(keep);
                match tell {
                    Some(tell) if group.kept > 0 => group.waiting.push(tell),
                    Some(tell) => drop(tell.send(Ok(()))),
                    None => {}
                }
                return;
            }
            (Ok(()), None) => gone(),
            (Err(error), _) => error,
        };
        // The savepoint is gone, and everything before it: the database has taken back the whole group.
        let lost = match ending {
            Ending::TakenBack { cause: Some(cause) } => cause,
            Ending::TakenBack { cause: None } | Ending::Kept => lost,
        };
        if let Some(connection) = self.connection.take() {
            discard(connection).await;
        }
        self.lose(&lost);
        if let Some(tell) = tell {
            drop(tell.send(Err(lost)));
        }
    }

    /// The group is gone through no fault of those that had ended in it: they are to run again.
    fn lose(&mut self, error: &StoreError) {
        if let Some(group) = self.group.take() {
            tracing::warn!(%error, transactions = group.kept, "a group of transactions was taken back and runs again");
            group.tell(&Err(StoreError::Busy(format!("taken back with others: {error}"))));
        }
    }

    /// Commits the group, then tells everybody in it.
    async fn flush(&mut self, meter: &Meter) {
        let Some(group) = self.group.take() else { return };
        let Some(mut connection) = self.connection.take() else { return group.tell(&Err(gone())) };
        let text = if group.kept > 0 { "COMMIT" } else { "ROLLBACK" };
        let outcome = match run(&mut connection, text).await {
            Ok(()) => {
                self.connection = Some(connection);
                if group.kept > 0 {
                    self.singly = self.singly.saturating_sub(1);
                    meter.committed(group.began.elapsed());
                }
                Ok(())
            }
            Err(error) => {
                discard(connection).await;
                Err(self.blame(error, group.kept))
            }
        };
        group.tell(&outcome);
    }

    /// A constraint that is checked at the end is broken by one transaction: the others need not suffer from it.
    fn blame(&mut self, error: StoreError, kept: usize) -> StoreError {
        if kept < 2 || !matches!(error, StoreError::Constraint(_)) {
            return error;
        }
        self.singly = SINGLY;
        StoreError::Busy(format!("one of {kept} transactions broke a constraint, each runs alone now: {error}"))
    }
}

impl Inner {
    /// Hands the lane on; commits first when nobody is there to do it later, or when it is time.
    async fn leave(&self, mut lane: OwnedMutexGuard<Lane>) {
        let most = if lane.singly > 0 { 1 } else { self.bounds.transactions };
        let nobody = self.line.load(Ordering::Acquire) == 0;
        let due = |group: &Group| nobody || group.kept >= most || group.began.elapsed() >= self.bounds.time;
        if lane.group.as_ref().is_some_and(due) {
            lane.flush(&self.meter).await;
        }
    }
}

/// A place in line, as long as it lives.
struct Place(Arc<Inner>);

impl Place {
    fn take(inner: &Arc<Inner>) -> Self {
        inner.line.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(inner))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.line.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Writer {
    /// A writer that connects when it is first needed.
    pub(crate) fn new(options: SqliteConnectOptions) -> Self {
        Self::bounded(options, Bounds { transactions: TRANSACTIONS_MAX, time: TIME_MAX })
    }

    fn bounded(options: SqliteConnectOptions, bounds: Bounds) -> Self {
        let (lane, line, meter) = (Arc::default(), AtomicUsize::new(0), Arc::default());
        Self(Arc::new(Inner { options, bounds, lane, line, meter }))
    }

    pub(crate) fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.0.meter)
    }

    /// Waits for the lane and begins a transaction.
    ///
    /// The task stands in line to the end, also when the caller does not wait any more: whoever is before it may leave the
    /// group to it.
    pub(crate) async fn begin(&self) -> Result<Member> {
        let (tell, told) = oneshot::channel();
        let mut lane = Box::pin(Arc::clone(&self.0.lane).lock_owned());
        // In line before the task runs, so that the order is the one of the calls; counted when it stands there.
        let at_once = std::future::poll_fn(|context| Poll::Ready(lane.as_mut().poll(context))).await;
        let (inner, place) = (Arc::clone(&self.0), Place::take(&self.0));
        tokio::spawn(async move {
            let mut lane = match at_once {
                Poll::Ready(lane) => lane,
                Poll::Pending => lane.await,
            };
            drop(place);
            if tell.is_closed() {
                return inner.leave(lane).await;
            }
            let begun = match lane.open(&inner.options).await {
                Ok(()) => Ok(Member { inner, lane: Some(lane), broken: None }),
                Err(error) => {
                    inner.leave(lane).await;
                    Err(error)
                }
            };
            // A transaction that nobody wants any more is taken back when it is dropped.
            drop(tell.send(begun));
        });
        match timeout(ACQUIRE, told).await {
            Ok(begun) => begun.unwrap_or_else(|_| Err(gone())),
            Err(_) => Err(StoreError::Unreachable("the writer was not free in time".to_owned())),
        }
    }

    /// The connection outside of any transaction: for pragmas, checkpoints and migrations. Writers wait meanwhile.
    pub(crate) async fn alone(&self) -> Result<Alone> {
        let inner = Arc::clone(&self.0);
        let task = tokio::spawn(async move {
            let mut lane = Arc::clone(&inner.lane).lock_owned().await;
            lane.flush(&inner.meter).await;
            let connection = lane.connect(&inner.options).await?;
            lane.connection = Some(connection);
            Ok(Alone(lane))
        });
        task.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Commits what is open and ends the connection, for good.
    pub(crate) async fn close(&self) {
        let inner = Arc::clone(&self.0);
        let task = tokio::spawn(async move {
            let mut lane = Arc::clone(&inner.lane).lock_owned().await;
            lane.flush(&inner.meter).await;
            lane.closed = true;
            if let Some(connection) = lane.connection.take() {
                discard(connection).await;
            }
        });
        drop(task.await);
    }
}

/// The writer's connection, outside of any transaction.
pub(crate) struct Alone(OwnedMutexGuard<Lane>);

impl Alone {
    pub(crate) fn connection(&mut self) -> Result<&mut SqliteConnection> {
        self.0.connection.as_mut().ok_or_else(gone)
    }
}

#[cfg(test)]
mod tests;
