use std::sync::atomic::AtomicBool;

use sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use tokio::task::JoinSet;

use super::*;
use crate::sql::{Row, Value};

const NEVER: Duration = Duration::from_secs(3_600);
const INSERT: &str = "INSERT INTO t (n, body) VALUES ($1, zeroblob($2))";

/// A file with one table, its writer, and somebody who reads what is committed.
struct World {
    writer: Writer,
    reader: SqliteConnection,
    options: SqliteConnectOptions,
    _folder: tempfile::TempDir,
}

impl World {
    async fn with(bounds: Bounds) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = SqliteConnectOptions::new()
            .filename(folder.path().join("store.db"))
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .create_if_missing(true);
        let writer = Writer::bounded(options.clone(), bounds);
        let tables = "CREATE TABLE owner (id INTEGER PRIMARY KEY); CREATE TABLE t (n INTEGER PRIMARY KEY, \
                      body BLOB NOT NULL, owner INTEGER REFERENCES owner (id) DEFERRABLE INITIALLY DEFERRED)";
        run(writer.alone().await.unwrap().connection().unwrap(), tables).await.unwrap();
        let reader = options.connect().await.unwrap();
        Self { writer, reader, options, _folder: folder }
    }

    /// Groups that only end when nobody stands in line.
    async fn unbounded() -> Self {
        Self::with(Bounds { transactions: usize::MAX, time: NEVER }).await
    }

    /// What everybody sees.
    async fn committed(&mut self) -> Vec<i64> {
        rows(
            sql::sqlite::fetch(&mut self.reader, &Query::new("t", "SELECT n FROM t ORDER BY n", vec![])).await.unwrap(),
        )
    }

    fn commits(&self) -> u64 {
        self.writer.meter().commits.load(Ordering::Relaxed)
    }

    /// Waits until so many stand in line.
    async fn line(&self, length: usize) {
        while self.writer.0.line.load(Ordering::Acquire) != length {
            tokio::task::yield_now().await;
        }
    }

    /// A writer that waits for its turn, writes one row and ends.
    fn spawn(&self, n: i64) -> tokio::task::JoinHandle<Result<()>> {
        let writer = self.writer.clone();
        tokio::spawn(async move {
            let mut member = writer.begin().await?;
            insert(&mut member, n, 1).await?;
            member.commit().await
        })
    }

    /// From now on COMMIT fails, on the connection that there is.
    async fn fail_commits(&self) -> Arc<AtomicBool> {
        let tried = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&tried);
        let mut alone = self.writer.alone().await.unwrap();
        alone.connection().unwrap().lock_handle().await.unwrap().set_commit_hook(move || {
            seen.store(true, Ordering::Relaxed);
            false
        });
        tried
    }
}

fn rows(rows: Vec<Row>) -> Vec<i64> {
    rows.iter().map(|row| row.int("n").unwrap()).collect()
}

async fn insert(member: &mut Member, n: i64, bytes: i64) -> Result<()> {
    let values = vec![Value::Int(Some(n)), Value::Int(Some(bytes))];
    member.execute(&Query::new("t", INSERT, values)).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_that_queue_share_one_commit_and_are_told_after_it() {
    let mut world = World::unbounded().await;
    let mut first = world.writer.begin().await.unwrap();
    insert(&mut first, 0, 1).await.unwrap();
    let others: Vec<_> = (1..=50).map(|n| world.spawn(n)).collect();
    world.line(50).await;
    assert!(world.committed().await.is_empty());
    first.commit().await.unwrap();
    for other in others {
        other.await.unwrap().unwrap();
    }
    assert_eq!(world.committed().await, (0..=50).collect::<Vec<_>>());
    assert_eq!(world.commits(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_group_has_a_bound() {
    for (bounds, commits) in
        [(Bounds { transactions: 10, time: NEVER }, 6), (Bounds { transactions: usize::MAX, time: Duration::ZERO }, 51)]
    {
        let mut world = World::with(bounds).await;
        let mut first = world.writer.begin().await.unwrap();
        insert(&mut first, 0, 1).await.unwrap();
        let others: Vec<_> = (1..=50).map(|n| world.spawn(n)).collect();
        world.line(50).await;
        first.commit().await.unwrap();
        for other in others {
            other.await.unwrap().unwrap();
        }
        assert_eq!((world.committed().await.len(), world.commits()), (51, commits), "{bounds:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_fails_is_taken_back_alone_and_told_when_the_others_are_durable() {
    let mut world = World::unbounded().await;
    let mut first = world.writer.begin().await.unwrap();
    insert(&mut first, 1, 1).await.unwrap();
    let writer = world.writer.clone();
    let failing = tokio::spawn(async move {
        let mut member = writer.begin().await.unwrap();
        insert(&mut member, 2, 1).await.unwrap();
        let refused = insert(&mut member, 1, 1).await.unwrap_err();
        assert!(matches!(refused, StoreError::Constraint(_)), "{refused:?}");
        insert(&mut member, 3, 1).await.expect("a constraint stops a statement, not the transaction");
        member.rollback().await
    });
    world.line(1).await;
    let last = world.spawn(4);
    world.line(2).await;
    let first = tokio::spawn(first.commit());
    failing.await.unwrap().unwrap();
    assert_eq!(world.committed().await, [1, 4], "a refusal that rests on what a group wrote is told after its COMMIT");
    first.await.unwrap().unwrap();
    last.await.unwrap().unwrap();
    assert_eq!(world.commits(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_that_fails_is_acknowledged_to_nobody() {
    let mut world = World::unbounded().await;
    let tried = world.fail_commits().await;
    let mut first = world.writer.begin().await.unwrap();
    insert(&mut first, 0, 1).await.unwrap();
    let others: Vec<_> = (1..=5).map(|n| world.spawn(n)).collect();
    let writer = world.writer.clone();
    let refused = tokio::spawn(async move { writer.begin().await.unwrap().rollback().await });
    world.line(6).await;
    assert!(first.commit().await.is_err());
    for other in others {
        assert!(other.await.unwrap().is_err());
    }
    assert!(refused.await.unwrap().is_err(), "what it read was never true");
    assert!(tried.load(Ordering::Relaxed));
    assert!(world.committed().await.is_empty());
    assert_eq!(world.commits(), 0);
    world.spawn(7).await.unwrap().expect("the connection was replaced");
    assert_eq!(world.committed().await, [7]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_disk_takes_the_group_back_and_those_who_fit_run_again() {
    let mut world = World::unbounded().await;
    world.spawn(1).await.unwrap().unwrap();
    let bound = "PRAGMA max_page_count = 20";
    run(world.writer.alone().await.unwrap().connection().unwrap(), bound).await.unwrap();
    let mut small = world.writer.begin().await.unwrap();
    insert(&mut small, 2, 1).await.unwrap();
    let writer = world.writer.clone();
    let large = tokio::spawn(async move {
        let mut member = writer.begin().await.unwrap();
        let mut full = Ok(());
        for n in 100..200 {
            full = full.and(insert(&mut member, n, 4_000).await);
        }
        let full = full.unwrap_err();
        assert!(matches!(full, StoreError::DiskFull(_)), "{full:?}");
        assert_eq!(insert(&mut member, 3, 1).await, Err(full.clone()), "nothing runs outside of a transaction");
        assert_eq!(member.commit().await, Err(full));
    });
    world.line(1).await;
    let told = small.commit().await;
    large.await.unwrap();
    // Whether SQLite takes back the statement or everything is its choice; nobody may be told otherwise than it is.
    match told {
        Ok(()) => assert_eq!(world.committed().await, [1, 2]),
        Err(StoreError::Busy(_)) => assert_eq!(world.committed().await, [1]),
        Err(other) => panic!("{other:?}"),
    }
    world.spawn(4).await.unwrap().expect("it begins again");
    assert!(world.committed().await.contains(&4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn when_the_database_takes_everything_back_nobody_is_told_it_was_committed() {
    let mut world = World::unbounded().await;
    let mut small = world.writer.begin().await.unwrap();
    insert(&mut small, 1, 1).await.unwrap();
    let writer = world.writer.clone();
    let fatal = tokio::spawn(async move {
        let mut member = writer.begin().await.unwrap();
        insert(&mut member, 2, 1).await.unwrap();
        // As SQLite does by itself when an error leaves it no other way.
        let conflict = "INSERT OR ROLLBACK INTO t (n, body) VALUES (1, zeroblob(1))";
        assert!(member.execute(&Query::new("t", conflict, vec![])).await.is_err());
        member.commit().await
    });
    world.line(1).await;
    let last = world.spawn(3);
    world.line(2).await;
    let told = small.commit().await;
    assert!(matches!(told, Err(StoreError::Busy(_))), "{told:?}");
    assert!(fatal.await.unwrap().is_err());
    last.await.unwrap().expect("the next one is in another group");
    assert_eq!(world.committed().await, [3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_is_dropped_half_way_leaves_nothing_and_hinders_nobody() {
    let mut world = World::unbounded().await;
    let mut first = world.writer.begin().await.unwrap();
    insert(&mut first, 1, 1).await.unwrap();
    let writer = world.writer.clone();
    let dropped = tokio::spawn(async move {
        let mut member = writer.begin().await.unwrap();
        insert(&mut member, 2, 1).await.unwrap();
        drop(member);
    });
    world.line(1).await;
    first.commit().await.expect("the one that was dropped commits for those before it");
    dropped.await.unwrap();
    assert_eq!(world.committed().await, [1]);
    world.spawn(3).await.unwrap().unwrap();
    assert_eq!(world.committed().await, [1, 3]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_leaves_the_line_does_not_leave_the_group_open() {
    let mut world = World::unbounded().await;
    let mut first = world.writer.begin().await.unwrap();
    insert(&mut first, 1, 1).await.unwrap();
    let leaving = world.spawn(2);
    world.line(1).await;
    leaving.abort();
    assert!(leaving.await.unwrap_err().is_cancelled());
    first.commit().await.unwrap();
    assert_eq!(world.committed().await, [1]);
}

// One thread: nobody commits between the question and its first answer.
#[tokio::test]
async fn who_does_not_wait_for_the_commit_is_committed_all_the_same() {
    let mut world = World::unbounded().await;
    let mut first = world.writer.begin().await.unwrap();
    insert(&mut first, 1, 1).await.unwrap();
    let other = world.spawn(2);
    world.line(1).await;
    {
        let commit = first.commit();
        tokio::pin!(commit);
        assert!(futures::poll!(&mut commit).is_pending());
    }
    other.await.unwrap().unwrap();
    assert_eq!(world.committed().await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_constraint_that_is_checked_at_the_end_stops_only_who_broke_it() {
    let mut world = World::unbounded().await;
    let mut first = world.writer.begin().await.unwrap();
    insert(&mut first, 0, 1).await.unwrap();
    let broken = "INSERT INTO t (n, body, owner) VALUES (99, zeroblob(1), 1)";
    let mut others: JoinSet<(i64, Result<()>)> = JoinSet::new();
    for n in 1..=5 {
        let writer = world.writer.clone();
        others.spawn(async move {
            loop {
                let mut member = writer.begin().await.unwrap();
                match n {
                    3 => drop(member.execute(&Query::new("t", broken, vec![])).await.unwrap()),
                    _ => insert(&mut member, n, 1).await.unwrap(),
                }
                match member.commit().await {
                    Err(StoreError::Busy(_)) => {}
                    outcome => return (n, outcome),
                }
            }
        });
    }
    world.line(5).await;
    assert!(matches!(first.commit().await, Err(StoreError::Busy(_))), "one of them cannot be committed");
    while let Some(other) = others.join_next().await {
        match other.unwrap() {
            (3, outcome) => assert!(matches!(outcome, Err(StoreError::Constraint(_))), "{outcome:?}"),
            (n, outcome) => assert_eq!(outcome, Ok(()), "{n}"),
        }
    }
    assert_eq!(world.committed().await, [1, 2, 4, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_needs_the_connection_alone_waits_for_the_group_and_is_let_in() {
    let mut world = World::unbounded().await;
    let mut first = world.writer.begin().await.unwrap();
    insert(&mut first, 1, 1).await.unwrap();
    let writer = world.writer.clone();
    let vacuum = tokio::spawn(async move { run(writer.alone().await?.connection()?, "VACUUM").await });
    tokio::task::yield_now().await;
    let last = world.spawn(2);
    world.line(1).await;
    first.commit().await.unwrap();
    vacuum.await.unwrap().expect("VACUUM works outside of a transaction only");
    last.await.unwrap().unwrap();
    world.writer.close().await;
    assert!(matches!(world.writer.begin().await.map(drop), Err(StoreError::Unreachable(_))));
    assert_eq!(world.committed().await, [1, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn another_process_that_holds_the_lock_is_told_as_busy() {
    let mut world = World::unbounded().await;
    let mut other = world.options.clone().busy_timeout(Duration::ZERO).connect().await.unwrap();
    let writer = Writer::new(world.options.clone().busy_timeout(Duration::ZERO));
    drop(writer.alone().await.unwrap());
    run(&mut other, "BEGIN IMMEDIATE").await.unwrap();
    assert!(matches!(writer.begin().await.map(drop), Err(StoreError::Busy(_))));
    run(&mut other, "COMMIT").await.unwrap();
    let mut member = writer.begin().await.unwrap();
    insert(&mut member, 1, 1).await.unwrap();
    member.commit().await.unwrap();
    assert_eq!(world.committed().await, [1]);
}
