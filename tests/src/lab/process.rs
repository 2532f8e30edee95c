//! Processes: tools with a time limit, and references to processes that stay true when a pid is used again.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::error::{During, LabError, Result};

/// Environment variable that every process of a lab carries; its value is the lab's directory.
pub const MARK: &str = "NEMORDP_LAB";

const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const POLL: Duration = Duration::from_millis(10);

/// Asks again, after ever so short a pause, until there is an answer or the time is over.
pub fn poll<T>(limit: Duration, ask: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    poll_every(POLL, limit, ask)
}

/// `poll` with a pause of that length.
pub fn poll_every<T>(
    pause: Duration,
    limit: Duration,
    mut ask: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask()? {
            return Ok(Some(answer));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        std::thread::sleep(pause);
    }
}

/// A program with a known environment, nothing on its standard input, in the root directory.
pub(super) fn tool(program: impl AsRef<OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the lab is made of system tools; every one starts here")]
    let mut command = Command::new(program);
    command.env_clear().env("PATH", SEARCH_PATH).env("LC_ALL", "C.UTF-8").env("HOME", "/root");
    command.current_dir("/").stdin(Stdio::null());
    command
}

/// Whether a program of this name can be found.
pub(super) fn is_installed(program: &str) -> bool {
    SEARCH_PATH.split(':').any(|folder| Path::new(folder).join(program).exists())
}

/// Fails with the list of the programs that are not there.
pub(super) fn require_installed(programs: &[&str]) -> Result<()> {
    let missing: Vec<String> =
        programs.iter().filter(|name| !is_installed(name)).map(|&name| name.to_owned()).collect();
    if missing.is_empty() { Ok(()) } else { Err(LabError::Missing(missing)) }
}

/// What a finished program left.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
    command: String,
}

impl Finished {
    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Itself when the program succeeded.
    pub fn success(self) -> Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        let output = if self.stderr.trim().is_empty() { self.text() } else { self.stderr.clone() };
        Err(LabError::Command {
            command: self.command,
            status: self.status.to_string(),
            output: output.trim().chars().take(2_000).collect(),
        })
    }
}

/// Runs a program to its end, or kills it when the time is over. Output goes through files, so that a process
/// that the program leaves behind cannot hold us up.
pub(super) fn run(mut command: Command, limit: Duration) -> Result<Finished> {
    let name = describe(&command);
    let mut stdout = tempfile::tempfile().during(|| "make a temporary file".to_owned())?;
    let mut stderr = tempfile::tempfile().during(|| "make a temporary file".to_owned())?;
    command.stdout(duplicate(&stdout)?).stderr(duplicate(&stderr)?);
    let mut child = command.spawn().during(|| format!("start {name}"))?;
    let Some(status) = poll(limit, || child.try_wait().during(|| format!("wait for {name}")))? else {
        child.kill().during(|| format!("kill {name}"))?;
        child.wait().during(|| format!("wait for {name}"))?;
        let context = read_back(&mut stderr)?;
        let context = format!("; it said: {}", String::from_utf8_lossy(&context).trim());
        return Err(LabError::Deadline { what: name, limit, context });
    };
    let stderr = String::from_utf8_lossy(&read_back(&mut stderr)?).into_owned();
    Ok(Finished { status, stdout: read_back(&mut stdout)?, stderr, command: name })
}

/// `run` for a tool of which only success counts.
pub(super) fn run_tool(program: &str, arguments: &[&str]) -> Result<Finished> {
    let mut command = tool(program);
    command.args(arguments);
    run(command, Duration::from_secs(30))?.success()
}

/// Starts a program that is to go on after this process ends: own session, output appended to a file.
pub(super) fn spawn_lasting(program: &Command, log: &Path) -> Result<Child> {
    let mut command = tool("setsid");
    command.arg(program.get_program()).args(program.get_args());
    for (name, value) in program.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    if let Some(folder) = program.get_current_dir() {
        command.current_dir(folder);
    }
    let log_file = File::options().create(true).append(true).open(log).at("open", log)?;
    command.stdout(duplicate(&log_file)?).stderr(log_file);
    command.spawn().during(|| format!("start {}", describe(program)))
}

/// Takes the exit status of a child whenever it ends, so that no zombie stays while this process lives.
pub(super) fn reap(mut child: Child) {
    // A failed wait means that somebody else took the status: nothing is left to do.
    std::thread::spawn(move || drop(child.wait()));
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

fn duplicate(file: &File) -> Result<File> {
    file.try_clone().during(|| "duplicate a file handle".to_owned())
}

fn read_back(file: &mut File) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).during(|| "read a temporary file".to_owned())?;
    Ok(bytes)
}

/// One certain process: a pid alone may mean another one later, a pid with its start time never does
/// (as long as the machine is not started anew).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessRef {
    /// Process id as the machine sees it.
    pub pid: i32,
    /// Clock ticks from the machine's start to the process's.
    pub started_ticks: u64,
}

impl ProcessRef {
    /// The process that has this pid now.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Facts::of(pid).map(|facts| facts.process)
    }

    /// Whether it still runs; a zombie does not.
    #[must_use]
    pub fn is_alive(self) -> bool {
        Facts::of(self.pid).is_some_and(|facts| facts.process == self && !facts.zombie)
    }

    /// Sends a signal; false when the process is gone.
    pub fn signal(self, signal: Signal) -> bool {
        self.is_alive() && kill(Pid::from_raw(self.pid), signal).is_ok()
    }

    /// Waits for its end; false when it still runs after that time.
    #[must_use]
    pub fn wait_gone(self, limit: Duration) -> bool {
        matches!(poll(limit, || Ok((!self.is_alive()).then_some(()))), Ok(Some(())))
    }

    /// Ends it: first asks, then kills what has not gone after `patience`.
    #[must_use]
    pub fn end(self, patience: Duration) -> bool {
        self.signal(Signal::SIGTERM);
        self.wait_gone(patience) || {
            self.signal(Signal::SIGKILL);
            self.wait_gone(Duration::from_secs(5))
        }
    }

    /// Its first child.
    #[must_use]
    pub fn first_child(self) -> Option<Self> {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid)).ok()?;
        Self::of(children.split_whitespace().next()?.parse().ok()?)
    }
}

/// What `/proc` tells about a process.
#[derive(Debug, Clone)]
pub struct Facts {
    /// Which process.
    pub process: ProcessRef,
    /// Its parent's pid.
    pub parent: i32,
    /// The kernel's short name of it.
    pub name: String,
    /// Ended, but its parent has not taken notice.
    pub zombie: bool,
}

impl Facts {
    /// Reads them; nothing when there is no such process.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// All processes of this machine.
    pub fn all() -> impl Iterator<Item = Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| Self::of(entry.file_name().to_str()?.parse().ok()?))
    }

    /// The name may hold blanks and parentheses: it ends at the last closing one.
    fn parse(stat: &str) -> Option<Self> {
        let (front, back) = stat.rsplit_once(')')?;
        let (pid, name) = front.split_once(" (")?;
        let fields: Vec<&str> = back.split_whitespace().collect();
        Some(Self {
            process: ProcessRef { pid: pid.parse().ok()?, started_ticks: fields.get(19)?.parse().ok()? },
            parent: fields.get(1)?.parse().ok()?,
            name: name.to_owned(),
            zombie: matches!(*fields.first()?, "Z" | "X"),
        })
    }

    /// Arguments as one line; empty for kernel threads.
    #[must_use]
    pub fn command_line(&self) -> String {
        let bytes = fs::read(format!("/proc/{}/cmdline", self.process.pid)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned()
    }

    /// Value of a variable in the environment that it was started with.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<String> {
        let bytes = fs::read(format!("/proc/{}/environ", self.process.pid)).ok()?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.split('\0').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    }

    /// Number of its namespace of a kind (`pid`, `net`, `mnt`, ...).
    #[must_use]
    pub fn namespace(&self, kind: &str) -> Option<u64> {
        namespace(self.process.pid, kind)
    }
}

/// Number of a process's namespace.
pub(super) fn namespace(pid: i32, kind: &str) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
    link.to_str()?.split_once('[')?.1.strip_suffix(']')?.parse().ok()
}

/// This process and the ones that started it: never to be ended by a clean-up that they asked for.
pub(super) fn own_line() -> Vec<i32> {
    let mut line = vec![nix::unistd::getpid().as_raw()];
    while let Some(facts) = line.last().and_then(|&pid| Facts::of(pid)) {
        if facts.parent <= 1 {
            break;
        }
        line.push(facts.parent);
    }
    line
}

/// How a process ended, in words.
#[must_use]
pub fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_is_read_whole() {
        let line = "71 (odd ) name) S 1 71 71 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 1000 2";
        let facts = Facts::parse(line).expect("a stat line");
        assert_eq!((facts.name.as_str(), facts.parent, facts.zombie), ("odd ) name", 1, false));
        assert_eq!(facts.process, ProcessRef { pid: 71, started_ticks: 4242 });
    }

    #[test]
    fn another_process_under_the_same_pid_is_not_the_one() {
        let me = ProcessRef::of(nix::unistd::getpid().as_raw()).expect("this process");
        assert!(me.is_alive());
        let earlier = ProcessRef { started_ticks: me.started_ticks - 1, ..me };
        assert!(!earlier.is_alive());
        assert!(!earlier.signal(Signal::SIGKILL), "a recycled pid is never signalled");
    }

    #[test]
    fn a_program_that_does_not_end_is_killed_and_named() {
        let mut command = tool("sleep");
        command.arg("60");
        let error = run(command, Duration::from_millis(50)).expect_err("too slow");
        assert!(error.to_string().starts_with("sleep 60 took longer than 0.05 s"), "{error}");
    }

    #[test]
    fn a_failing_program_tells_what_it_said() {
        let error = run_tool("sh", &["-c", "echo no such thing >&2; exit 3"]).expect_err("it fails");
        assert!(error.to_string().contains("exit status: 3): no such thing"), "{error}");
    }
}
