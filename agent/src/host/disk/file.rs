//! What is done to single files and directories of a pool.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nemordp_types::{Bytes, Failure, Reason, TemplateDigest};
use nix::libc;
use nix::unistd::{Gid, Uid, User};
use tokio::io::AsyncWriteExt;

use super::Room;

/// Who owns the disks of guests.
#[derive(Debug, Clone, Copy)]
pub struct Owner(Option<(Uid, Gid)>);

impl Owner {
    /// The account of that name; files stay as they are when none is named.
    pub fn find(name: Option<&str>) -> Result<Self, Failure> {
        let Some(name) = name else { return Ok(Self(None)) };
        let user = User::from_name(name).map_err(Failure::internal)?;
        let user = user.ok_or_else(|| {
            Failure::field("qemu_user", format!("this node has no user {name}; name the one that QEMU runs as"))
        })?;
        Ok(Self(Some((user.uid, user.gid))))
    }
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> Failure {
    let what = format!("{what} {}", path.display());
    Failure::new(Reason::HostFailure, "a file of the node cannot be used; the operator finds it in the log")
        .with_context(format!("{what}: {error}"))
}

/// Makes a directory that the hypervisor's user can pass but not read.
pub async fn ensure_directory(path: &Path) -> Result<(), Failure> {
    if tokio::fs::try_exists(path).await.unwrap_or(false) {
        return Ok(());
    }
    tokio::fs::create_dir_all(path).await.map_err(|error| failed("make", path, &error))?;
    let mode = std::fs::Permissions::from_mode(0o711);
    tokio::fs::set_permissions(path, mode).await.map_err(|error| failed("open", path, &error))
}

/// Removes half-made files of a run that was interrupted.
pub async fn remove_partial(directory: &Path) -> Result<(), Failure> {
    let mut entries = tokio::fs::read_dir(directory).await.map_err(|error| failed("list", directory, &error))?;
    while let Some(entry) = entries.next_entry().await.map_err(|error| failed("list", directory, &error))? {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let instance = name.split('.').next().is_some_and(|id| uuid::Uuid::parse_str(id).is_ok());
        if instance && name.ends_with(".part") {
            remove(&entry.path()).await?;
        }
    }
    Ok(())
}

/// Whether files there can be opened past the page cache; some file systems (tmpfs) refuse.
pub async fn bypasses_cache(directory: &Path) -> bool {
    let probe = directory.join(".direct.probe");
    let open = tokio::fs::OpenOptions::from({
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).custom_flags(libc::O_DIRECT);
        options
    });
    let works = open.open(&probe).await.is_ok();
    let _ = tokio::fs::remove_file(&probe).await;
    works
}

/// Whether something lies there.
pub async fn exists(path: &Path) -> bool {
    tokio::fs::try_exists(path).await.unwrap_or(false)
}

/// Removes a file; nothing when it is gone.
pub async fn remove(path: &Path) -> Result<(), Failure> {
    match tokio::fs::remove_file(path).await {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("remove", path, &error)),
    }
}

/// Writes a file anew.
pub async fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let mut file = tokio::fs::File::create(path).await.map_err(|error| failed("write", path, &error))?;
    file.write_all(bytes).await.map_err(|error| failed("write", path, &error))?;
    file.flush().await.map_err(|error| failed("write", path, &error))
}

/// Hands a half-made file to its owner, puts it on the disk for good, and gives it its name.
pub async fn finish(part: &Path, path: &Path, owner: &Owner) -> Result<(), Failure> {
    if let Some((uid, gid)) = owner.0 {
        std::os::unix::fs::chown(part, Some(uid.as_raw()), Some(gid.as_raw()))
            .map_err(|error| failed("hand over", part, &error))?;
    }
    let mode = std::fs::Permissions::from_mode(0o600);
    tokio::fs::set_permissions(part, mode).await.map_err(|error| failed("close", part, &error))?;
    let file = tokio::fs::File::open(part).await.map_err(|error| failed("open", part, &error))?;
    file.sync_all().await.map_err(|error| failed("sync", part, &error))?;
    tokio::fs::rename(part, path).await.map_err(|error| failed("rename", part, &error))?;
    let Some(directory) = path.parent() else { return Ok(()) };
    let directory_file = tokio::fs::File::open(directory).await.map_err(|error| failed("open", directory, &error))?;
    directory_file.sync_all().await.map_err(|error| failed("sync", directory, &error))
}

/// Makes a template readable by all and writable by nobody.
pub async fn make_read_only(path: &Path) -> Result<(), Failure> {
    let mode = std::fs::Permissions::from_mode(0o444);
    tokio::fs::set_permissions(path, mode).await.map_err(|error| failed("close", path, &error))
}

/// Whether it is a file that nobody may write.
pub async fn is_read_only(path: &Path) -> bool {
    tokio::fs::metadata(path).await.is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o222 == 0)
}

/// The names of the files in a directory; names that are not UTF-8 are nobody's of ours.
pub async fn names(directory: &Path) -> Result<Vec<String>, Failure> {
    let mut found = Vec::new();
    let mut entries = tokio::fs::read_dir(directory).await.map_err(|error| failed("list", directory, &error))?;
    while let Some(entry) = entries.next_entry().await.map_err(|error| failed("list", directory, &error))? {
        found.extend(entry.file_name().into_string().ok());
    }
    Ok(found)
}

/// Digests of the read-only files that are named by one.
pub async fn read_only_templates(directory: &Path) -> Result<Vec<TemplateDigest>, Failure> {
    let mut found = Vec::new();
    let mut entries = tokio::fs::read_dir(directory).await.map_err(|error| failed("list", directory, &error))?;
    while let Some(entry) = entries.next_entry().await.map_err(|error| failed("list", directory, &error))? {
        let name = entry.file_name();
        let digits = name.to_str().and_then(|name| name.strip_suffix(".qcow2"));
        let digest = digits.and_then(|digits| format!("sha256:{digits}").parse::<TemplateDigest>().ok());
        if let Some(digest) = digest
            && is_read_only(&entry.path()).await
        {
            found.push(digest);
        }
    }
    Ok(found)
}

/// Room on the file system that the directory lies on.
pub async fn room(directory: &Path) -> Result<Room, Failure> {
    let path = directory.to_owned();
    let found = tokio::task::spawn_blocking(move || nix::sys::statvfs::statvfs(&path)).await;
    let found = found.map_err(Failure::internal)?.map_err(|error| failed("measure", directory, &error.into()))?;
    let unit = found.fragment_size();
    Ok(Room {
        physical: Bytes(found.blocks().saturating_mul(unit)),
        free: Bytes(found.blocks_available().saturating_mul(unit)),
    })
}
