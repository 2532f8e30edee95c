//! The form of a journal file: one line with version and checksum, then JSON.

use nemordp_types::{Failure, Reason};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

const MAGIC: &str = "nemordp-journal";
/// Raised when an older agent could misread a file.
const VERSION: u32 = 1;

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Failure> {
    let body = serde_json::to_vec(value).map_err(|error| Failure::internal(format!("journal: {error}")))?;
    let mut file = format!("{MAGIC} {VERSION} {}\n", hex::encode(Sha256::digest(&body))).into_bytes();
    file.extend_from_slice(&body);
    Ok(file)
}

pub(super) fn decode<T: DeserializeOwned>(name: &str, file: &[u8]) -> Result<T, Failure> {
    let split = file.iter().position(|b| *b == b'\n').ok_or_else(|| damaged(name, "its first line does not end"))?;
    let (head, body) = (&file[..split], &file[split + 1..]);
    let head = std::str::from_utf8(head).map_err(|_| damaged(name, "its first line is not text"))?;
    let mut words = head.split(' ');
    if words.next() != Some(MAGIC) {
        return Err(damaged(name, "it is not a journal file"));
    }
    let version: u32 =
        words.next().and_then(|w| w.parse().ok()).ok_or_else(|| damaged(name, "its version is not a number"))?;
    if version != VERSION {
        return Err(Failure::new(
            Reason::Internal,
            format!(
                "the journal file {name} has version {version}, this agent knows {VERSION}: install the agent that wrote it, or a newer one"
            ),
        ));
    }
    if words.next() != Some(hex::encode(Sha256::digest(body)).as_str()) {
        return Err(damaged(name, "its checksum does not fit"));
    }
    serde_json::from_slice(body).map_err(|error| damaged(name, &error.to_string()))
}

/// Says what an operator can do about a file that cannot be read.
pub(super) fn damaged(name: &str, what: &str) -> Failure {
    Failure::new(
        Reason::Internal,
        format!(
            "the journal file {name} in data_dir/journal is damaged ({what}): restore it from a backup, or cordon the node, make sure that no order's work on this instance is under way, and move the file away"
        ),
    )
}
