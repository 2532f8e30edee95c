//! The few things that the journal does to a disk, one at a time, so that a test can end the world between any two.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::overwrite::{overwrite, swap};

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
    /// Writes a whole file, over the bytes of the one that has this name.
    ///
    /// # Errors
    /// It cannot be written, or the disk is full.
    fn write(&mut self, name: &str, content: &[u8]) -> io::Result<()>;
    /// Makes the content of a file durable.
    ///
    /// # Errors
    /// It cannot be synced, or the disk is full.
    fn sync(&mut self, name: &str) -> io::Result<()>;
    /// Gives a file the place of another, which then may lie in the place of the first.
    ///
    /// # Errors
    /// It is not there.
    fn swap(&mut self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; nothing when it is gone.
    ///
    /// # Errors
    /// The folder cannot be written.
    fn remove(&mut self, name: &str) -> io::Result<()>;
    /// Makes swaps and removals durable.
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

    fn write(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        overwrite(&self.folder.join(name), content)
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        File::open(self.folder.join(name))?.sync_data()
    }

    fn swap(&mut self, from: &str, to: &str) -> io::Result<()> {
        swap(&self.folder.join(from), &self.folder.join(to))
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
