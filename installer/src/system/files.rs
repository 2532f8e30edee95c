//! Files of the build: folders that vanish, room, copies into the cache, digests.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nemordp_types::{Bytes, TemplateDigest};
use nix::sys::statvfs::statvfs;
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::error::InstallerError;

/// A folder that is removed with everything in it when it goes out of scope.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes the folder empty; what an ended build left there goes. The caller makes sure that nobody else uses it.
    pub fn make(path: PathBuf) -> Result<Self, InstallerError> {
        remove_tree(&path)?;
        fs::create_dir_all(&path).map_err(|error| InstallerError::io("make", &path, error))?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Removes it now, so that a failure to do so is seen.
    pub fn remove(self) -> Result<(), InstallerError> {
        remove_tree(&self.0)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // On the way out of a failure; the next build in the same place removes it again.
        drop(remove_tree(&self.0));
    }
}

/// Removes a folder or file; one that does not exist is removed already.
pub fn remove_tree(path: &Path) -> Result<(), InstallerError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(InstallerError::io("remove", path, error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Empties a folder, which stays.
pub fn clear_dir(path: &Path) -> Result<(), InstallerError> {
    for entry in list(path)? {
        remove_tree(&entry)?;
    }
    Ok(())
}

/// The entries of a folder in the order of their names; none when it does not exist.
pub fn list(path: &Path) -> Result<Vec<PathBuf>, InstallerError> {
    let failed = |error| InstallerError::io("list", path, error);
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut paths =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    paths.sort();
    Ok(paths)
}

/// Reads a text file.
pub fn read_text(path: &Path) -> Result<String, InstallerError> {
    fs::read_to_string(path).map_err(|error| InstallerError::io("read", path, error))
}

/// Writes a file with exactly this mode, and the folders above it.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), InstallerError> {
    let failed = |error| InstallerError::io("write", path, error);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(failed)?;
    }
    let mut file = File::create(path).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)
}

/// Sets the mode of a file or folder.
pub fn set_mode(path: &Path, mode: u32) -> Result<(), InstallerError> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| InstallerError::io("chmod", path, error))
}

/// Takes a finished file to its final name on the same filesystem: whole, or not at all.
pub fn publish(from: &Path, to: &Path) -> Result<(), InstallerError> {
    let synced = File::open(from).and_then(|file| file.sync_all());
    synced.map_err(|error| InstallerError::io("sync", from, error))?;
    fs::rename(from, to).map_err(|error| InstallerError::io("rename to", to, error))
}

/// Copies files into a folder, each whole or not at all; one that is there with the same length stays as it is.
pub fn keep_copies(files: &[PathBuf], folder: &Path, interrupt: &CancellationToken) -> Result<(), InstallerError> {
    fs::create_dir_all(folder).map_err(|error| InstallerError::io("make", folder, error))?;
    for file in files {
        if interrupt.is_cancelled() {
            return Err(InstallerError::Interrupted);
        }
        let Some(name) = file.file_name() else { continue };
        let target = folder.join(name);
        let length = |path: &Path| fs::metadata(path).map(|found| found.len()).ok();
        if length(&target) == length(file) {
            continue;
        }
        let part = folder.join(format!(".{}.part", name.to_string_lossy()));
        let copied = fs::copy(file, &part).and_then(|_| fs::rename(&part, &target));
        copied.map_err(|error| InstallerError::io("copy to", &target, error))?;
    }
    Ok(())
}

/// Room left at a path.
pub fn free_space(path: &Path) -> Result<Bytes, InstallerError> {
    let found = statvfs(path).map_err(|error| InstallerError::io("look for room in", path, error.into()))?;
    Ok(Bytes(found.blocks_available() * found.fragment_size()))
}

/// Bytes that the files of a tree occupy.
pub fn tree_size(path: &Path) -> Result<Bytes, InstallerError> {
    use std::os::unix::fs::MetadataExt as _;
    let mut total = Bytes(0);
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in list(&folder)? {
            let found = fs::symlink_metadata(&entry).map_err(|error| InstallerError::io("look at", &entry, error))?;
            total.0 += found.blocks() * 512;
            if found.is_dir() {
                folders.push(entry);
            }
        }
    }
    Ok(total)
}

/// SHA-256 and length of a file.
pub fn digest(path: &Path, interrupt: &CancellationToken) -> Result<(TemplateDigest, Bytes), InstallerError> {
    let failed = |error| InstallerError::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let (mut hash, mut length, mut buffer) = (Sha256::new(), 0u64, vec![0u8; 1 << 20]);
    loop {
        let read = file.read(&mut buffer).map_err(failed)?;
        if read == 0 {
            return Ok((TemplateDigest::from_bytes(hash.finalize().into()), Bytes(length)));
        }
        if interrupt.is_cancelled() {
            return Err(InstallerError::Interrupted);
        }
        hash.update(&buffer[..read]);
        length += read as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scratch_folder_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("scratch");
        fs::create_dir_all(path.join("stale")).unwrap();
        let scratch = Scratch::make(path.clone()).unwrap();
        assert!(list(scratch.path()).unwrap().is_empty());
        write(&path.join("a/b"), b"x", 0o600).unwrap();
        drop(scratch);
        assert!(!path.exists());
    }

    #[test]
    fn removing_a_link_spares_what_it_points_to() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("kept")).unwrap();
        fs::write(dir.path().join("kept/file"), "x").unwrap();
        std::os::unix::fs::symlink(dir.path().join("kept"), dir.path().join("link")).unwrap();
        remove_tree(&dir.path().join("link")).unwrap();
        assert!(dir.path().join("kept/file").exists());
    }

    #[test]
    fn the_digest_is_that_of_the_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "abc").unwrap();
        let (digest, length) = digest(&path, &CancellationToken::new()).unwrap();
        assert_eq!(digest.hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(length, Bytes(3));
    }
}
