//! A folder with a system → a disk that a BIOS starts: one partition, ext4, boot loader in front.
//!
//! Nothing is mounted and no loop device is used: mke2fs fills the filesystem from a folder, the boot loader's two files
//! are written by hand where a BIOS and GRUB look for them. The same folder always gives the same bytes:
//!
//! - mke2fs takes files in the order in which a folder lists them, which differs from filesystem to filesystem. So the
//!   system is copied in the order of names into memory, whose listing order is known (the one of creation or its
//!   reverse, found by a trial).
//! - Modification times after the packages' time are set back to it by the copy; the other times of each inode, which no
//!   copy can set, are written by debugfs afterwards.

use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use crate::error::InstallerError;
use crate::system::files::{self, Scratch};
use crate::system::process::{self, Invocation};
use crate::template::recipe::{Boot, Disk};

const SECTOR: u64 = 512;
/// The partition begins at 1 MiB, as every partitioning tool has it; GRUB's core image lies before it.
const PARTITION_START: u64 = 1 << 20;
/// Code of the boot sector; disk signature and partition table follow.
const BOOT_CODE: usize = 440;

/// Makes the raw disk of the system in `root`, every time in it at `epoch`.
pub async fn make(
    disk: &Disk,
    boot: &Boot,
    root: &Path,
    raw: &Path,
    epoch: u64,
    staging: &Path,
    interrupt: &CancellationToken,
) -> Result<(), InstallerError> {
    let size = disk.size_gib.0 << 30;
    let file = File::create(raw).map_err(|error| InstallerError::io("create", raw, error))?;
    file.set_len(size).map_err(|error| InstallerError::io("size", raw, error))?;
    let (sector, core) = (read_boot(root, &boot.sector)?, read_boot(root, &boot.core)?);
    let start = boot_area(&sector, &core, disk, size)?;
    file.write_all_at(&start, 0).map_err(|error| InstallerError::io("write", raw, error))?;
    drop(file);
    let ordered = copy_in_order(root, staging, epoch, interrupt).await?;
    make_filesystem(disk, ordered.path(), raw, epoch, interrupt).await?;
    ordered.remove()?;
    set_times(raw, epoch, interrupt).await
}

/// Raw disk → qcow2. The same raw disk gives the same file.
pub async fn to_qcow2(raw: &Path, qcow2: &Path, interrupt: &CancellationToken) -> Result<(), InstallerError> {
    let call = Invocation::new("qemu-img")
        .args([
            "convert",
            "-f",
            "raw",
            "-O",
            "qcow2",
            "-m",
            "1",
            "-o",
            "cluster_size=65536,compat=1.1,lazy_refcounts=off",
        ])
        .arg(raw)
        .arg(qcow2);
    process::run(call, interrupt, |_| {}).await
}

fn read_boot(root: &Path, path: &str) -> Result<Vec<u8>, InstallerError> {
    let full = root.join(path);
    fs::read(&full).map_err(|error| InstallerError::io("boot: read", &full, error))
}

/// Boot sector with its partition table, and the core image behind it.
fn boot_area(sector: &[u8], core: &[u8], disk: &Disk, size: u64) -> Result<Vec<u8>, InstallerError> {
    let wrong = |field: &str, fix: &str| InstallerError::Recipe {
        file: "recipe.toml".to_owned(),
        field: format!("boot.{field}"),
        fix: fix.to_owned(),
    };
    let code = sector.get(..BOOT_CODE).ok_or_else(|| wrong("sector", "must have at least 440 bytes"))?;
    let room = usize::try_from(PARTITION_START - SECTOR).unwrap_or(0);
    if core.is_empty() || core.len() > room {
        return Err(wrong("core", "must fit between boot sector and partition, 1 MiB less 512 bytes"));
    }
    let sectors = u32::try_from((size - PARTITION_START) / SECTOR);
    let sectors =
        sectors.map_err(|_| InstallerError::Defect("a disk of this size needs another partition table".to_owned()))?;
    let first = u32::try_from(PARTITION_START / SECTOR).unwrap_or(0);
    let mut area = code.to_vec();
    area.extend(&disk.filesystem_uuid.as_bytes()[..4]);
    area.extend([0, 0]);
    // Active; addresses by cylinder are unused; Linux.
    area.extend([0x80, 0xfe, 0xff, 0xff, 0x83, 0xfe, 0xff, 0xff]);
    area.extend(first.to_le_bytes());
    area.extend(sectors.to_le_bytes());
    area.resize(510, 0);
    area.extend([0x55, 0xaa]);
    area.extend(core);
    Ok(area)
}

/// Copies the system so that each folder lists its entries by name, with no time after `epoch`.
async fn copy_in_order(
    root: &Path,
    staging: &Path,
    epoch: u64,
    interrupt: &CancellationToken,
) -> Result<Scratch, InstallerError> {
    let name = format!("nemordp-{}", files_tag(root));
    let copy = Scratch::make(staging.join(name))?;
    let (needed, free) = (files::tree_size(root)?, files::free_space(staging)?);
    if free.0 < needed.0 + needed.0 / 20 {
        return Err(InstallerError::no_room(staging, needed, free, "--staging"));
    }
    let descending = lists_youngest_first(copy.path())?;
    let mut list = Vec::new();
    entries(root, Path::new("."), descending, &mut list)?;
    // With --xattrs, capabilities of programs come along.
    let script = "set -o pipefail; tar -C \"$1\" --null --no-recursion -T - --numeric-owner --xattrs --xattrs-include='*' \
        --clamp-mtime --mtime=\"@$3\" -cf - | tar -C \"$2\" -xpf - --numeric-owner --xattrs --xattrs-include='*' --delay-directory-restore";
    let call = Invocation::new("bash")
        .args(["-c", script, "copy"])
        .arg(root)
        .arg(copy.path())
        .arg(epoch.to_string())
        .input(list);
    process::run(call, interrupt, |_| {}).await?;
    Ok(copy)
}

/// Tells builds in different folders apart.
fn files_tag(root: &Path) -> String {
    use sha2::{Digest as _, Sha256};
    hex::encode(&Sha256::digest(root.as_os_str().as_bytes())[..8])
}

/// Whether this filesystem lists the entry first that was made last.
fn lists_youngest_first(folder: &Path) -> Result<bool, InstallerError> {
    let failed = |error| InstallerError::io("list", folder, error);
    let trial: Vec<PathBuf> = ["1", "2", "3"].iter().map(|name| folder.join(name)).collect();
    for path in &trial {
        files::write(path, b"", 0o600)?;
    }
    let listed = fs::read_dir(folder).map_err(failed)?.map(|entry| entry.map(|entry| entry.path()));
    let listed = listed.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    files::clear_dir(folder)?;
    if listed == trial {
        return Ok(false);
    }
    if listed.iter().rev().eq(&trial) {
        return Ok(true);
    }
    Err(InstallerError::NoRoom {
        path: folder.to_owned(),
        detail: " in memory: this is no tmpfs, and its order of files is not known".to_owned(),
        option: "--staging",
    })
}

/// Every path, a folder before what is in it, ended by NUL.
fn entries(root: &Path, relative: &Path, descending: bool, into: &mut Vec<u8>) -> Result<(), InstallerError> {
    into.extend(relative.as_os_str().as_bytes());
    into.push(0);
    let mut children = files::list(&root.join(relative))?;
    if descending {
        children.reverse();
    }
    for child in children {
        let Some(name) = child.file_name() else { continue };
        let relative = relative.join(name);
        let found = fs::symlink_metadata(&child).map_err(|error| InstallerError::io("look at", &child, error))?;
        if found.is_dir() {
            entries(root, &relative, descending, into)?;
        } else {
            into.extend(relative.as_os_str().as_bytes());
            into.push(0);
        }
    }
    Ok(())
}

async fn make_filesystem(
    disk: &Disk,
    root: &Path,
    raw: &Path,
    epoch: u64,
    interrupt: &CancellationToken,
) -> Result<(), InstallerError> {
    let uuid = disk.filesystem_uuid;
    let extended = format!(
        "offset={PARTITION_START},hash_seed={uuid},lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0"
    );
    let kib = ((disk.size_gib.0 << 30) - PARTITION_START) >> 10;
    let call = Invocation::new("mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-L"])
        .arg(&disk.filesystem_label)
        .arg("-U")
        .arg(uuid.to_string())
        .args(["-E", &extended, "-i", &disk.bytes_per_inode.to_string(), "-d"])
        .arg(root)
        .arg(raw)
        .arg(format!("{kib}k"))
        .env("E2FSPROGS_FAKE_TIME", epoch.to_string())
        .env("SOURCE_DATE_EPOCH", epoch.to_string());
    process::run(call, interrupt, |_| {}).await
}

/// Sets the times of change and access of every inode, which mke2fs took from the copy.
async fn set_times(raw: &Path, epoch: u64, interrupt: &CancellationToken) -> Result<(), InstallerError> {
    let target = format!("{}?offset={PARTITION_START}", raw.display());
    let debugfs = || Invocation::new("debugfs").env("E2FSPROGS_FAKE_TIME", epoch.to_string());
    let stats = process::capture(debugfs().args(["-R", "show_super_stats -h", &target]), interrupt).await?;
    let number = |name: &str| -> Option<u64> {
        stats.lines().find_map(|line| line.strip_prefix(name)).and_then(|value| value.trim().parse().ok())
    };
    let (Some(all), Some(free)) = (number("Inode count:"), number("Free inodes:")) else {
        return Err(InstallerError::Defect(format!("debugfs does not tell the number of inodes:\n{stats}")));
    };
    // Inodes are handed out from the first one on, without gaps; the first ten are the filesystem's own.
    let mut commands = String::new();
    for inode in std::iter::once(2).chain(11..=all - free) {
        commands.push_str(&format!("sif <{inode}> atime @{epoch}\nsif <{inode}> ctime @{epoch}\n"));
    }
    // debugfs ends with success whatever happens to its commands, so its words are read.
    let mut complaint = None;
    let call = debugfs().args(["-w", "-f", "/dev/stdin", &target]).input(commands);
    process::run(call, interrupt, |line| {
        let expected = line.starts_with("debugfs:") || line.starts_with("debugfs 1.") || line.is_empty();
        if !expected && complaint.is_none() {
            complaint = Some(line.to_owned());
        }
    })
    .await?;
    complaint.map_or(Ok(()), |tail| {
        Err(InstallerError::Process { program: "debugfs".to_owned(), status: "a command failed".to_owned(), tail })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nemordp_types::GiB;

    fn disk() -> Disk {
        Disk {
            size_gib: GiB(2),
            filesystem_label: "root".to_owned(),
            filesystem_uuid: uuid::Uuid::from_u128(0x0102_0304 << 96),
            bytes_per_inode: 32768,
        }
    }

    #[test]
    fn the_boot_area_has_code_signature_one_partition_and_the_core_image() {
        let area = boot_area(&[7; 512], &[9; 1000], &disk(), 2 << 30).unwrap();
        assert_eq!(&area[..440], &[7; 440]);
        assert_eq!(&area[440..446], &[1, 2, 3, 4, 0, 0]);
        assert_eq!(area[446], 0x80);
        assert_eq!(u32::from_le_bytes(area[454..458].try_into().unwrap()), 2048);
        assert_eq!(u32::from_le_bytes(area[458..462].try_into().unwrap()), (2 << 21) - 2048);
        assert_eq!(&area[510..512], &[0x55, 0xaa]);
        assert_eq!(&area[512..], &[9; 1000]);
    }

    #[test]
    fn a_core_image_that_would_reach_into_the_partition_is_refused() {
        let error = boot_area(&[7; 512], &vec![9; 1 << 20], &disk(), 2 << 30).unwrap_err().to_string();
        assert!(error.contains("boot.core: must fit"), "{error}");
    }

    #[tokio::test]
    async fn the_order_in_which_files_were_made_does_not_show_in_the_disk() {
        let needed = ["mke2fs", "debugfs"].map(|program| crate::system::tool::Tool { program, package: "e2fsprogs" });
        if crate::system::tool::require(&needed, crate::system::tool::SEARCH_PATH).is_err() {
            println!("skipped: no e2fsprogs here");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let mut disks = Vec::new();
        for order in [["a", "b", "c"], ["c", "a", "b"]] {
            let root = dir.path().join(order[0]);
            for name in order {
                files::write(&root.join("folder").join(name), name.as_bytes(), 0o644).unwrap();
            }
            for name in ["boot.img", "core.img"] {
                files::write(&root.join(name), &[1; 512], 0o644).unwrap();
            }
            let boot = Boot { sector: "boot.img".to_owned(), core: "core.img".to_owned() };
            let raw = dir.path().join(format!("{}.raw", order[0]));
            make(&disk(), &boot, &root, &raw, 1_700_000_000, Path::new("/dev/shm"), &CancellationToken::new())
                .await
                .unwrap();
            disks.push(files::digest(&raw, &CancellationToken::new()).unwrap().0);
        }
        assert_eq!(disks[0], disks[1]);
    }
}
