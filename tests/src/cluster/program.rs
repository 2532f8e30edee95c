//! A program of the product as a process of its own.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Result, io};

/// A program that is started, killed and started again. Dropped, it is killed.
#[derive(Debug)]
pub struct Program {
    name: String,
    path: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    /// How often it was killed on purpose.
    pub kills: u64,
}

impl Program {
    /// One that does not run yet; what it says is appended to the log.
    #[must_use]
    pub fn new(name: &str, path: PathBuf, arguments: Vec<String>, log: &Path) -> Self {
        Self { name: name.to_owned(), path, arguments, log: log.to_owned(), child: None, kills: 0 }
    }

    /// Starts it unless it runs.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_if_gone(&mut self) -> Result<()> {
        if self.is_running() {
            return Ok(());
        }
        let log = File::options().create(true).append(true).open(&self.log).map_err(io(self.log.display()))?;
        let again = log.try_clone().map_err(io(self.log.display()))?;
        // setpriv becomes the program, and has the kernel kill it when this process dies, however that happens.
        #[expect(clippy::disallowed_methods, reason = "starts the product's own programs, as an operator does")]
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&self.path).args(&self.arguments);
        command.stdin(Stdio::null()).stdout(log).stderr(again);
        self.child = Some(command.spawn().map_err(io(format!("setpriv {}", self.name)))?);
        Ok(())
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// `kill -9`: no destructor, no goodbye.
    pub fn kill(&mut self) {
        if !self.is_running() {
            return;
        }
        if let Some(mut child) = self.child.take() {
            // It was running a moment ago; one that ended by itself meanwhile is as dead.
            drop(child.kill());
            let killed = child.wait().is_ok_and(|status| status.signal().is_some());
            self.kills += u64::from(killed);
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
