//! The files that git knows of.

use std::path::{Path, PathBuf};
use std::process::Command;

/// A Rust file of ours, its path relative to the root.
pub(crate) struct Source {
    /// `agent/src/main.rs`
    pub(crate) path: String,
    /// What it says.
    pub(crate) text: String,
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Every file that git tracks, or would.
#[expect(clippy::disallowed_methods, reason = "asks git, in a test")]
fn tracked() -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "git ls-files failed: the rules are checked in a checkout");
    String::from_utf8(output.stdout).unwrap().lines().map(ToOwned::to_owned).collect()
}

/// Text of every file whose path ends so.
pub(crate) fn files_with(ending: &str) -> Vec<(String, String)> {
    let files = tracked().into_iter().filter(|path| path.ends_with(ending));
    files.filter_map(|path| std::fs::read_to_string(root().join(&path)).ok().map(|text| (path, text))).collect()
}

/// Every Rust file.
pub(crate) fn rust_sources() -> Vec<Source> {
    files_with(".rs").into_iter().map(|(path, text)| Source { path, text }).collect()
}
