//! Files of the PKI: written as a whole or not at all, keys for their owner only.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nemordp_types::Failure;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub(super) fn unusable(path: &Path, what: impl std::fmt::Display) -> Failure {
    Failure::field("data_dir", format!("{} {what}", path.display()))
}

/// Makes a folder that only its owner can enter.
pub(crate) fn private_folder(path: &Path) -> Result<(), Failure> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| unusable(path, format_args!("cannot be made: {error}")))
}

/// Writes beside the file and renames, so that a reader finds the old content or the new one.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> Result<(), Failure> {
    let beside = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            Err(_) | Ok(()) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(|error| unusable(path, format_args!("cannot be written: {error}")))
}

pub(super) fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, Failure> {
    CertificateDer::from_pem_file(path).map_err(|error| unusable(path, format_args!("holds no certificate: {error}")))
}

pub(super) fn read_key_pem(path: &Path) -> Result<String, Failure> {
    let mode = fs::metadata(path).map_err(|error| unusable(path, format_args!("cannot be read: {error}")))?.mode();
    if mode & 0o077 != 0 {
        return Err(unusable(path, "is open to others than its owner; use `chmod 600`"));
    }
    fs::read_to_string(path).map_err(|error| unusable(path, format_args!("cannot be read: {error}")))
}

pub(super) fn parse_key(path: &Path, pem: &str) -> Result<PrivateKeyDer<'static>, Failure> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| unusable(path, format_args!("holds no key: {error}")))
}
