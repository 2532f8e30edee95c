//! A private PostgreSQL: own folder, Unix socket only, gone with its owner.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Result, io, until, unusable};

const START_LIMIT: Duration = Duration::from_secs(30);

/// How a server is brought down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Transactions under way are rolled back, then it ends (SIGINT).
    Fast,
    /// It drops everything and recovers at its next start (SIGQUIT).
    Immediate,
    /// `kill -9` of the server; its children notice.
    Killed,
}

/// A server that runs. Dropped, it is gone.
#[derive(Debug)]
pub struct Postgres {
    bin: PathBuf,
    durable: bool,
    child: Option<Child>,
    /// How often it was brought down on purpose.
    pub restarts: u64,
    dir: tempfile::TempDir,
}

/// Whether PostgreSQL's programs are installed.
pub(super) fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut bins: Vec<PathBuf> =
        versions.filter_map(|v| Some(v.ok()?.path().join("bin"))).filter(|bin| bin.join("initdb").exists()).collect();
    bins.sort();
    bins.pop()
}

impl Postgres {
    /// Makes a cluster with one empty database and serves it. `durable`: commits wait for the disk.
    ///
    /// # Errors
    /// PostgreSQL is not installed, or does not start.
    pub async fn start(durable: bool) -> Result<Self> {
        let bin =
            programs().ok_or_else(|| unusable("PostgreSQL", "it is not installed: apt-get install postgresql"))?;
        let dir = tempfile::Builder::new()
            .prefix("nemordp-pg.")
            .permissions(std::fs::Permissions::from_mode(0o755))
            .tempdir_in("/tmp")
            .map_err(io("a directory for PostgreSQL"))?;
        let mut server = Self { bin, durable, child: None, restarts: 0, dir };
        if runs_as_root() {
            chown_to_postgres(server.dir.path())?;
        }
        let data = server.data();
        let mut initdb = server.command("initdb", "TERM");
        initdb.arg("-D").arg(&data).args(["-U", "nemordp", "--auth=trust", "--encoding=UTF8", "--no-sync"]);
        let output = initdb.output().map_err(io("initdb"))?;
        if !output.status.success() {
            return Err(unusable("initdb", String::from_utf8_lossy(&output.stderr)));
        }
        server.start_if_gone().await?;
        let mut createdb = server.command("createdb", "TERM");
        createdb.arg("-h").arg(server.dir.path()).args(["-U", "nemordp", "nemordp"]);
        let output = createdb.output().map_err(io("createdb"))?;
        if !output.status.success() {
            return Err(unusable("createdb", String::from_utf8_lossy(&output.stderr)));
        }
        Ok(server)
    }

    /// Where its one database is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgres://nemordp@localhost/nemordp?host={}", self.dir.path().display())
    }

    /// Brings it down.
    pub fn stop(&mut self, ending: Ending) {
        let Some(mut child) = self.child.take() else { return };
        let signal = match ending {
            Ending::Fast => Signal::SIGINT,
            Ending::Immediate => Signal::SIGQUIT,
            Ending::Killed => Signal::SIGKILL,
        };
        if let Ok(id) = i32::try_from(child.id()) {
            // A server that ended by itself is as gone.
            let _ = kill(Pid::from_raw(id), signal);
        }
        drop(child.wait());
        self.restarts += 1;
    }

    /// Starts it unless it runs, and waits until it answers.
    ///
    /// # Errors
    /// It does not start.
    pub async fn start_if_gone(&mut self) -> Result<()> {
        if self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None))) {
            return Ok(());
        }
        // What a killed server left may still hold its memory for a moment: tried again until it starts.
        let end = std::time::Instant::now() + START_LIMIT;
        loop {
            self.spawn()?;
            if self.answers().await {
                return Ok(());
            }
            if std::time::Instant::now() >= end {
                return Err(unusable("PostgreSQL", "it does not start; see its log"));
            }
        }
    }

    fn spawn(&mut self) -> Result<()> {
        let log = self.dir.path().join("log");
        let file = std::fs::File::options().create(true).append(true).open(&log).map_err(io(log.display()))?;
        let again = file.try_clone().map_err(io(log.display()))?;
        let fsync = if self.durable { "fsync=on" } else { "fsync=off" };
        let (data, dir) = (self.data(), self.dir.path().to_owned());
        let mut command = self.command("postgres", "QUIT");
        command.arg("-D").arg(data).arg("-k").arg(dir);
        command.args(["-c", "listen_addresses=", "-c", "max_connections=200", "-c", fsync]);
        self.child = Some(command.stdin(Stdio::null()).stdout(file).stderr(again).spawn().map_err(io("postgres"))?);
        Ok(())
    }

    /// True when it answers, false when it ended.
    async fn answers(&mut self) -> bool {
        let mut child = self.child.take();
        let answered = until("PostgreSQL", START_LIMIT, || {
            let ended = child.as_mut().is_none_or(|child| !matches!(child.try_wait(), Ok(None)));
            let mut ready = self.command("pg_isready", "TERM");
            ready.args(["-q", "-U", "nemordp", "-h"]).arg(self.dir.path());
            let ready = ready.status().is_ok_and(|status| status.success());
            async move { Ok(if ended { Some(false) } else { ready.then_some(true) }) }
        });
        let answered = answered.await.unwrap_or(false);
        self.child = child;
        answered
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// PostgreSQL refuses to run as root; whoever starts it takes it along when dying.
    #[expect(clippy::disallowed_methods, reason = "the tests bring their own server")]
    fn command(&self, program: &str, death: &str) -> Command {
        let mut command = Command::new("setpriv");
        if runs_as_root() {
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        }
        command.args(["--pdeathsig", death, "--"]).arg(self.bin.join(program)).env("LC_ALL", "C").current_dir("/tmp");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop(Ending::Immediate);
    }
}

fn runs_as_root() -> bool {
    nix::unistd::geteuid().is_root()
}

fn chown_to_postgres(dir: &Path) -> Result<()> {
    let user = nix::unistd::User::from_name("postgres").ok().flatten();
    let user = user.ok_or_else(|| unusable("PostgreSQL", "there is no user postgres"))?;
    std::os::unix::fs::chown(dir, Some(user.uid.as_raw()), Some(user.gid.as_raw())).map_err(io(dir.display()))?;
    let owner = std::fs::metadata(dir).map_err(io(dir.display()))?.uid();
    if owner == user.uid.as_raw() { Ok(()) } else { Err(unusable(dir.display(), "its owner was not changed")) }
}
