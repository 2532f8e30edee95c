//! The programs of the product, and those of them that run.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Result, TrialError};
use crate::lab::{Lab, ProcessRef, ending};

/// Patience with a program that was asked to end.
const END_PATIENCE: Duration = Duration::from_secs(15);

/// Where the product's programs lie: beside this one.
#[derive(Debug, Clone)]
pub struct Binaries(PathBuf);

impl Binaries {
    /// Looks beside the running program, and one folder up for tests, which lie in `deps`.
    pub fn beside_this() -> Result<Self> {
        let this = std::env::current_exe()
            .map_err(|source| TrialError::File { path: PathBuf::from("/proc/self/exe"), source })?;
        let folders = this.ancestors().skip(1).take(2);
        folders
            .map(Path::to_path_buf)
            .find(|folder| folder.join("nemordp-control-plane").is_file())
            .map(Self)
            .ok_or_else(|| TrialError::Answer {
                what: "nemordp-control-plane".to_owned(),
                why: format!("it does not lie beside {}: run `cargo build --workspace --bins`", this.display()),
            })
    }

    /// In this folder.
    #[must_use]
    pub const fn at(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The path of one.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A call of one.
    #[expect(clippy::disallowed_methods, reason = "starts the product's own programs, as an operator does")]
    pub fn command(&self, name: &str) -> Command {
        Command::new(self.path(name))
    }
}

/// Runs a program to its end, its output passed through; an error names the call.
pub(super) fn run(command: &mut Command, what: &str, hint: &str) -> Result<()> {
    let status =
        command.status().map_err(|source| TrialError::File { path: PathBuf::from(command.get_program()), source })?;
    if status.success() {
        return Ok(());
    }
    Err(TrialError::Program { what: what.to_owned(), status: ending(status), hint: hint.to_owned() })
}

/// Runs a program to its end and returns what it printed.
pub(super) fn output(command: &mut Command, what: &str) -> Result<String> {
    let output =
        command.output().map_err(|source| TrialError::File { path: PathBuf::from(command.get_program()), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let hint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(TrialError::Program { what: what.to_owned(), status: ending(output.status), hint })
}

/// Who looks after the programs that go on after this one ends.
#[derive(Debug, Clone)]
pub enum Programs {
    /// The lab does.
    InLab(Lab),
    /// A file does.
    Own {
        /// The trial's directory.
        dir: PathBuf,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Running {
    name: String,
    process: ProcessRef,
}

impl Programs {
    /// Whether the program of this name runs.
    pub fn is_running(&self, name: &str) -> Result<bool> {
        match self {
            Self::InLab(lab) => Ok(lab.program(name)?.is_some()),
            Self::Own { dir } => Ok(read(dir).iter().any(|program| program.name == name && program.process.is_alive())),
        }
    }

    /// Starts a program that goes on after this one ends.
    pub fn start(&self, name: &str, command: &mut Command, log: &Path) -> Result<()> {
        let failed = |source| TrialError::File { path: log.to_owned(), source };
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        match self {
            Self::InLab(lab) => lab.spawn(name, command, log).map(drop).map_err(Into::into),
            Self::Own { dir } => {
                let file = File::options().create(true).append(true).open(log).map_err(failed)?;
                let again = file.try_clone().map_err(failed)?;
                command.stdin(std::process::Stdio::null()).stdout(file).stderr(again).process_group(0);
                let child = command.spawn().map_err(|source| TrialError::File { path: program_of(command), source })?;
                let process = i32::try_from(child.id()).ok().and_then(ProcessRef::of);
                let process = process.ok_or_else(|| TrialError::Program {
                    what: name.to_owned(),
                    status: "ended at once".to_owned(),
                    hint: format!("see {}", log.display()),
                })?;
                let mut running = read(dir);
                running.retain(|program| program.process.is_alive());
                running.push(Running { name: name.to_owned(), process });
                let text = serde_json::to_string_pretty(&running)
                    .map_err(|error| TrialError::Answer { what: "programs.json".to_owned(), why: error.to_string() })?;
                super::write(&dir.join("programs.json"), &text)
            }
        }
    }

    /// Ends one, as a service manager does.
    pub fn end(&self, name: &str) -> Result<()> {
        let process = match self {
            Self::InLab(lab) => lab.program(name)?,
            Self::Own { dir } => read(dir).into_iter().rfind(|program| program.name == name).map(|found| found.process),
        };
        match process {
            Some(process) if !process.end(END_PATIENCE) => {
                Err(TrialError::LeftBehind(format!("{name} ({})", process.pid)))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Ends all, in the opposite order of their start.
    pub fn end_all(&self) -> Result<()> {
        match self {
            Self::InLab(lab) => lab.down().map_err(Into::into),
            Self::Own { dir } => {
                for program in read(dir).iter().rev() {
                    if !program.process.end(END_PATIENCE) {
                        return Err(TrialError::LeftBehind(format!("{} ({})", program.name, program.process.pid)));
                    }
                }
                Ok(())
            }
        }
    }

    /// What still runs.
    pub fn left(&self) -> Result<Vec<String>> {
        match self {
            // Its own `down` has looked already, and ended with an error otherwise.
            Self::InLab(_) => Ok(Vec::new()),
            Self::Own { dir } => Ok(read(dir)
                .into_iter()
                .filter(|program| program.process.is_alive())
                .map(|program| program.name)
                .collect()),
        }
    }
}

fn program_of(command: &Command) -> PathBuf {
    PathBuf::from(AsRef::<OsStr>::as_ref(command.get_program()))
}

/// Those that were started, the newest of a name last.
fn read(dir: &Path) -> Vec<Running> {
    std::fs::read(dir.join("programs.json"))
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default()
}
