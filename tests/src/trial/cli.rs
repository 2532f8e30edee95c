//! The operator's command line, as the trial uses it.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use super::programs::{Binaries, output, run};
use super::{Result, TrialError};

/// Calls of `nemordp` against one control plane.
#[derive(Debug, Clone)]
pub struct Cli {
    binaries: Binaries,
    /// Address of the HTTP API.
    pub url: String,
    /// File with the API key.
    pub key_file: PathBuf,
}

impl Cli {
    /// With an address and a key.
    #[must_use]
    pub const fn new(binaries: Binaries, url: String, key_file: PathBuf) -> Self {
        Self { binaries, url, key_file }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.binaries.command("nemordp");
        command.arg("--url").arg(&self.url).arg("--key-file").arg(&self.key_file).args(arguments);
        command
    }

    /// The answer as JSON.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let what = format!("nemordp {}", arguments.join(" "));
        let text = output(self.command(arguments).args(["--output", "json"]), &what)?;
        serde_json::from_str(&text).map_err(|error| TrialError::Answer { what, why: error.to_string() })
    }

    /// Shown to who looks on.
    pub fn show(&self, arguments: &[&str]) -> Result<()> {
        run(&mut self.command(arguments), &format!("nemordp {}", arguments.join(" ")), "its message stands above")
    }
}

/// A text inside an answer.
pub(super) fn text(value: &Value, field: &str) -> Result<String> {
    value
        .get(field)
        .and_then(Value::as_str)
        .map(ToOwned::to_owned)
        .ok_or_else(|| TrialError::Answer { what: field.to_owned(), why: "it is missing in the answer".to_owned() })
}
