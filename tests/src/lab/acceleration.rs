//! Whether KVM works here, found by booting a kernel: `/dev/kvm`, its ioctls and libvirt's capabilities all claim
//! more on some machines than these can do.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nemordp_types::node::Acceleration;

use super::error::{During, LabError, Result};
use super::process::{self, poll, tool};
use super::{Lab, MARK};

/// A kernel that runs at all says so at once, even with nested virtualisation.
const FIRST_LINE: Duration = Duration::from_secs(5);
/// From there to the end of its own initialisation.
const WHOLE_BOOT: Duration = Duration::from_secs(20);

/// What a kernel prints when it has initialised all of itself and finds no root file system.
const BOOTED: [&str; 3] = ["Unable to mount root fs", "Cannot open root device", "No working init found"];

/// Where the kernel to boot lies.
#[derive(Debug, Clone)]
pub enum KernelSource {
    /// A kernel file.
    File(PathBuf),
    /// A disk image that boots by itself: its newest kernel is taken out.
    Image(PathBuf),
}

impl Lab {
    /// `Kvm` when this kernel boots under KVM to its end, else `Tcg`. Tried once for each boot of the machine, then
    /// remembered.
    pub fn acceleration(&self, source: &KernelSource) -> Result<Acceleration> {
        let known = self.read()?.kvm_works;
        let works = match known {
            Some(works) => works,
            None => {
                let works = Path::new("/dev/kvm").exists() && self.boots_under_kvm(source)?;
                let mut held = self.hold()?;
                held.state.kvm_works = Some(works);
                held.save()?;
                works
            }
        };
        Ok(if works { Acceleration::Kvm } else { Acceleration::Tcg })
    }

    fn boots_under_kvm(&self, source: &KernelSource) -> Result<bool> {
        match source {
            KernelSource::File(kernel) => boots(kernel, "kvm", "host", FIRST_LINE),
            KernelSource::Image(image) => {
                let folder =
                    tempfile::Builder::new().prefix("probe").tempdir_in(&self.dir).at("make a folder in", &self.dir)?;
                let kernel = folder.path().join("kernel");
                extract_kernel(image, &kernel)?;
                boots(&kernel, "kvm", "host", FIRST_LINE)
            }
        }
    }
}

/// Boots the kernel without disk or initrd, and reads its console.
fn boots(kernel: &Path, accelerator: &str, cpu: &str, first_line: Duration) -> Result<bool> {
    process::require_installed(&["qemu-system-x86_64", "setpriv"])?;
    fs::metadata(kernel).at("read kernel", kernel)?;
    let console = tempfile::NamedTempFile::new().during(|| "make a temporary file".to_owned())?;
    // It dies with the thread that waits for it, so it cannot outlive us.
    let mut command = tool("setpriv");
    command.args(["--pdeathsig", "KILL", "qemu-system-x86_64", "-accel", accelerator, "-cpu", cpu]);
    command.args(["-M", "q35", "-m", "256", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.arg("-serial").arg(format!("file:{}", console.path().display()));
    command.arg("-kernel").arg(kernel).args(["-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"]);
    command.env(MARK, "probe").stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut machine = command.spawn().during(|| "start qemu-system-x86_64".to_owned())?;
    let started = Instant::now();
    let verdict = poll(WHOLE_BOOT.max(first_line), || {
        let ended = machine.try_wait().during(|| "wait for QEMU".to_owned())?.is_some();
        let said = fs::read(console.path()).at("read", console.path())?;
        let said = String::from_utf8_lossy(&said);
        if BOOTED.iter().any(|line| said.contains(line)) {
            return Ok(Some(true));
        }
        let silent = started.elapsed() > first_line && !said.contains("Linux version");
        Ok((ended || silent).then_some(false))
    });
    // Both fail only when it has ended already.
    drop(machine.kill());
    drop(machine.wait());
    Ok(verdict?.unwrap_or(false))
}

/// The newest kernel that is installed on this machine.
#[must_use]
pub fn machine_kernel() -> Option<PathBuf> {
    let entries = fs::read_dir("/boot").ok()?.flatten().map(|entry| entry.path());
    let kernels =
        entries.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-")));
    kernels.max_by_key(|path| fs::metadata(path).and_then(|facts| facts.modified()).ok())
}

/// Copies the newest kernel out of a disk image (any format that QEMU reads; its root file system ext4, with or
/// without a partition table) to the file `to`.
pub fn extract_kernel(image: &Path, to: &Path) -> Result<()> {
    process::require_installed(&["qemu-img", "debugfs"])?;
    let folder = to.parent().unwrap_or(Path::new("/"));
    let work = tempfile::Builder::new().prefix("kernel").tempdir_in(folder).at("make a folder in", folder)?;
    let raw = work.path().join("disk");
    let mut convert = tool("qemu-img");
    convert.args(["convert", "-O", "raw"]).arg(image).arg(&raw);
    process::run(convert, Duration::from_mins(5))?.success()?;
    let refuse =
        |why: &str| LabError::Malformed { what: format!("disk image {}", image.display()), why: why.to_owned() };
    for offset in partitions(&raw)? {
        let device = format!("{}?offset={offset}", raw.display());
        let listing = debugfs(&device, "ls -p /boot")?;
        let Some(name) = newest_kernel(&listing) else { continue };
        debugfs(&device, &format!("dump /boot/{name} {}", to.display()))?;
        if fs::metadata(to).is_ok_and(|facts| facts.len() > 0) {
            return Ok(());
        }
    }
    Err(refuse("no ext4 file system with a /boot/vmlinuz-* in it"))
}

/// Its answer; empty where there is no ext4 file system, which debugfs calls an error.
fn debugfs(device: &str, request: &str) -> Result<String> {
    let mut command = tool("debugfs");
    command.args(["-R", request, device]);
    let answer = process::run(command, Duration::from_mins(1))?;
    Ok(if answer.status.success() { answer.text() } else { String::new() })
}

/// Lines are `/inode/mode/uid/gid/name/size/`; mode 10.... is a plain file.
fn newest_kernel(listing: &str) -> Option<String> {
    let files = listing.lines().map(|line| line.split('/').collect::<Vec<_>>());
    let files = files.filter(|fields| fields.get(2).is_some_and(|mode| mode.starts_with("10")));
    let names = files.filter_map(|fields| fields.get(5).map(|&name| name.to_owned()));
    names.filter(|name| name.starts_with("vmlinuz")).max()
}

/// Where file systems may begin, in bytes: the whole disk, then the partitions of an MBR or a GPT.
fn partitions(raw: &Path) -> Result<Vec<u64>> {
    const SECTOR: u64 = 512;
    let disk = fs::File::open(raw).at("open", raw)?;
    let mut mbr = [0_u8; 512];
    disk.read_exact_at(&mut mbr, 0).at("read", raw)?;
    let mut offsets = vec![0];
    if mbr[510..] != [0x55, 0xaa] {
        return Ok(offsets);
    }
    let entries: Vec<&[u8]> = mbr[446..510].chunks_exact(16).collect();
    if entries.iter().any(|entry| entry[4] == 0xee) {
        // 128 entries of 128 bytes from the third sector on, as every partitioning tool writes them.
        let mut table = vec![0_u8; 128 * 128];
        disk.read_exact_at(&mut table, 2 * SECTOR).at("read", raw)?;
        let used = table.chunks_exact(128).filter(|entry| entry[..16].iter().any(|&byte| byte != 0));
        offsets.extend(used.filter_map(|entry| Some(u64::from_le_bytes(entry[32..40].try_into().ok()?) * SECTOR)));
    } else {
        let used = entries.iter().filter(|entry| entry[4] != 0);
        offsets.extend(
            used.filter_map(|entry| Some(u64::from(u32::from_le_bytes(entry[8..12].try_into().ok()?)) * SECTOR)),
        );
    }
    Ok(offsets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_file_is_chosen_and_links_are_not() {
        let listing = "/2/040755/0/0/.//\n/12/100644/0/0/vmlinuz-6.1.0-9-amd64/8/\n/13/100644/0/0/vmlinuz-6.1.0-9-cloud-amd64/8/\n\
                       /14/120777/0/0/vmlinuz/24/\n/15/100644/0/0/config-6.1.0-9-amd64/8/\n";
        assert_eq!(newest_kernel(listing).as_deref(), Some("vmlinuz-6.1.0-9-cloud-amd64"));
        assert_eq!(newest_kernel(""), None);
    }

    #[test]
    fn a_kernel_is_taken_out_of_a_partitioned_disk() {
        if process::require_installed(&["qemu-img", "debugfs", "mke2fs"]).is_err() {
            println!("skipped: qemu-utils and e2fsprogs are not installed");
            return;
        }
        let work = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(work.path().join("root/boot")).expect("created");
        fs::write(work.path().join("root/boot/vmlinuz-6.1-test"), b"a kernel").expect("written");
        let disk = work.path().join("disk.raw");
        let start = 2048_u32;
        let file = fs::File::create(&disk).expect("created");
        file.set_len(16 << 20).expect("sized");
        let (root, offset) = (work.path().join("root"), format!("offset={}", u64::from(start) * 512));
        let arguments = ["-q", "-t", "ext4", "-E", &offset, "-d"];
        let mut make = tool("mke2fs");
        make.args(arguments).arg(&root).arg(&disk).arg("8M");
        process::run(make, Duration::from_secs(30)).and_then(process::Finished::success).expect("a file system");
        let mut entry = [0_u8; 16];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        file.write_all_at(&entry, 446).expect("written");
        file.write_all_at(&[0x55, 0xaa], 510).expect("written");
        let to = work.path().join("kernel");
        extract_kernel(&disk, &to).expect("found");
        assert_eq!(fs::read(&to).expect("read"), b"a kernel");
    }

    #[test]
    fn a_file_that_is_no_kernel_does_not_boot() {
        if process::require_installed(&["qemu-system-x86_64", "setpriv"]).is_err() {
            println!("skipped: qemu-system-x86 is not installed");
            return;
        }
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), b"no kernel").expect("written");
        assert!(!boots(file.path(), "tcg", "max", Duration::from_secs(2)).expect("tried"));
    }

    /// The same judgement under emulation, so that "no" above cannot come from a test that always says no.
    #[test]
    fn a_kernel_boots_under_emulation() {
        let Some(kernel) = std::env::var_os("NEMORDP_LAB_KERNEL").map(PathBuf::from).or_else(machine_kernel) else {
            println!("skipped: no kernel in /boot and none named by NEMORDP_LAB_KERNEL");
            return;
        };
        assert!(boots(&kernel, "tcg", "max", WHOLE_BOOT).expect("tried"));
    }
}
