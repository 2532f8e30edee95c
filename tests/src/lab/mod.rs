//! The lab: simulated KVM hosts on one machine, on which the real agent runs.
//!
//! ```text
//!  machine's namespaces                      lab host N: mount, pid, net, uts, ipc namespaces
//!  control plane, storefront, RDP client     libvirtd, virtlogd, QEMU guests, nemordp-agent
//!        bridge nl<id>br 198.18.x.1  ── nl<id>hN ══ up0 198.18.x.(10+N)
//! ```
//!
//! Everything lies in one directory and is recorded in its `lab.json` before it is made, so that another process can
//! remove it after a crash. Outside the directory a lab makes links only: the machine's libvirt, firewall, sysctls,
//! `/etc/hosts` and `/dev/kvm` stay as they are.

mod acceleration;
mod error;
mod host;
mod layout;
mod network;
mod process;
mod screenshot;
mod session;
mod snapshot;
mod state;
mod turn;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub use acceleration::{KernelSource, extract_kernel, machine_kernel};
pub use error::{LabError, Result};
pub use host::{Host, HostNumber};
pub use network::UPLINK;
pub use process::{Facts, Finished, MARK, ProcessRef, ending, poll, poll_every};
pub use screenshot::{CertificateCheck, RdpTarget, Screenshot, rdp_screenshot};
pub use session::RdpSession;
pub use snapshot::{Difference, Snapshot};

use error::During;
use state::{Held, Program, State};
use turn::Turn;

/// What a lab needs on the machine.
const PROGRAMS: &[&str] = &[
    "ip",
    "nft",
    "nsenter",
    "unshare",
    "setsid",
    "setpriv",
    "tini",
    "bash",
    "libvirtd",
    "virtlogd",
    "virsh",
    "dnsmasq",
    "qemu-system-x86_64",
    "qemu-img",
];

/// A handle on the lab in a directory; cheap to clone, and several processes may hold one.
#[derive(Debug, Clone)]
pub struct Lab {
    dir: PathBuf,
}

impl Lab {
    /// Checks that root asks and that the directory can hold a lab; makes nothing but the directory.
    pub fn new(dir: impl AsRef<Path>) -> Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        Ok(Self { dir: layout::check_directory(dir.as_ref())? })
    }

    /// Why a lab cannot run here, in words for a skipped test; nothing when it can.
    #[must_use]
    pub fn unavailable() -> Option<String> {
        if !nix::unistd::geteuid().is_root() {
            return Some(LabError::NotRoot.to_string());
        }
        process::require_installed(PROGRAMS).err().map(|error| error.to_string())
    }

    /// Its directory, absolute.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The host of that number, running or not.
    #[must_use]
    pub fn host(&self, number: HostNumber) -> Host {
        Host::new(self, number)
    }

    /// The hosts that were made, running or not.
    pub fn hosts(&self) -> Result<Vec<Host>> {
        let numbers: Vec<u8> = self.read()?.hosts.keys().copied().collect();
        numbers.into_iter().map(|number| Ok(self.host(HostNumber::new(number)?))).collect()
    }

    /// Makes the machine's end of the lab's network, unless it is there, and gives its address: control plane and
    /// storefront listen there before the first host runs.
    pub fn machine_address(&self) -> Result<Ipv4Addr> {
        process::require_installed(PROGRAMS)?;
        Ok(ensure_bridge(&mut self.hold()?)?.1)
    }

    /// Starts a program on the machine itself that goes on after this process ends and is ended by `down`; its output
    /// is appended to `log`. The command is taken apart: program, arguments and environment count.
    pub fn spawn(&self, name: &str, command: &Command, log: &Path) -> Result<ProcessRef> {
        let mut marked = process::tool(command.get_program());
        marked.args(command.get_args()).env(MARK, &self.dir);
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                marked.env(name, value);
            }
        }
        marked.current_dir(command.get_current_dir().unwrap_or(Path::new("/")));
        let mut held = self.hold()?;
        let mut child = process::spawn_lasting(&marked, log)?;
        let started = i32::try_from(child.id()).ok().and_then(ProcessRef::of).filter(|process| process.is_alive());
        let Some(process) = started else {
            let status = child.wait().during(|| format!("wait for {name}"))?;
            let output = format!("see {}", log.display());
            return Err(LabError::Command { command: name.to_owned(), status: ending(status), output });
        };
        process::reap(child);
        held.state.programs.retain(|program| program.process.is_alive());
        held.state.programs.push(Program { name: name.to_owned(), process });
        held.save()?;
        Ok(process)
    }

    /// The program on the machine that was started under this name and still runs.
    pub fn program(&self, name: &str) -> Result<Option<ProcessRef>> {
        let state = self.read()?;
        let alive = state.programs.iter().rfind(|program| program.name == name && program.process.is_alive());
        Ok(alive.map(|program| program.process))
    }

    /// Removes everything that the lab made, then looks for what is left: an error names it. Other files in the
    /// directory stay; the directory goes if it is empty. Safe to repeat, also after a crash.
    pub fn down(&self) -> Result<()> {
        let mut held = self.hold()?;
        let programs = std::mem::take(&mut held.state.programs);
        for program in programs {
            if !program.process.end(Duration::from_secs(10)) {
                return Err(LabError::LeftBehind(vec![format!("{} ({})", program.name, program.process.pid)]));
            }
        }
        held.save()?;
        let numbers: Vec<u8> = held.state.hosts.keys().copied().collect();
        for number in numbers {
            self.host(HostNumber::new(number)?).remove(&mut held)?;
        }
        for facts in self.marked_processes() {
            if !facts.process.end(Duration::from_secs(2)) {
                return Err(LabError::LeftBehind(vec![format!("{} ({})", facts.name, facts.process.pid)]));
            }
        }
        if let Some(bridge) = &held.state.bridge {
            network::remove(bridge)?;
        }
        let left = self.left(&held.state);
        if !left.is_empty() {
            return Err(LabError::LeftBehind(left));
        }
        let hosts = self.dir.join("hosts");
        if hosts.exists() {
            fs::remove_dir_all(&hosts).at("remove", &hosts)?;
        }
        held.erase()?;
        // It stays when the caller keeps other files in it.
        drop(fs::remove_dir(&self.dir));
        Ok(())
    }

    /// One line for each thing of this lab that exists on the machine now.
    pub fn status(&self) -> Result<Vec<String>> {
        let state = self.read()?;
        let mut lines = Vec::new();
        if let (Some(bridge), Some(address)) = (&state.bridge, state.machine_address()) {
            lines.push(format!("network {bridge}, machine {address}"));
        }
        for host in self.hosts()? {
            let number = host.number().get();
            let what = if host.is_up()? { format!("up, {}", host.address()?) } else { "off".to_owned() };
            lines.push(format!("host {number} {}: {what}, {}", host.name(), host.libvirt_uri()));
        }
        for program in state.programs.iter().filter(|program| program.process.is_alive()) {
            lines.push(format!("program {}: pid {}", program.name, program.process.pid));
        }
        Ok(lines)
    }

    fn hold(&self) -> Result<Held> {
        Held::open(&self.dir)
    }

    fn read(&self) -> Result<State> {
        State::read(&self.dir)
    }

    /// Processes that carry this lab's mark, but for us and those who called us.
    fn marked_processes(&self) -> Vec<Facts> {
        let own_line = process::own_line();
        let mark = self.dir.to_string_lossy();
        let ours = |facts: &Facts| !facts.zombie && facts.variable(MARK).as_deref() == Some(&*mark);
        Facts::all().filter(|facts| !own_line.contains(&facts.process.pid)).filter(ours).collect()
    }

    fn left(&self, state: &State) -> Vec<String> {
        let processes = self.marked_processes().into_iter();
        let mut left: Vec<String> =
            processes.map(|facts| format!("process {} {}", facts.process.pid, facts.command_line())).collect();
        let prefix = format!("nl{}", state.id);
        let links = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
        let links = links.filter_map(|entry| entry.file_name().into_string().ok());
        left.extend(links.filter(|name| name.starts_with(&prefix)).map(|name| format!("link {name}")));
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let below = format!("{}/", self.dir.display());
        left.extend(mounts.lines().filter(|line| line.contains(&below)).map(|line| format!("mount {line}")));
        left
    }
}

/// The bridge and the machine's address on it. Recorded before it is made, under the machine-wide turn of choosing.
fn ensure_bridge(held: &mut Held) -> Result<(String, Ipv4Addr)> {
    let name = network::bridge_name(&held.state.id);
    if let (true, Some(_), Some(address)) = (network::exists(&name), &held.state.bridge, held.state.machine_address()) {
        if network::has_address(&name, address)? {
            return Ok((name, address));
        }
        // Whoever made it died half-way.
        network::remove(&name)?;
    }
    if network::exists(&name) {
        return Err(LabError::NotOurs(format!("network link {name}")));
    }
    let _turn = Turn::wait("subnet")?;
    held.state.subnet = Some(network::free_subnet()?);
    held.state.bridge = Some(name.clone());
    held.save()?;
    let address = held.state.machine_address().ok_or_else(|| LabError::NotOurs(name.clone()))?;
    network::make_bridge(&name, address)?;
    Ok((name, address))
}
