//! Golden files of this crate's tests: what was agreed on as text. `BLESS=1 cargo test` writes them anew.

use std::path::PathBuf;

/// Where a golden file lies.
pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Compares with the file, or writes it.
#[track_caller]
pub(crate) fn assert_golden(name: &str, text: &str) {
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path(name), text).unwrap();
    }
    let wanted = std::fs::read_to_string(path(name)).unwrap_or_default();
    assert_eq!(text, wanted, "{name} differs; BLESS=1 writes it anew");
}
