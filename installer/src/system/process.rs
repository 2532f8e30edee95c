//! Starts programs, keeps their words, ends them when asked to. The only place of the installer that does.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::error::InstallerError;
use crate::system::tool::SEARCH_PATH;

/// How many of a program's last lines an error shows.
const TAIL_LINES: usize = 20;
/// How long a program may take to clean up after it was asked to end.
const GRACE: Duration = Duration::from_secs(20);

/// One call of a program, with a small environment of its own.
#[derive(Debug, Clone)]
pub struct Invocation {
    program: &'static str,
    /// What errors call it.
    label: &'static str,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    input: Vec<u8>,
}

impl Invocation {
    /// A call without arguments.
    #[must_use]
    pub fn new(program: &'static str) -> Self {
        Self { program, label: program, arguments: Vec::new(), environment: Vec::new(), input: Vec::new() }
    }

    /// What errors call it, where the program only starts the one that matters.
    #[must_use]
    pub fn label(mut self, label: &'static str) -> Self {
        self.label = label;
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<T: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// What the program reads from its standard input.
    #[must_use]
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }
}

/// Runs a program to its end; every line that it says goes to `on_line`.
pub async fn run(
    invocation: Invocation,
    interrupt: &CancellationToken,
    mut on_line: impl FnMut(&str),
) -> Result<(), InstallerError> {
    let program = invocation.label;
    let defect = |error: std::io::Error| InstallerError::io("run", program.as_ref(), error);
    let (mut child, lines) = start(&invocation)?;
    let input = child.stdin.take();
    let feed = async {
        if let Some(mut stdin) = input {
            // A program that ends without reading says why itself.
            drop(stdin.write_all(&invocation.input).await);
        }
    };
    let mut tail: VecDeque<String> = VecDeque::new();
    let read = async {
        let mut lines = BufReader::new(lines);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).await? > 0 {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            on_line(&text);
            if tail.len() == TAIL_LINES {
                tail.pop_front();
            }
            tail.push_back(text);
            line.clear();
        }
        Ok::<(), std::io::Error>(())
    };
    let finished = async {
        let ((), read) = tokio::join!(feed, read);
        read
    };
    let mut finished = Box::pin(finished);
    tokio::select! {
        read = &mut finished => read.map_err(defect)?,
        () = interrupt.cancelled() => {
            // Read on until it ended: what a program says while it cleans up would else end it by SIGPIPE.
            tokio::select! {
                () = end(&mut child) => {}
                () = async { drop(finished.as_mut().await); std::future::pending().await } => {}
            }
            return Err(InstallerError::Interrupted);
        }
    }
    drop(finished);
    let status = child.wait().await.map_err(defect)?;
    if status.success() {
        return Ok(());
    }
    let tail = Vec::from(tail).join("\n");
    if tail.contains("No space left on device") {
        return Err(InstallerError::NoRoom { path: "/".into(), detail: format!(":\n{tail}\n"), option: "--out" });
    }
    Err(InstallerError::Process { program: program.to_owned(), status: status.to_string(), tail })
}

/// Runs a program and returns what it prints.
pub async fn capture(invocation: Invocation, interrupt: &CancellationToken) -> Result<String, InstallerError> {
    let mut text = String::new();
    run(invocation, interrupt, |line| {
        text.push_str(line);
        text.push('\n');
    })
    .await?;
    Ok(text)
}

/// Both outputs go through one pipe, so that their order stays.
fn start(invocation: &Invocation) -> Result<(Child, tokio::net::unix::pipe::Receiver), InstallerError> {
    let failed = |error| InstallerError::io("start", invocation.program.as_ref(), error);
    let (reader, writer) = std::io::pipe().map_err(failed)?;
    #[expect(clippy::disallowed_methods, reason = "the installer's one place for processes")]
    let mut command = Command::new(invocation.program);
    command
        .args(&invocation.arguments)
        .env_clear()
        .env("PATH", SEARCH_PATH)
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", "/root");
    for name in ["http_proxy", "https_proxy", "no_proxy", "TMPDIR"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.envs(invocation.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::piped()).stdout(writer.try_clone().map_err(failed)?).stderr(writer);
    // A group of its own: a terminal's Ctrl-C reaches only the installer, which then ends the whole group in order.
    command.process_group(0).kill_on_drop(true);
    let child = command.spawn().map_err(failed)?;
    // The command holds the pipe's writing end; the reader must see its end when the child is done.
    drop(command);
    let reader = tokio::net::unix::pipe::Receiver::from_owned_fd(reader.into()).map_err(failed)?;
    Ok((child, reader))
}

/// Asks the child's whole group to end, then insists.
async fn end(child: &mut Child) {
    let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) else { return };
    // The group may be gone already; then there is nothing to end.
    let _ = killpg(Pid::from_raw(id), Signal::SIGTERM);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        drop(child.wait().await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Invocation {
        Invocation::new("sh").arg("-c").arg(script)
    }

    #[tokio::test]
    async fn a_failure_shows_the_last_words_of_the_program() {
        let error = run(sh("echo one; echo two >&2; exit 3"), &CancellationToken::new(), |_| {}).await.unwrap_err();
        let text = error.to_string();
        assert!(text.contains("exit status: 3") && text.ends_with("one\ntwo"), "{text}");
    }

    #[tokio::test]
    async fn a_full_disk_is_told_apart() {
        let outcome = run(sh("echo 'x: No space left on device'; exit 1"), &CancellationToken::new(), |_| {}).await;
        assert!(matches!(outcome, Err(InstallerError::NoRoom { .. })));
    }

    #[tokio::test]
    async fn input_reaches_the_program_and_its_words_come_back() {
        let text = capture(Invocation::new("cat").input("a\nb\n"), &CancellationToken::new()).await.unwrap();
        assert_eq!(text, "a\nb\n");
    }

    #[tokio::test]
    async fn an_interrupt_lets_the_whole_group_clean_up() {
        let dir = tempfile::tempdir().unwrap();
        let mark = dir.path().join("cleaned");
        // The shell itself leaves the mark: a program that it started for that could be hit by the same signal.
        // It speaks before: an installer that no longer listens would end it there.
        let script = format!(
            "trap 'echo cleaning; : > {}; exit 1' TERM; echo ready; while :; do sleep 0.1; done",
            mark.display()
        );
        let interrupt = CancellationToken::new();
        let asked = std::time::Instant::now();
        let outcome = run(sh(&script), &interrupt, |_| interrupt.cancel()).await;
        assert!(matches!(outcome, Err(InstallerError::Interrupted)));
        assert!(mark.exists(), "killed after {:?} without a mark", asked.elapsed());
    }
}
