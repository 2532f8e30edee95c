//! Copies of a SQLite store: made while it is in use, put back while nobody uses it.
//!
//! PostgreSQL has tools of its own for that; what [`crate::Store::mark_restored`] does is the same for both.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nemordp_types::{Clock, Entropy, Failure, InstallationId, Reason};

use crate::Store;
use crate::error::{Result, StoreError};
use crate::frozen::Restored;
use crate::group::Writer;
use crate::migrate;
use crate::open::{self, Pools};
use crate::sql::{self, Query, values};
use crate::transaction::{Reader, Sql as _};

/// A copy that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backup {
    /// Of which installation.
    pub installation_id: InstallationId,
    /// Its schema.
    pub schema: i64,
    /// Its size.
    pub bytes: u64,
}

/// A copy that was put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Of which installation.
    pub installation_id: InstallationId,
    /// Where the store from before lies now.
    pub before: Option<PathBuf>,
    /// What is to be settled.
    pub restored: Restored,
}

fn refuse(reason: Reason, message: String) -> StoreError {
    Failure::new(reason, message).with_field("file").into()
}

/// What the operating system says about a file.
fn file_error(path: &Path, error: &io::Error) -> StoreError {
    let text = format!("{}: {error}", path.display());
    let kind = error.kind();
    if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        StoreError::DiskFull(text)
    } else if kind == io::ErrorKind::AlreadyExists {
        refuse(Reason::AlreadyExists, format!("{text}: name another file"))
    } else {
        refuse(Reason::InvalidArgument, text)
    }
}

/// `store.sqlite` and `-wal` give `store.sqlite-wal`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn sync(path: &Path) -> Result<()> {
    File::open(path).and_then(|file| file.sync_all()).map_err(|error| file_error(path, &error))
}

/// An empty file that only its owner reads: sealed passwords will lie in it.
fn create_private(path: &Path) -> Result<File> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    opened.map_err(|error| file_error(path, &error))
}

/// Removes a file that may not be there.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error(path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Reads a database file that nobody writes, and refuses what is no whole store of a version that we know.
async fn examine(path: &Path) -> Result<(InstallationId, i64)> {
    let damaged = |detail: &str| {
        let message = format!("{} is no whole backup of a store: {detail}", path.display());
        refuse(Reason::InvalidArgument, message)
    };
    let pools = open::sqlite_at_rest(path).await.map_err(|error| damaged(&error.to_string()))?;
    let outcome = examine_open(&pools, &damaged).await;
    if let Pools::Sqlite { readers, .. } = &pools {
        readers.close().await;
    }
    outcome
}

async fn examine_open(pools: &Pools, damaged: &(dyn Fn(&str) -> StoreError + Sync)) -> Result<(InstallationId, i64)> {
    let mut reader = Reader(pools);
    let whole = reader.fetch(Query::new("backup", "PRAGMA integrity_check(1)", vec![])).await;
    let whole = whole.map_err(|error| damaged(&error.to_string()))?;
    let said = whole.first().map(|row| row.text("integrity_check")).transpose()?.unwrap_or_default();
    if said != "ok" {
        return Err(damaged(&said));
    }
    let schema = migrate::version(pools).await?.ok_or_else(|| damaged("it has no schema"))?;
    migrate::refuse_newer(pools).await?;
    if !reader.fetch(Query::new("backup", "PRAGMA foreign_key_check", vec![])).await?.is_empty() {
        return Err(damaged("rows refer to others that are missing"));
    }
    let row = reader.fetch_optional(Query::new("installation", "SELECT id FROM installation", vec![])).await?;
    Ok((row.ok_or_else(|| damaged("it belongs to no installation"))?.get("id")?, schema))
}

impl Store {
    /// Writes a copy of everything that is committed now, while the store is in use. The file appears when it is whole and
    /// durable; one that is there already is refused. `Refused` for PostgreSQL.
    pub async fn backup(&self, file: &Path) -> Result<Backup> {
        let Pools::Sqlite { readers, .. } = self.pools() else {
            let message = "PostgreSQL is backed up with its own tools: look at `Backup` in docs/operator.md".to_owned();
            return Err(refuse(Reason::InvalidArgument, message));
        };
        if file.exists() {
            return Err(refuse(
                Reason::AlreadyExists,
                format!("{} is there already: name another file", file.display()),
            ));
        }
        let partial = beside(file, ".partial");
        remove(&partial)?;
        drop(create_private(&partial)?);
        let name = partial.to_str().ok_or_else(|| refuse(Reason::InvalidArgument, "use a name in UTF-8".to_owned()))?;
        let copied = sql::sqlite::execute(readers, &Query::new("backup", "VACUUM INTO $1", values![name])).await;
        let outcome = async {
            copied?;
            sync(&partial)?;
            let (installation_id, schema) = examine(&partial).await?;
            let bytes = fs::metadata(&partial).map_err(|error| file_error(&partial, &error))?.len();
            // Unlike a rename, a link never takes the place of a file that appeared meanwhile.
            fs::hard_link(&partial, file).map_err(|error| file_error(file, &error))?;
            Ok(Backup { installation_id, schema, bytes })
        }
        .await;
        remove(&partial)?;
        sync(folder_of(file))?;
        outcome
    }
}

/// Puts a backup in the place of a SQLite store that nobody uses, and marks it as restored. A store that is there is
/// refused unless `replace`; it is then kept beside under another name, never deleted.
///
/// Everything is done to a copy beside the store; its last act is one rename.
pub async fn restore(
    url: &str,
    file: &Path,
    replace: bool,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<Replaced> {
    let Some(path) = open::sqlite_path(url) else {
        let message = "PostgreSQL is restored with its own tools, then `store mark-restored`: look at `Backup` in \
                       docs/operator.md";
        return Err(refuse(Reason::InvalidArgument, message.to_owned()));
    };
    let _lock = open::lock_alone(path)?;
    let (installation_id, _) = examine(file).await?;
    let there = path.exists();
    if there && !replace {
        let message = format!("{} is there: add --replace, it is kept under another name", path.display());
        return Err(refuse(Reason::AlreadyExists, message));
    }
    if there {
        fold(path, installation_id).await?;
    }
    let next = beside(path, ".restoring");
    for leftover in [next.clone(), beside(&next, "-wal"), beside(&next, "-shm"), beside(&next, "-journal")] {
        remove(&leftover)?;
    }
    let mut source = File::open(file).map_err(|error| file_error(file, &error))?;
    io::copy(&mut source, &mut create_private(&next)?).map_err(|error| file_error(&next, &error))?;
    let restored = mark(&next, &clock, &entropy).await?;
    sync(&next)?;
    let before = there.then(|| beside(path, &format!(".replaced-{}", clock.now().as_second())));
    if let Some(before) = &before {
        // A journal of the store from before must never be taken for one of the new store.
        for suffix in ["-wal", "-shm"] {
            let (from, to) = (beside(path, suffix), beside(before, suffix));
            if from.exists() {
                fs::rename(&from, &to).map_err(|error| file_error(&to, &error))?;
            }
        }
        fs::hard_link(path, before).map_err(|error| file_error(before, &error))?;
    }
    fs::rename(&next, path).map_err(|error| file_error(path, &error))?;
    sync(folder_of(path))?;
    Ok(Replaced { installation_id, before, restored })
}

/// Brings all that was committed of the store that is replaced into its one file. One that cannot be opened is kept as it
/// is; one of another installation is refused.
async fn fold(path: &Path, installation_id: InstallationId) -> Result<()> {
    let Ok(pools) = open::sqlite(path).await else { return Ok(()) };
    let Pools::Sqlite { writer, readers } = &pools else { return Ok(()) };
    let row = Reader(&pools).fetch_optional(Query::new("installation", "SELECT id FROM installation", vec![])).await;
    let found = row.ok().flatten().and_then(|row| row.get::<InstallationId>("id").ok());
    readers.close().await;
    let folded = checkpoint(writer).await;
    writer.close().await;
    if let Err(error) = folded {
        tracing::warn!(%error, "the journal of the store that is replaced stays apart");
    }
    match found {
        Some(found) if found != installation_id => Err(refuse(
            Reason::Conflict,
            format!("the backup is of installation {installation_id}, the store here of {found}: use the right file"),
        )),
        Some(_) | None => Ok(()),
    }
}

/// Brings the whole journal into the one file.
async fn checkpoint(writer: &Writer) -> Result<()> {
    let pragma = Query::new("store", "PRAGMA wal_checkpoint(TRUNCATE)", vec![]);
    sql::sqlite::execute(writer.alone().await?.connection()?, &pragma).await.map(drop)
}

/// Brings the copy up to this version's schema and marks it, and leaves it in its one file.
async fn mark(path: &Path, clock: &Arc<dyn Clock>, entropy: &Arc<dyn Entropy>) -> Result<Restored> {
    let store = Store::over(open::sqlite(path).await?, Arc::clone(clock), Arc::clone(entropy));
    store.migrate().await?;
    let restored = store.mark_restored().await?;
    if let Pools::Sqlite { writer, readers } = store.pools() {
        readers.close().await;
        checkpoint(writer).await?;
    }
    store.close().await;
    match beside(path, "-wal") {
        journal if journal.exists() => Err(StoreError::Driver(format!("{} is still there", journal.display()))),
        _folded => Ok(restored),
    }
}
