//! The cable between the machine and its lab hosts: one bridge, one veth pair a host, one /24 of 198.18.0.0/15
//! (the range that RFC 2544 sets aside for test rigs). No firewall rule, no sysctl, no route but the connected one.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::error::{During, LabError, Result};
use super::process::run_tool;

/// A host's end of its cable.
pub const UPLINK: &str = "up0";

/// Names of links, at most 15 characters long.
pub(super) fn bridge_name(id: &str) -> String {
    format!("nl{id}br")
}

pub(super) fn link_name(id: &str, host: u8) -> String {
    format!("nl{id}h{host}")
}

/// Whether the machine has a link of this name.
pub(super) fn exists(link: &str) -> bool {
    Path::new("/sys/class/net").join(link).exists()
}

/// Whether the link carries this address.
pub(super) fn has_address(link: &str, address: Ipv4Addr) -> Result<bool> {
    let shown = run_tool("ip", &["-4", "-oneline", "address", "show", "dev", link])?;
    Ok(shown.text().contains(&format!(" {address}/24 ")))
}

/// Makes the bridge with the machine's address on it.
pub(super) fn make_bridge(bridge: &str, address: Ipv4Addr) -> Result<()> {
    run_tool("ip", &["link", "add", bridge, "type", "bridge", "stp_state", "0", "forward_delay", "0"])?;
    // No link-local IPv6 address: the cable carries IPv4 alone.
    run_tool("ip", &["link", "set", bridge, "addrgenmode", "none"])?;
    run_tool("ip", &["address", "add", &format!("{address}/24"), "dev", bridge])?;
    run_tool("ip", &["link", "set", bridge, "up"])?;
    Ok(())
}

/// Plugs a host in: `link` on the machine's bridge, `up0` with its address inside the host.
pub(super) fn connect(link: &str, bridge: &str, host_pid: i32, host: Ipv4Addr, machine: Ipv4Addr) -> Result<()> {
    let pid = host_pid.to_string();
    run_tool("ip", &["link", "add", link, "type", "veth", "peer", "name", UPLINK, "netns", &pid])?;
    run_tool("ip", &["link", "set", link, "addrgenmode", "none"])?;
    run_tool("ip", &["link", "set", link, "master", bridge, "up"])?;
    let script = format!(
        "set -e; ip link set lo up; ip link set {UPLINK} addrgenmode none; ip address add {host}/24 dev {UPLINK}; \
         ip link set {UPLINK} up; ip route add default via {machine}"
    );
    run_tool("nsenter", &["--target", &pid, "--net", "sh", "-c", &script])?;
    Ok(())
}

/// Shows that the host reaches the machine: a firewall of the machine may drop what comes from a new bridge.
pub(super) fn check(bridge: &str, host_pid: i32, machine: Ipv4Addr) -> Result<()> {
    let listener = std::net::TcpListener::bind((machine, 0)).during(|| format!("listen on {machine}"))?;
    let port = listener.local_addr().during(|| "read a port".to_owned())?.port();
    let script = format!("exec 3<>/dev/tcp/{machine}/{port}");
    let limit = Duration::from_secs(5);
    let mut command = super::process::tool("nsenter");
    command.args(["--target", &host_pid.to_string(), "--net", "bash", "-c", &script]);
    let reached = super::process::run(command, limit).and_then(super::process::Finished::success);
    match reached {
        Ok(_) => Ok(()),
        Err(error) => Err(LabError::Deadline {
            what: format!("a connection from a lab host to {machine}"),
            limit,
            context: format!(" ({error}); if this machine has a firewall, let it accept input from interface {bridge}"),
        }),
    }
}

/// Removes a link, with its peer; none is fine.
pub(super) fn remove(link: &str) -> Result<()> {
    if !exists(link) {
        return Ok(());
    }
    match run_tool("ip", &["link", "delete", link]) {
        Ok(_) => Ok(()),
        // The kernel may have removed it in between, together with its host's namespace.
        Err(_) if !exists(link) => Ok(()),
        Err(error) => Err(error),
    }
}

/// A /24 that nothing on this machine uses.
pub(super) fn free_subnet() -> Result<Ipv4Addr> {
    choose(&used_networks()?)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    address: Ipv4Addr,
    prefix: u32,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        Some(Self { address: address.parse().ok()?, prefix: prefix.parse().ok()? })
    }

    fn overlaps(self, other: Self) -> bool {
        let shared = self.prefix.min(other.prefix);
        let mask = u32::MAX.checked_shl(32 - shared).unwrap_or(0);
        u32::from(self.address) & mask == u32::from(other.address) & mask
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

#[derive(Deserialize)]
struct Route {
    dst: String,
}

#[derive(Deserialize)]
struct Link {
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    local: Option<Ipv4Addr>,
    prefixlen: Option<u32>,
}

/// Every address and every route of the machine. Routes wider than /8 are defaults, cut in pieces or not.
fn used_networks() -> Result<Vec<Network>> {
    let malformed =
        |error: serde_json::Error| LabError::Malformed { what: "ip's output".to_owned(), why: error.to_string() };
    let routes = run_tool("ip", &["-json", "-4", "route", "show", "table", "all"])?;
    let routes: Vec<Route> = serde_json::from_slice(&routes.stdout).map_err(malformed)?;
    let links = run_tool("ip", &["-json", "-4", "address", "show"])?;
    let links: Vec<Link> = serde_json::from_slice(&links.stdout).map_err(malformed)?;
    let mut used: Vec<Network> =
        routes.iter().filter_map(|route| Network::parse(&route.dst)).filter(|network| network.prefix >= 8).collect();
    for address in links.iter().flat_map(|link| &link.addr_info) {
        if let (Some(address), Some(prefix)) = (address.local, address.prefixlen) {
            used.push(Network { address, prefix });
        }
    }
    Ok(used)
}

fn choose(used: &[Network]) -> Result<Ipv4Addr> {
    const PREFERRED: u8 = 77;
    let in_order = [18, 19].into_iter().flat_map(|second| {
        let thirds = (PREFERRED..=u8::MAX).chain(0..PREFERRED);
        thirds.map(move |third| Ipv4Addr::new(198, second, third, 0))
    });
    let mut free = in_order.filter(|&address| {
        let subnet = Network { address, prefix: 24 };
        !used.iter().any(|network| network.overlaps(subnet))
    });
    let range = Network { address: Ipv4Addr::new(198, 18, 0, 0), prefix: 15 };
    free.next().ok_or_else(|| {
        LabError::RangeInUse(used.iter().filter(|network| network.overlaps(range)).map(Network::to_string).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().filter_map(|text| Network::parse(text)).collect()
    }

    #[test]
    fn the_first_free_subnet_is_chosen() {
        let chosen = choose(&networks(&["192.0.2.2/24", "198.18.77.0/24", "198.18.78.13"])).expect("one is free");
        assert_eq!(chosen, Ipv4Addr::new(198, 18, 79, 0));
        assert_eq!(choose(&networks(&["198.18.0.0/16"])).expect("one is free"), Ipv4Addr::new(198, 19, 77, 0));
    }

    #[test]
    fn a_range_in_use_is_refused_and_its_users_are_named() {
        let error = choose(&networks(&["10.0.0.0/8", "198.18.0.0/15"])).expect_err("all is taken");
        assert!(error.to_string().ends_with("this machine uses it: 198.18.0.0/15"), "{error}");
    }

    #[test]
    fn names_fit_a_link() {
        assert!(bridge_name("abcdef").len() <= 15);
        assert!(link_name("abcdef", u8::MAX).len() <= 15);
    }
}
