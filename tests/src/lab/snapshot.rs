//! What exists on the machine, so that "nothing is left" is a comparison and no opinion.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::error::Result;
use super::process::{self, Facts, MARK, tool};

/// Programs that only virtual machines, remote desktops and our services are made of.
const KINDS: [&str; 14] = [
    "libvirtd",
    "virtlogd",
    "virtlockd",
    "dnsmasq",
    "qemu-",
    "Xvfb",
    "xfreerdp",
    "freerdp-",
    "tini",
    "swtpm",
    "nemordp",
    "postgres",
    "prometheus",
    "virt-",
];
/// The kernel's settings that a router or a hypervisor changes.
const SETTINGS: [&str; 5] = [
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/rp_filter",
    "net/ipv6/conf/all/forwarding",
    "net/bridge/bridge-nf-call-iptables",
    "kernel/hostname",
];
const FILES: [&str; 8] = [
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/hostname",
    "/etc/libvirt",
    "/var/lib/libvirt",
    "/dev/kvm",
    "/dev/net/tun",
    "/tmp/.X11-unix",
];
/// How the entry of a socket ends whose server died without removing it.
const NOBODY_LISTENS: &str = ", a socket that nobody listens on";

/// The state of the machine at one instant; may be kept as JSON and compared later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot(BTreeMap<Kind, BTreeSet<String>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Process,
    Link,
    Address,
    Route,
    Mount,
    NetworkNamespace,
    FirewallRule,
    ListeningSocket,
    File,
    Setting,
}

/// One thing that came or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Whether it is there now and was not before.
    pub added: bool,
    /// What it is.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.added { "new:" } else { "gone:" }, self.what)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Process => "process",
            Self::Link => "link",
            Self::Address => "address",
            Self::Route => "route",
            Self::Mount => "mount",
            Self::NetworkNamespace => "network namespace",
            Self::FirewallRule => "firewall rule",
            Self::ListeningSocket => "listening socket",
            Self::File => "file",
            Self::Setting => "setting",
        })
    }
}

impl Snapshot {
    /// Looks at the machine.
    ///
    /// Of the processes those count that can be ours: with the lab's mark, or of the kinds that hypervisors, remote
    /// desktops and our services are made of. Shells, compilers and containers that come and go on a machine would
    /// make every comparison fail; what else runs in a host's namespaces, `Lab::down` finds by these. Sockets are
    /// treated like their processes.
    pub fn take() -> Result<Self> {
        process::require_installed(&["ip", "nft", "ss"])?;
        let processes: Vec<Facts> = Facts::all().filter(|facts| !facts.zombie && counts(facts)).collect();
        let names = processes.iter().map(|facts| {
            let process = facts.process;
            format!("{} (pid {}, started {}) {}", facts.name, process.pid, process.started_ticks, facts.command_line())
        });
        let namespaces = processes.iter().filter_map(|facts| facts.namespace("net"));
        let mut namespaces: BTreeSet<String> = namespaces.map(|number| number.to_string()).collect();
        namespaces.extend(names_in("/run/netns"));
        Ok(Self(BTreeMap::from([
            (Kind::Process, names.collect()),
            (Kind::Link, names_in("/sys/class/net").collect()),
            (
                Kind::Address,
                lines(&["ip", "-oneline", "address", "show"])?.iter().map(|line| without_lifetime(line)).collect(),
            ),
            (Kind::Route, lines(&["ip", "-details", "route", "show", "table", "all"])?),
            (Kind::Mount, mounts()),
            (Kind::NetworkNamespace, namespaces),
            (Kind::FirewallRule, firewall()?),
            (Kind::ListeningSocket, sockets(&processes)?),
            (Kind::File, FILES.iter().flat_map(|path| files(Path::new(path))).collect()),
            (Kind::Setting, SETTINGS.iter().filter_map(|name| setting(name)).collect()),
        ])))
    }

    /// What changed from this snapshot to a later one; empty when nothing did.
    #[must_use]
    pub fn diff(&self, later: &Self) -> Vec<Difference> {
        let mut differences = one_way(later, self, true);
        let gone = one_way(self, later, false).into_iter();
        // The next X server that takes the display removes what a killed one left; nobody misses that.
        differences.extend(gone.filter(|difference| !difference.what.ends_with(NOBODY_LISTENS)));
        differences
    }
}

fn one_way(of: &Snapshot, against: &Snapshot, added: bool) -> Vec<Difference> {
    let mut found = Vec::new();
    for (kind, things) in &of.0 {
        let known = against.0.get(kind);
        let missing = things.iter().filter(|&thing| known.is_none_or(|known| !known.contains(thing)));
        found.extend(missing.map(|thing| Difference { added, what: format!("{kind} {thing}") }));
    }
    found
}

fn counts(facts: &Facts) -> bool {
    let of_a_kind = KINDS.iter().any(|kind| facts.name.starts_with(kind));
    (of_a_kind || facts.variable(MARK).is_some()) && !process::own_line().contains(&facts.process.pid)
}

fn lines(words: &[&str]) -> Result<BTreeSet<String>> {
    let Some((program, arguments)) = words.split_first() else { return Ok(BTreeSet::new()) };
    let text = process::run_tool(program, arguments)?.text();
    Ok(text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect())
}

/// The remaining lifetime of an address from DHCP counts down.
fn without_lifetime(line: &str) -> String {
    line.split(" valid_lft").next().unwrap_or(line).to_owned()
}

/// Each rule with the table and chain that it stands in; counters left out.
fn firewall() -> Result<BTreeSet<String>> {
    let mut command = tool("nft");
    command.args(["--stateless", "list", "ruleset"]);
    let text = process::run(command, Duration::from_secs(30))?.success()?.text();
    let mut place: Vec<&str> = Vec::new();
    let mut rules = BTreeSet::new();
    for line in text.lines().map(str::trim) {
        if line == "}" {
            place.pop();
        } else if let Some(opened) = line.strip_suffix('{') {
            place.push(opened.trim());
            rules.insert(place.join(" / "));
        } else if !line.is_empty() {
            rules.insert(format!("{} / {line}", place.join(" / ")));
        }
    }
    Ok(rules)
}

/// Mounts without the numbers that change with every look.
fn mounts() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(|line| line.splitn(5, ' ').nth(4).map(str::to_owned)).collect()
}

/// Listening sockets of the processes that count, and those that no process owns up to. A UDP client's socket looks
/// like a server's: of UDP only the ports below the ephemeral ones are taken.
fn sockets(processes: &[Facts]) -> Result<BTreeSet<String>> {
    let all = lines(&["ss", "--no-header", "--listening", "--tcp", "--udp", "--numeric", "--processes"])?;
    let counted = |line: &String| {
        let mut pids =
            line.split("pid=").skip(1).filter_map(|part| part.split(',').next()?.parse::<i32>().ok()).peekable();
        pids.peek().is_none() || pids.any(|pid| processes.iter().any(|facts| facts.process.pid == pid))
    };
    let served = |line: &String| {
        const FIRST_EPHEMERAL: u16 = 32_768;
        let port = line.split(' ').nth(4).and_then(|address| address.rsplit(':').next()?.parse().ok());
        !line.starts_with("udp") || port.is_none_or(|port: u16| port < FIRST_EPHEMERAL)
    };
    // Of the queue lengths nothing is kept: protocol, state, local address, processes.
    let short = |line: &String| {
        let words: Vec<&str> = line.split(' ').collect();
        [words.first(), words.get(4), words.get(6)].into_iter().flatten().copied().collect::<Vec<_>>().join(" ")
    };
    Ok(all.iter().filter(|line| counted(line) && served(line)).map(short).collect())
}

fn names_in(folder: &str) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}

fn setting(name: &str) -> Option<String> {
    let value = fs::read_to_string(Path::new("/proc/sys").join(name)).ok()?;
    Some(format!("{name} = {}", value.trim()))
}

/// The file, or all files below the folder, each with owner, mode, size and digest (large ones without).
fn files(path: &Path) -> Vec<String> {
    const LARGE: u64 = 4 << 20;
    let Ok(facts) = fs::symlink_metadata(path) else { return Vec::new() };
    let owner = format!("{} mode {:o} owner {}:{}", path.display(), facts.mode(), facts.uid(), facts.gid());
    if facts.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        return std::iter::once(owner).chain(entries.flat_map(|entry| files(&entry.path()))).collect();
    }
    if facts.file_type().is_socket() {
        let heard = UnixStream::connect(path).is_ok();
        return vec![if heard { owner } else { format!("{owner}{NOBODY_LISTENS}") }];
    }
    if !facts.is_file() {
        return vec![owner];
    }
    let content = if facts.len() > LARGE { Vec::new() } else { fs::read(path).unwrap_or_default() };
    vec![format!("{owner} size {} sha256 {}", facts.len(), hex::encode(Sha256::digest(content)))]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(kind: Kind, things: &[&str]) -> Snapshot {
        Snapshot(BTreeMap::from([(kind, things.iter().map(|&thing| thing.to_owned()).collect())]))
    }

    #[test]
    fn what_came_and_what_went_is_named() {
        let differences = with(Kind::Link, &["lo", "eth0"]).diff(&with(Kind::Link, &["lo", "nlabcdefbr"]));
        let words: Vec<String> = differences.iter().map(Difference::to_string).collect();
        assert_eq!(words, ["new: link nlabcdefbr", "gone: link eth0"]);
        let same = with(Kind::Link, &["lo"]);
        assert!(same.diff(&same.clone()).is_empty());
    }

    #[test]
    fn a_changed_file_is_seen() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("hosts");
        fs::write(&file, "127.0.0.1 localhost\n").expect("written");
        let before = files(dir.path());
        fs::write(&file, "127.0.0.2 localhost\n").expect("written");
        assert_ne!(before, files(dir.path()), "same size, other content");
    }

    #[test]
    fn a_dead_socket_may_go_and_may_not_come() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("X0");
        let look = || with(Kind::File, &files(dir.path()).iter().map(String::as_str).collect::<Vec<_>>());
        let empty = look();
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        let alive = look();
        assert_eq!(alive.diff(&empty).len(), 1, "a server's socket is missed");
        drop(listener);
        let dead = look();
        assert_eq!(dead.diff(&empty), [], "a dead one is not");
        assert_eq!(empty.diff(&dead).len(), 1, "one that was left behind is seen");
        assert_eq!(alive.diff(&dead).len(), 2, "the server is missed although its file is there");
    }
}
