//! The product at work on this machine: everything that `make try` starts, shows and removes.
//!
//! One directory holds it all. The control plane runs on the machine itself, the node in a lab host of its own
//! namespaces; in the simulated mode both run as ordinary programs on loopback and need no rights.

mod cli;
mod configuration;
mod programs;
mod record;
mod report;
mod simulated;
mod stages;

use std::path::{Path, PathBuf};

pub use cli::Cli;
pub use configuration::{Addresses, Node};
pub use programs::{Binaries, Programs};
pub use record::Record;
pub use stages::Delivered;

use crate::lab::{HostNumber, Lab, LabError};
use report::Report;

/// What went wrong, with what to do.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The lab could not be made or removed.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// A file of ours.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A program of ours ended otherwise than it should.
    #[error("{what} failed ({status}); {hint}")]
    Program {
        /// Which call.
        what: String,
        /// How it ended.
        status: String,
        /// Where to look.
        hint: String,
    },
    /// Something did not come in time.
    #[error("waited {seconds} s for {what}; {hint}")]
    Deadline {
        /// For what.
        what: String,
        /// How long.
        seconds: u64,
        /// Where to look.
        hint: String,
    },
    /// An answer that cannot be understood.
    #[error("{what}: {why}")]
    Answer {
        /// Of what.
        what: String,
        /// Why not.
        why: String,
    },
    /// Something is left after the end.
    #[error("left behind: {0}")]
    LeftBehind(String),
}

/// Result of a step of the trial.
pub type Result<T> = std::result::Result<T, TrialError>;

/// What guests run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// libvirtd and QEMU in a lab host.
    Real,
    /// `host::sim`, on loopback, without rights.
    Simulated,
}

/// The trial in a directory.
#[derive(Debug)]
pub struct Trial {
    dir: PathBuf,
    mode: Mode,
    binaries: Binaries,
    programs: Programs,
    report: Report,
}

impl Trial {
    /// Finds the programs beside this one; makes nothing but the directory.
    pub fn new(dir: &Path, mode: Mode) -> Result<Self> {
        std::fs::create_dir_all(dir).map_err(|source| TrialError::File { path: dir.to_owned(), source })?;
        let dir = dir.canonicalize().map_err(|source| TrialError::File { path: dir.to_owned(), source })?;
        refuse_other_mode(&dir, mode)?;
        let programs = match mode {
            Mode::Real => Programs::InLab(Lab::new(dir.join("lab"))?),
            Mode::Simulated => Programs::Own { dir: dir.clone() },
        };
        Ok(Self { binaries: Binaries::beside_this()?, report: Report::new(mode), dir, mode, programs })
    }

    /// Starts what does not run, delivers one desktop, and says how to look around.
    pub fn up(&self) -> Result<Delivered> {
        let mut record = Record::read(&self.dir)?;
        let addresses = self.addresses(&mut record)?;
        let template = self.template()?;
        let node = self.node(&addresses, &template)?;
        let cli = self.control_plane(&addresses, &node)?;
        self.catalogue(&cli, &template)?;
        self.enroll(&cli, &addresses, &node)?;
        self.wait_for_template(&cli, &template)?;
        self.remove_earlier(&cli, &mut record)?;
        let delivered = self.deliver(&cli, &template, &mut record)?;
        self.say_how_to_look_around(&addresses, &cli, &delivered);
        Ok(delivered)
    }

    /// Ends and removes everything of this trial but built templates and downloaded packages, and says what is left.
    pub fn down(&self) -> Result<()> {
        self.programs.end_all()?;
        for name in ["control-plane", "agent", "logs", "out", "programs.json", "trial.json", "api-key", "sim-template"]
        {
            remove(&self.dir.join(name))?;
        }
        let left = self.programs.left()?;
        if !left.is_empty() {
            return Err(TrialError::LeftBehind(left.join(", ")));
        }
        self.report.line("left behind: nothing");
        if self.dir.join("templates").exists() {
            self.report.line(&format!("kept for the next time: template and packages in {}", self.dir.display()));
        }
        // It stays when the template is kept.
        drop(std::fs::remove_dir(&self.dir));
        Ok(())
    }

    fn lab_host(&self) -> Option<crate::lab::Host> {
        match &self.programs {
            Programs::InLab(lab) => Some(lab.host(HostNumber::FIRST)),
            Programs::Own { .. } => None,
        }
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }
}

/// What one mode started the other cannot end.
fn refuse_other_mode(dir: &Path, mode: Mode) -> Result<()> {
    let (sign, fix) = match mode {
        Mode::Real => ("programs.json", "it was made with --sim: say --sim here too, or name another directory"),
        Mode::Simulated => ("lab", "it was made without --sim: leave it out, or name another directory"),
    };
    if dir.join(sign).exists() {
        return Err(TrialError::Answer { what: dir.display().to_string(), why: fix.to_owned() });
    }
    Ok(())
}

/// Removes a file or a folder, if it is there.
fn remove(path: &Path) -> Result<()> {
    let outcome = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match outcome {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(TrialError::File { path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes a file and the folders above it.
fn write(path: &Path, text: &str) -> Result<()> {
    let failed = |source| TrialError::File { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    std::fs::write(path, text).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_the_other_mode_is_refused_with_the_fix() {
        for (sign, mode, fix) in [("programs.json", Mode::Real, "say --sim"), ("lab", Mode::Simulated, "without --sim")]
        {
            let folder = tempfile::tempdir().unwrap();
            refuse_other_mode(folder.path(), mode).unwrap();
            std::fs::write(folder.path().join(sign), "").unwrap();
            let error = refuse_other_mode(folder.path(), mode).unwrap_err().to_string();
            assert!(error.contains(fix), "{error}");
        }
    }
}
