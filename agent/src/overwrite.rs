//! Small files that are written over and over: the bytes of the one from before are used again.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

/// Writes a file anew in its place, readable for the agent alone; neither atomic nor durable.
pub(crate) fn overwrite(path: &Path, content: &[u8]) -> io::Result<()> {
    // Not cut to nothing first: its blocks need not be found again.
    let mut file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o600).open(path)?;
    file.write_all(content)?;
    let length = u64::try_from(content.len()).map_err(io::Error::other)?;
    if file.metadata()?.len() > length { file.set_len(length) } else { Ok(()) }
}

/// Lets two files change places at once; where the other is missing, or the file system cannot do that, the first takes its
/// place and leaves none (renameat2(2), `RENAME_EXCHANGE`).
///
/// No file is made anew then: ext4 looks for a free inode through all that were given up in the last seconds, which costs a
/// busy host more than the write.
pub(crate) fn swap(from: &Path, to: &Path) -> io::Result<()> {
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_EXCHANGE) {
        Ok(()) => Ok(()),
        Err(Errno::ENOENT | Errno::EINVAL | Errno::ENOSYS) => fs::rename(from, to),
        Err(error) => Err(error.into()),
    }
}
