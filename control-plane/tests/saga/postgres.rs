//! A private PostgreSQL for this test process: own folder, Unix socket only, gone with the process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, OnceLock};

/// Makes a database for each line that it is given, and ends the server when the pipe closes, however the test ends.
const GUARD: &str = r#"
set -eu
dir=$(mktemp -d /tmp/nemordp-saga-pg.XXXXXX)
trap 'rm -rf "$dir"' EXIT
"$BIN/initdb" -D "$dir/data" -U nemordp --auth=trust --encoding=UTF8 --no-sync >"$dir/log" 2>&1 || { cat "$dir/log" >&2; exit 1; }
"$BIN/postgres" -D "$dir/data" -k "$dir" -c listen_addresses= -c fsync=off -c max_connections=600 >>"$dir/log" 2>&1 &
server=$!
trap 'kill -INT $server 2>/dev/null || true; wait $server || true; rm -rf "$dir"' EXIT
for _ in $(seq 600); do
    "$BIN/pg_isready" -q -h "$dir" -U nemordp && break
    kill -0 $server || { cat "$dir/log" >&2; exit 1; }
    sleep 0.1
done
while read -r name; do
    "$BIN/createdb" -h "$dir" -U nemordp "$name" && echo "postgres://nemordp@localhost/$name?host=$dir"
done
"#;

struct Cluster {
    _guard: Child,
    names: ChildStdin,
    urls: BufReader<ChildStdout>,
    made: u32,
}

fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    let mut bins: Vec<PathBuf> =
        versions.filter_map(|v| Some(v.ok()?.path().join("bin"))).filter(|b| b.join("initdb").exists()).collect();
    bins.sort();
    bins.pop()
}

#[expect(clippy::disallowed_methods, reason = "the test brings its own server")]
fn start(bin: &Path) -> Cluster {
    // PostgreSQL refuses to run as root.
    let mut command = if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh", "-c", GUARD]);
        command
    } else {
        let mut command = Command::new("sh");
        command.args(["-c", GUARD]);
        command
    };
    command.env("BIN", bin).env("LC_ALL", "C").current_dir("/tmp");
    let mut guard = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (names, urls) = (guard.stdin.take().unwrap(), BufReader::new(guard.stdout.take().unwrap()));
    Cluster { _guard: guard, names, urls, made: 0 }
}

fn cluster() -> Option<&'static Mutex<Cluster>> {
    static CLUSTER: OnceLock<Option<Mutex<Cluster>>> = OnceLock::new();
    CLUSTER.get_or_init(|| programs().map(|bin| Mutex::new(start(&bin)))).as_ref()
}

/// Whether PostgreSQL is installed; says so when it is not.
pub(crate) fn available() -> bool {
    let there = cluster().is_some();
    if !there {
        // Straight to the terminal: a skipped test must not hide in captured output.
        let _ = writeln!(std::io::stderr(), "skip: PostgreSQL is not installed (apt-get install postgresql)");
    }
    there
}

/// The URL of a fresh database.
pub(crate) fn fresh_database() -> String {
    let mut cluster = cluster().expect("asked before").lock().unwrap();
    cluster.made += 1;
    let name = format!("t{}", cluster.made);
    writeln!(cluster.names, "{name}").unwrap();
    let mut url = String::new();
    cluster.urls.read_line(&mut url).unwrap();
    assert!(!url.trim().is_empty(), "PostgreSQL did not start, see above");
    url.trim().to_owned()
}
