//! One simulated KVM host: namespaces, a file system view and a libvirt of its own, in which the real agent runs.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::error::{During, LabError, Result};
use super::layout::Layout;
use super::process::{self, Facts, Finished, ProcessRef, poll, tool};
use super::state::{Held, HostState, Running};
use super::{Lab, network};

const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Number of a host in its lab, 1 to 200.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostNumber(u8);

impl HostNumber {
    /// The first host.
    pub const FIRST: Self = Self(1);

    /// Checks the range.
    pub fn new(number: u8) -> Result<Self> {
        if (1..=200).contains(&number) {
            return Ok(Self(number));
        }
        Err(LabError::Malformed { what: format!("host number {number}"), why: "use 1 to 200".to_owned() })
    }

    /// The number itself.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// A handle on a host, running or not.
#[derive(Debug, Clone)]
pub struct Host {
    lab: Lab,
    number: HostNumber,
    layout: Layout,
}

impl Host {
    pub(super) fn new(lab: &Lab, number: HostNumber) -> Self {
        Self { lab: lab.clone(), number, layout: Layout::new(lab.dir(), number.get()) }
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> HostNumber {
        self.number
    }

    /// What it calls itself.
    #[must_use]
    pub fn name(&self) -> String {
        format!("lab-node{}", self.number.get())
    }

    /// Its address on the lab's network.
    pub fn address(&self) -> Result<Ipv4Addr> {
        self.lab.read()?.host_address(self.number.get()).ok_or(LabError::HostDown(self.number.get()))
    }

    /// Where the machine reaches its libvirt.
    #[must_use]
    pub fn libvirt_uri(&self) -> String {
        format!("qemu+unix:///system?socket={}", self.layout.libvirt_socket().display())
    }

    /// Its directory; the same path inside and outside.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.layout.root()
    }

    /// A folder for what runs in the host (the agent's configuration, journal, disks): it stays over restarts of the
    /// host and goes with `down`.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.layout.path("data")
    }

    /// Whether it runs.
    pub fn is_up(&self) -> Result<bool> {
        Ok(self.running()?.is_some())
    }

    /// Starts it unless it runs already, and waits until its libvirt answers.
    pub fn up(&self) -> Result<()> {
        process::require_installed(super::PROGRAMS)?;
        let mut held = self.lab.hold()?;
        if live(held.state.hosts.get(&self.number.get())).is_some() {
            drop(held);
            return self.wait_for_libvirt();
        }
        let (bridge, machine) = super::ensure_bridge(&mut held)?;
        let address = held.state.host_address(self.number.get()).ok_or(LabError::HostDown(self.number.get()))?;
        self.clear(&mut held)?;
        let running = self.start(&mut held, machine, address)?;
        let init = running.init.ok_or(LabError::HostDown(self.number.get()))?;
        let link = network::link_name(&held.state.id, self.number.get());
        let connected = network::connect(&link, &bridge, init.pid, address, machine)
            .and_then(|()| network::check(&bridge, init.pid, machine));
        if let Err(error) = connected {
            self.clear(&mut held)?;
            return Err(error);
        }
        self.record(&mut held, Running { connected: true, ..running })?;
        drop(held);
        self.wait_for_libvirt()
    }

    /// Cuts its power: everything in it dies at once, its disks and configuration stay for the next `up`.
    pub fn power_off(&self) -> Result<()> {
        let mut held = self.lab.hold()?;
        self.clear(&mut held)
    }

    /// Power off and on again, with another boot id and an empty `/run`. What ran in it has to be started anew.
    pub fn reboot(&self) -> Result<()> {
        self.power_off()?;
        self.up()
    }

    /// Removes it with its disks, and checks that nothing of it is left.
    pub fn down(&self) -> Result<()> {
        let mut held = self.lab.hold()?;
        self.remove(&mut held)
    }

    pub(super) fn remove(&self, held: &mut Held) -> Result<()> {
        self.clear(held)?;
        if self.dir().exists() {
            fs::remove_dir_all(self.dir()).at("remove", self.dir())?;
        }
        held.state.hosts.remove(&self.number.get());
        held.save()
    }

    /// A program prepared to run inside the host; arguments and environment may be added.
    pub fn command(&self, program: &str) -> Result<Command> {
        let running = self.running()?.ok_or(LabError::HostDown(self.number.get()))?;
        let init = running.init.ok_or(LabError::HostDown(self.number.get()))?;
        let mut command = tool("nsenter");
        command.env(process::MARK, self.lab.dir());
        command.args(["--target", &init.pid.to_string(), "--mount", "--uts", "--ipc", "--net", "--pid", "--", program]);
        Ok(command)
    }

    /// Runs a program inside the host to its end, whatever its exit status; one minute at most.
    pub fn exec<S: AsRef<str>>(&self, arguments: &[S]) -> Result<Finished> {
        self.exec_within(Duration::from_mins(1), arguments)
    }

    /// Like `exec`, with a time limit.
    pub fn exec_within<S: AsRef<str>>(&self, limit: Duration, arguments: &[S]) -> Result<Finished> {
        let Some((program, arguments)) = arguments.split_first() else {
            return Err(LabError::Malformed { what: "the command".to_owned(), why: "it is empty".to_owned() });
        };
        let mut command = self.command(program.as_ref())?;
        command.args(arguments.iter().map(AsRef::as_ref));
        process::run(command, limit)
    }

    /// Starts a program inside the host that goes on after this process ends; its output is appended to `log`.
    pub fn spawn(&self, program: &Path, arguments: &[&str], log: &Path) -> Result<ProcessRef> {
        let mut command = self.command(&program.display().to_string())?;
        command.args(arguments);
        self.spawn_command(&command, log)
    }

    /// Like `spawn`, for a command made by `command`.
    pub fn spawn_command(&self, command: &Command, log: &Path) -> Result<ProcessRef> {
        let mut child = process::spawn_lasting(command, log)?;
        let entering = i32::try_from(child.id()).ok().and_then(ProcessRef::of);
        // The child enters the namespaces and forks there; the one that matters is the fork.
        let inside = poll(START_LIMIT, || match entering.and_then(ProcessRef::first_child) {
            Some(inside) => Ok(Some(Ok(inside))),
            None => Ok(child.try_wait().during(|| "wait for nsenter".to_owned())?.map(Err)),
        })?;
        match inside {
            Some(Ok(inside)) => {
                process::reap(child);
                Ok(inside)
            }
            Some(Err(status)) => Err(LabError::Command {
                command: format!("{command:?}"),
                status: process::ending(status),
                output: tail(log),
            }),
            None => Err(deadline("a program's start in a lab host", START_LIMIT, log)),
        }
    }

    /// Every process inside the host.
    pub fn processes(&self) -> Result<Vec<Facts>> {
        let running = self.running()?.ok_or(LabError::HostDown(self.number.get()))?;
        Ok(inside(running))
    }

    /// Kills the host's libvirtd and waits for the next one to answer; guests go on.
    pub fn kill_libvirtd(&self) -> Result<()> {
        let daemon = self.libvirtd()?.ok_or(LabError::HostDown(self.number.get()))?;
        daemon.signal(Signal::SIGKILL);
        let next = poll(START_LIMIT, || Ok(self.libvirtd()?.filter(|&next| next != daemon)))?;
        if next.is_none() {
            return Err(deadline("the next libvirtd", START_LIMIT, &self.layout.path("init.log")));
        }
        self.wait_for_libvirt()
    }

    /// The process of its libvirtd.
    pub fn libvirtd(&self) -> Result<Option<ProcessRef>> {
        // A dnsmasq's parent is a fork of libvirtd with the same name for an instant: the daemon is the eldest.
        let mut daemons: Vec<_> = self.processes()?.into_iter().filter(|facts| facts.name == "libvirtd").collect();
        daemons.sort_by_key(|facts| facts.process.started_ticks);
        Ok(daemons.first().map(|facts| facts.process))
    }

    fn running(&self) -> Result<Option<Running>> {
        Ok(live(self.lab.read()?.hosts.get(&self.number.get())))
    }

    fn start(&self, held: &mut Held, machine: Ipv4Addr, address: Ipv4Addr) -> Result<Running> {
        let number = self.number.get();
        let link = network::link_name(&held.state.id, number);
        let host_uuid = match held.state.hosts.get(&number) {
            Some(host) => host.host_uuid.clone(),
            None => fresh_uuid()?,
        };
        let name = self.name();
        let hosts = format!("127.0.0.1 localhost\n::1 localhost\n{address} {name}\n{machine} nemordp-control\n");
        self.layout.prepare(&host_uuid, &hosts, &fresh_uuid()?)?;
        // Written before the process exists: if we die in between, the mark in its environment still finds it.
        held.state.hosts.insert(number, HostState { link, host_uuid, running: None });
        held.save()?;
        let log = self.layout.path("init.log");
        let child = process::spawn_lasting(&self.init_command(&name), &log)?;
        let keeper = i32::try_from(child.id()).ok().and_then(ProcessRef::of);
        process::reap(child);
        let keeper = keeper.ok_or_else(|| deadline("a lab host's start", Duration::ZERO, &log))?;
        let mut running = Running { keeper, init: None, pid_namespace: 0, net_namespace: 0, connected: false };
        self.record(held, running)?;
        let init = poll(START_LIMIT, || Ok(keeper.first_child().or((!keeper.is_alive()).then_some(keeper))))?;
        let init =
            init.filter(|&init| init != keeper).ok_or_else(|| deadline("a lab host's start", START_LIMIT, &log))?;
        running.init = Some(init);
        running.pid_namespace = process::namespace(init.pid, "pid").unwrap_or_default();
        running.net_namespace = process::namespace(init.pid, "net").unwrap_or_default();
        self.record(held, running)?;
        Ok(running)
    }

    fn init_command(&self, name: &str) -> Command {
        let mut command = tool("unshare");
        command.env(process::MARK, self.lab.dir());
        command.args([
            "--mount",
            "--uts",
            "--ipc",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--propagation",
            "private",
        ]);
        // Orphans must be reaped: libvirt waits many seconds for each QEMU process that stays a zombie.
        command.args(["tini", "-s", "--", "bash"]).arg(self.layout.path("init.sh")).arg(self.dir()).arg(name);
        command
    }

    fn record(&self, held: &mut Held, running: Running) -> Result<()> {
        if let Some(host) = held.state.hosts.get_mut(&self.number.get()) {
            host.running = Some(running);
        }
        held.save()
    }

    /// Ends whatever is left of an earlier run: link, processes, and with them namespaces and mounts.
    fn clear(&self, held: &mut Held) -> Result<()> {
        let Some(host) = held.state.hosts.get_mut(&self.number.get()) else { return Ok(()) };
        network::remove(&host.link)?;
        if let Some(running) = host.running {
            for process in [running.init, Some(running.keeper)].into_iter().flatten() {
                process.signal(Signal::SIGKILL);
            }
            let gone =
                poll(STOP_LIMIT, || Ok((inside(running).is_empty() && !running.keeper.is_alive()).then_some(())))?;
            if gone.is_none() {
                let names =
                    inside(running).iter().map(|facts| format!("{} ({})", facts.name, facts.process.pid)).collect();
                return Err(LabError::LeftBehind(names));
            }
        }
        host.running = None;
        held.save()
    }

    fn wait_for_libvirt(&self) -> Result<()> {
        let uri = self.libvirt_uri();
        let log = self.layout.path("init.log");
        let answered = poll(START_LIMIT, || {
            if !self.is_up()? {
                return Err(deadline("libvirt's start (the host ended)", Duration::ZERO, &log));
            }
            if !self.layout.libvirt_socket().exists() {
                return Ok(None);
            }
            let mut command = tool("virsh");
            command.args(["--quiet", "--connect", &uri, "uri"]);
            let finished = process::run(command, Duration::from_secs(20))?;
            Ok(finished.status.success().then_some(()))
        })?;
        answered.ok_or_else(|| deadline("libvirt's first answer", START_LIMIT, &log))
    }
}

/// The recorded processes of a host that runs and was started to the end.
fn live(host: Option<&HostState>) -> Option<Running> {
    host?.running.filter(|running| running.connected && running.init.is_some_and(ProcessRef::is_alive))
}

/// Processes in a host's pid or network namespace, whoever started them.
pub(super) fn inside(running: Running) -> Vec<Facts> {
    let of_host = |facts: &Facts| {
        let is = |kind, number| number != 0 && facts.namespace(kind) == Some(number);
        !facts.zombie && (is("pid", running.pid_namespace) || is("net", running.net_namespace))
    };
    Facts::all().filter(of_host).collect()
}

fn fresh_uuid() -> Result<String> {
    const SOURCE: &str = "/proc/sys/kernel/random/uuid";
    Ok(fs::read_to_string(SOURCE).during(|| format!("read {SOURCE}"))?.trim().to_owned())
}

fn deadline(what: &str, limit: Duration, log: &Path) -> LabError {
    LabError::Deadline {
        what: what.to_owned(),
        limit,
        context: format!("; {} ends with: {}", log.display(), tail(log)),
    }
}

fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().rev().take(8).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
