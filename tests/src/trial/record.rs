//! What the trial remembers between two calls.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Result, TrialError, write};

/// Ports that were chosen, the desktop that was delivered last.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Record {
    /// Chosen once, so that links stay good.
    pub ports: Vec<u16>,
    /// The last delivered instance.
    pub instance: Option<String>,
    /// How many orders were placed.
    pub orders: u32,
    #[serde(skip)]
    file: PathBuf,
}

impl Record {
    /// Reads it; an empty one when there is none.
    pub fn read(dir: &Path) -> Result<Self> {
        let file = dir.join("trial.json");
        let mut record = match std::fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| TrialError::Answer {
                what: file.display().to_string(),
                why: format!("{error}; remove the file"),
            })?,
            Err(_) => Self::default(),
        };
        record.file = file;
        Ok(record)
    }

    /// Writes it.
    pub fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(self)
            .map_err(|error| TrialError::Answer { what: self.file.display().to_string(), why: error.to_string() })?;
        write(&self.file, &text)
    }
}
