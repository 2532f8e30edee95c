//! The few things that the journal does to a disk, one at a time, so that a test can end the world between any two.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Ending of a file that is not complete yet.
pub(super) const BESIDE: &str = ".beside";

/// A folder of small files.
pub trait Storage: Send + 'static {
    /// Names of all files.
    ///
    /// # Errors
    /// The folder cannot be read.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Content of one.
    ///
    /// # Errors
    /// It cannot be read.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;
    /// Writes a whole file and syncs its content.
    ///
    /// # Errors
    /// It cannot be written, or the disk is full.
    fn write_synced(&mut self, name: &str, content: &[u8]) -> io::Result<()>;
    /// Gives a file the place of another.
    ///
    /// # Errors
    /// It is not there.
    fn rename(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; nothing when it is gone.
    ///
    /// # Errors
    /// The folder cannot be written.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Makes renames and removals durable.
    ///
    /// # Errors
    /// The folder cannot be synced.
    fn sync_folder(&mut self) -> io::Result<()>;
}

/// A real folder.
#[derive(Debug)]
pub struct DiskStorage {
    folder: PathBuf,
    handle: File,
}

impl DiskStorage {
    /// Opens the folder, made when it is missing, readable for the agent alone.
    ///
    /// # Errors
    /// It cannot be made or opened.
    pub fn open(folder: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self { folder: folder.to_owned(), handle: File::open(folder)? })
    }
}

impl Storage for DiskStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            names.push(name.into_string().map_err(|name| io::Error::other(format!("strange file name {name:?}")))?);
        }
        names.sort_unstable();
        Ok(names)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.folder.join(name))
    }

    fn write_synced(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut file =
            OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(self.folder.join(name))?;
        file.write_all(content)?;
        file.sync_data()
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.folder.join(from), self.folder.join(to))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.folder.join(name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        }
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        self.handle.sync_all()
    }
}
