//! `lab.json`: what a lab made on this machine, written before it is made, so that any later process can remove it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::{During, LabError, Result};
use super::process::{ProcessRef, poll};

/// The kernel's name for the time since it was started.
const MACHINE_BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Everything that belongs to one lab.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    /// Six hexadecimal digits made from the directory's path; part of every name.
    pub(super) id: String,
    /// The boot of this machine in which the processes and links below were made.
    pub(super) machine_boot_id: String,
    /// The /24 between machine and hosts; the machine is `.1`.
    pub(super) subnet: Option<Ipv4Addr>,
    /// The machine's bridge, when it was made.
    pub(super) bridge: Option<String>,
    /// Hosts by number.
    pub(super) hosts: BTreeMap<u8, HostState>,
    /// Programs on the machine itself that belong to the lab.
    pub(super) programs: Vec<Program>,
    /// Whether a kernel booted under KVM in this boot of the machine; nothing before it was tried.
    pub(super) kvm_works: Option<bool>,
}

/// One simulated host.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HostState {
    /// Machine's end of the cable.
    pub(super) link: String,
    /// What libvirt calls the host's hardware id.
    pub(super) host_uuid: String,
    /// The running host; nothing while it is switched off.
    pub(super) running: Option<Running>,
}

/// The processes that hold a running host.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Running {
    /// `unshare`, in the machine's namespaces.
    pub(super) keeper: ProcessRef,
    /// PID 1 of the host, once it is there.
    pub(super) init: Option<ProcessRef>,
    /// Its pid namespace.
    pub(super) pid_namespace: u64,
    /// Its network namespace.
    pub(super) net_namespace: u64,
    /// Whether its cable is plugged in and was seen to work.
    pub(super) connected: bool,
}

/// A program that `down` has to end.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Program {
    /// What it is, for people.
    pub(super) name: String,
    /// Which process.
    pub(super) process: ProcessRef,
}

impl State {
    fn new(dir: &Path) -> Result<Self> {
        let digest = Sha256::digest(dir.as_os_str().as_encoded_bytes());
        Ok(Self {
            id: hex::encode(&digest[..3]),
            machine_boot_id: machine_boot_id()?,
            subnet: None,
            bridge: None,
            hosts: BTreeMap::new(),
            programs: Vec::new(),
            kvm_works: None,
        })
    }

    /// Reads it without the lock; it is replaced in one step, so never half of it.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("lab.json");
        let mut state: Self = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| LabError::Malformed { what: path.display().to_string(), why: error.to_string() })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::new(dir)?,
            Err(error) => return Err(error).at("read", &path),
        };
        state.forget_what_a_restart_ended()?;
        Ok(state)
    }

    /// Machine's address on the lab's network, once there is one.
    pub(super) fn machine_address(&self) -> Option<Ipv4Addr> {
        self.subnet.map(|subnet| with_last_octet(subnet, 1))
    }

    /// Address of a host on the lab's network, once there is one.
    pub(super) fn host_address(&self, number: u8) -> Option<Ipv4Addr> {
        self.subnet.map(|subnet| with_last_octet(subnet, 10 + number))
    }

    /// After a restart of the machine nothing of what was recorded runs any more.
    fn forget_what_a_restart_ended(&mut self) -> Result<()> {
        let boot = machine_boot_id()?;
        if boot != self.machine_boot_id {
            self.machine_boot_id = boot;
            self.bridge = None;
            self.programs.clear();
            self.kvm_works = None;
            for host in self.hosts.values_mut() {
                host.running = None;
            }
        }
        Ok(())
    }
}

fn with_last_octet(subnet: Ipv4Addr, last: u8) -> Ipv4Addr {
    let [a, b, c, _] = subnet.octets();
    Ipv4Addr::new(a, b, c, last)
}

fn machine_boot_id() -> Result<String> {
    let text = fs::read_to_string(MACHINE_BOOT_ID).during(|| format!("read {MACHINE_BOOT_ID}"))?;
    Ok(text.trim().to_owned())
}

/// The state under its lock: one process at a time changes a lab.
#[derive(Debug)]
pub(super) struct Held {
    /// Change it, then `save`.
    pub(super) state: State,
    dir: PathBuf,
    _lock: File,
}

impl Held {
    /// Waits for the lock and reads the state; a fresh one when there is none.
    pub(super) fn open(dir: &Path) -> Result<Self> {
        let lock = lock(dir)?;
        Ok(Self { state: State::read(dir)?, dir: dir.to_owned(), _lock: lock })
    }

    /// Writes the state durably, replacing the former in one step.
    pub(super) fn save(&self) -> Result<()> {
        let path = self.dir.join("lab.json");
        let new = self.dir.join("lab.json.new");
        let text = serde_json::to_vec_pretty(&self.state)
            .map_err(|error| LabError::Malformed { what: path.display().to_string(), why: error.to_string() })?;
        let mut file = File::create(&new).at("create", &new)?;
        file.write_all(&text).and_then(|()| file.sync_all()).at("write", &new)?;
        fs::rename(&new, &path).at("replace", &path)
    }

    /// Forgets everything: the files of the state are removed.
    pub(super) fn erase(self) -> Result<()> {
        for name in ["lab.json.new", "lab.json", "lab.lock"] {
            let path = self.dir.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).at("remove", &path),
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }
}

/// The lock's file may be removed by a `down` while we wait for it: then what we locked is not what others lock.
fn lock(dir: &Path) -> Result<File> {
    use std::os::unix::fs::MetadataExt;
    fs::create_dir_all(dir).at("create", dir)?;
    let path = dir.join("lab.lock");
    let limit = Duration::from_mins(2);
    let locked = poll(limit, || {
        let file = File::options().create(true).truncate(false).write(true).open(&path).at("open", &path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => return Ok(None),
            Err(fs::TryLockError::Error(error)) => return Err(error).at("lock", &path),
        }
        let ours = file.metadata().at("inspect", &path)?.ino();
        Ok(fs::metadata(&path).is_ok_and(|named| named.ino() == ours).then_some(file))
    })?;
    locked.ok_or_else(|| LabError::Deadline {
        what: format!("another process's work on {}", dir.display()),
        limit,
        context: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_survives_and_its_id_depends_on_the_directory() {
        let (a, b) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let mut held = Held::open(a.path()).expect("a new state");
        held.state.subnet = Some(Ipv4Addr::new(198, 18, 77, 0));
        held.save().expect("saved");
        let id = held.state.id.clone();
        drop(held);
        let again = Held::open(a.path()).expect("the same state");
        assert_eq!(again.state.host_address(2), Some(Ipv4Addr::new(198, 18, 77, 12)));
        assert_eq!(again.state.id, id);
        assert_ne!(Held::open(b.path()).expect("another state").state.id, id);
    }

    #[test]
    fn processes_of_an_earlier_boot_are_forgotten() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut held = Held::open(dir.path()).expect("a new state");
        held.state.machine_boot_id = "an earlier one".to_owned();
        held.state.bridge = Some("nl000000br".to_owned());
        held.save().expect("saved");
        drop(held);
        assert_eq!(Held::open(dir.path()).expect("the state").state.bridge, None);
    }
}
