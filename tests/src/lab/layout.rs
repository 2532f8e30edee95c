//! The directory of one lab host: its libvirt's configuration and disks, its `/run`, its names.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::{Group, User};

use super::error::{During, LabError, Result};

const LIBVIRTD_CONF: &str = "\
# No network listener; root alone uses the socket.
listen_tls = 0
listen_tcp = 0
auth_unix_rw = \"none\"
unix_sock_group = \"libvirt\"
unix_sock_rw_perms = \"0770\"
";

const QEMU_CONF: &str = "\
# The host has namespaces and no control groups of its own already.
namespaces = [ ]
cgroup_controllers = [ ]
# Profiles would be loaded into the machine's kernel.
security_driver = \"none\"
# Owners are remembered together with the kernel's boot, which outlives a restart of this host.
remember_owner = 0
";

/// Files of a host that lie below `root`.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(super) fn new(lab: &Path, host: u8) -> Self {
        Self { root: lab.join("hosts").join(host.to_string()) }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    pub(super) fn libvirt_socket(&self) -> PathBuf {
        self.path("run/libvirt/libvirt-sock")
    }

    /// Everything that a start needs; disks and domains of an earlier run stay, `/run` is empty as after a boot.
    pub(super) fn prepare(&self, host_uuid: &str, hosts_file: &str, boot_id: &str) -> Result<()> {
        for name in ["etc/qemu/networks/autostart", "etc/hooks", "log/qemu", "cache/qemu", "data", "machine-dev"] {
            self.folder(name, 0o755)?;
        }
        self.folder("lib", 0o711)?;
        for name in ["lib/images", "lib/boot", "lib/dnsmasq"] {
            self.folder(name, 0o711)?;
        }
        self.folder("lib/qemu", 0o750)?;
        for folder in [self.path("lib/qemu"), self.path("cache/qemu")] {
            give_to_qemu(&folder)?;
        }
        let run = self.path("run");
        if run.exists() {
            fs::remove_dir_all(&run).at("empty", &run)?;
        }
        self.folder("run", 0o755)?;
        copy_filters(&self.path("etc/nwfilter"))?;
        self.file("etc/libvirtd.conf", &format!("{LIBVIRTD_CONF}host_uuid = \"{host_uuid}\"\n"))?;
        self.file("etc/qemu.conf", QEMU_CONF)?;
        self.file("hosts", hosts_file)?;
        self.file("resolv.conf", "")?;
        self.file("boot_id", &format!("{boot_id}\n"))?;
        self.file("init.sh", include_str!("init.sh"))
    }

    fn folder(&self, name: &str, mode: u32) -> Result<()> {
        let path = self.path(name);
        fs::create_dir_all(&path).at("create", &path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).at("set the mode of", &path)
    }

    fn file(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path(name);
        fs::write(&path, text).at("write", &path)
    }
}

/// The filters that the package brings, as a fresh node has them.
fn copy_filters(to: &Path) -> Result<()> {
    let from = Path::new("/etc/libvirt/nwfilter");
    if to.exists() || !from.exists() {
        return Ok(());
    }
    fs::create_dir(to).at("create", to)?;
    for entry in fs::read_dir(from).at("read", from)?.flatten() {
        fs::copy(entry.path(), to.join(entry.file_name())).at("copy", &entry.path())?;
    }
    Ok(())
}

fn give_to_qemu(path: &Path) -> Result<()> {
    let user = User::from_name("libvirt-qemu").ok().flatten();
    let group = Group::from_name("libvirt-qemu").ok().flatten();
    let (Some(user), Some(group)) = (user, group) else {
        return Err(LabError::Missing(vec!["libvirt-daemon-system (its user libvirt-qemu)".to_owned()]));
    };
    chown(path, Some(user.uid.as_raw()), Some(group.gid.as_raw())).at("change the owner of", path)
}

/// The lab's own folder: absolute, short enough for the sockets in it, not where hosts mount over, and open to
/// QEMU's user.
pub(super) fn check_directory(dir: &Path) -> Result<PathBuf> {
    let refuse = |why: String| LabError::Directory { dir: dir.to_owned(), why };
    fs::create_dir_all(dir).at("create", dir)?;
    let dir = dir.canonicalize().at("resolve", dir)?;
    // A socket's path has at most 107 bytes; ours end in /hosts/240/run/libvirt/libvirt-admin-sock.
    const LONGEST: usize = 64;
    if dir.as_os_str().len() > LONGEST {
        return Err(refuse(format!("its path is longer than {LONGEST} bytes, too long for the sockets in it")));
    }
    let covered =
        ["/run", "/dev", "/proc", "/sys", "/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt"];
    if let Some(covered) = covered.iter().find(|covered| dir.starts_with(covered)) {
        return Err(refuse(format!("hosts have a {covered} of their own; choose a directory elsewhere")));
    }
    for parent in dir.ancestors().skip(1) {
        let mode = fs::metadata(parent).at("inspect", parent)?.permissions().mode();
        if mode & 0o001 == 0 {
            let parent = parent.display();
            return Err(refuse(format!(
                "QEMU's user may not pass {parent}; choose a directory elsewhere, or chmod o+x {parent}"
            )));
        }
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o711)).at("set the mode of", &dir)?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_cannot_serve_is_refused_with_the_fix() {
        let dir = tempfile::tempdir().expect("a folder");
        let closed = dir.path().join("closed");
        fs::create_dir(&closed).expect("created");
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).expect("closed");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("open");
        let error = check_directory(&closed.join("lab")).expect_err("closed to QEMU");
        assert!(error.to_string().contains("chmod o+x"), "{error}");
        let error = check_directory(&dir.path().join("a".repeat(64))).expect_err("too long");
        assert!(error.to_string().contains("too long for the sockets"), "{error}");
        assert!(check_directory(&dir.path().join("lab")).is_ok());
    }
}
