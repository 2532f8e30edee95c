//! A private PostgreSQL for this test process: own folder, Unix socket only, gone with the process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

/// Ends the server when the pipe to the test process closes, however that ends. Each line that comes through the pipe
/// crashes it (an immediate shutdown, no checkpoint) and brings it up again.
const GUARD: &str = r#"
set -eu
dir=$(mktemp -d /tmp/nemordp-store-pg.XXXXXX)
trap 'rm -rf "$dir"' EXIT
"$BIN/initdb" -D "$dir/data" -U nemordp --auth=trust --encoding=UTF8 --no-sync >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
start() {
    "$BIN/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= -c fsync="$FSYNC" -c max_connections=400 >>"$dir/log" 2>&1 &
    server=$!
    for _ in $(seq 600); do
        "$BIN/pg_isready" -q -h "$dir" -U nemordp && return 0
        kill -0 $server || { cat "$dir/log" >&2; exit 1; }
        sleep 0.1
    done
}
start
trap 'kill -INT $server 2>/dev/null || true; wait $server || true; rm -rf "$dir"' EXIT
echo "$dir"
while read -r _; do
    kill -QUIT $server
    wait $server || true
    start
    echo up
done
"#;

pub(crate) struct Cluster {
    socket: PathBuf,
    guard: Child,
    answers: BufReader<ChildStdout>,
}

impl Cluster {
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://nemordp@localhost/{database}?host={}", self.socket.display())
    }

    /// Ends the server as if its machine had lost power, and waits until it has recovered.
    pub(crate) fn crash(&mut self) {
        self.guard.stdin.as_mut().expect("piped").write_all(b"crash\n").expect("the guard listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the guard answers");
        assert_eq!(answer.trim(), "up", "PostgreSQL did not come back, see above");
    }

    /// Makes an empty database.
    pub(crate) async fn create(&self, name: &str) -> String {
        let mut admin = sqlx::PgConnection::connect(&self.url("postgres")).await.expect("the server answers");
        let sql = format!("CREATE DATABASE {name}");
        admin.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.expect("a database is made");
        admin.close().await.expect("the connection closes");
        self.url(name)
    }
}

/// A server that nobody shares; none where PostgreSQL is not installed. `fsync` is what a measurement wants.
pub(crate) fn own_cluster(fsync: bool) -> Option<Cluster> {
    programs().map(|bin| start(&bin, fsync))
}

fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut bins: Vec<PathBuf> =
        versions.filter_map(|v| Some(v.ok()?.path().join("bin"))).filter(|b| b.join("initdb").exists()).collect();
    bins.sort();
    bins.pop()
}

#[expect(clippy::disallowed_methods, reason = "the test brings its own server")]
fn start(bin: &Path, fsync: bool) -> Cluster {
    // PostgreSQL refuses to run as root.
    let mut command = if nix::unistd::geteuid().is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh", "-c", GUARD]);
        command
    } else {
        let mut command = Command::new("sh");
        command.args(["-c", GUARD]);
        command
    };
    command.env("BIN", bin).env("FSYNC", if fsync { "on" } else { "off" }).env("LC_ALL", "C").current_dir("/tmp");
    let mut guard = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell starts");
    let mut answers = BufReader::new(guard.stdout.take().expect("piped"));
    let mut socket = String::new();
    answers.read_line(&mut socket).expect("the guard answers");
    assert!(!socket.trim().is_empty(), "PostgreSQL did not start, see above");
    Cluster { socket: PathBuf::from(socket.trim()), guard, answers }
}

/// The URL of a fresh database, or nothing where PostgreSQL is not installed.
pub(crate) async fn fresh_database() -> Option<String> {
    static CLUSTER: OnceLock<Option<Cluster>> = OnceLock::new();
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let cluster = tokio::task::spawn_blocking(|| CLUSTER.get_or_init(|| own_cluster(false))).await;
    let Some(cluster) = cluster.expect("the start does not panic") else {
        // Straight to the terminal: a skipped test must not hide in captured output.
        let _ = writeln!(std::io::stderr(), "skip: PostgreSQL is not installed (apt-get install postgresql)");
        return None;
    };
    Some(cluster.create(&format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed))).await)
}
