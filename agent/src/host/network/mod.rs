//! The guests' network: what it is made of, as text, and the node's own settings that it needs.
//!
//! ```text
//! customer ─► public address:port ─(DNAT)─► bridge ─► tap of one guest ─► guest:3389
//!                                            │ DHCP and DNS of the node, nothing else of it
//! guest ─► tap (own MAC and IPv4 only) ─► bridge ─(masquerade)─► uplink ─► public addresses, not port 25
//! ```
//!
//! The bridge is a libvirt network without any rule of libvirt's own ([`bridge`]); all rules are in two tables of ours
//! ([`ruleset`]), made anew in one transaction from the instances, so that they cannot drift. Rules of others are never
//! read or changed. They stay when the agent ends. [`table`] applies them and keeps their counters.

pub mod bridge;
pub mod ruleset;
pub mod sysctl;
pub mod table;
pub mod taken;

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::str::FromStr;

use nemordp_types::Failure;
use nemordp_types::node::{EndpointPool, PrivateSubnet};
use serde::{Deserialize, Deserializer};

/// First letters of every guest's network device on the node; never `vnet`, which libvirt gives out itself.
pub const TAP_PREFIX: &str = "ndt";

/// Name of a guest's network device on the node: it follows from its address, so that rules can name it before it is
/// there. Linux allows 15 characters.
#[must_use]
pub fn tap_name(private_ipv4: Ipv4Addr) -> String {
    format!("{TAP_PREFIX}{:08x}", u32::from(private_ipv4))
}

/// An IPv4 network, `198.51.100.0/24`; an address alone is a network of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ipv4Network {
    address: Ipv4Addr,
    prefix: u8,
}

impl fmt::Display for Ipv4Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl FromStr for Ipv4Network {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let bad = || Failure::field("closed_destinations", "use IPv4 networks, like 198.51.100.0/24 or 198.51.100.7");
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or_else(bad)?;
        let host_bits = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        if u32::from(address) & host_bits != 0 {
            return Err(bad());
        }
        Ok(Self { address, prefix })
    }
}

impl<'de> Deserialize<'de> for Ipv4Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// How many new connections one source may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimit {
    /// Sustained.
    pub per_minute: u32,
    /// At once.
    pub burst: u32,
}

/// What the operator decides about the guests' network.
#[derive(Debug, Clone)]
pub struct NetworkSettings {
    /// Name of the libvirt network.
    pub name: String,
    /// Name of the bridge; at most 15 characters.
    pub bridge: String,
    /// Where guests live; prefix 18 to 29.
    pub subnet: PrivateSubnet,
    /// Where customers connect.
    pub endpoints: EndpointPool,
    /// Networks that guests never reach, beside the private, shared, link-local, loopback and multicast ones: other
    /// nodes and the control plane.
    pub closed_destinations: Vec<Ipv4Network>,
    /// Name servers that answer guests' questions; the node's own when empty.
    pub dns_forwarders: Vec<Ipv4Addr>,
    /// Of one address outside, to all endpoints of the node.
    pub incoming: ConnectionLimit,
    /// Of one guest, to the world.
    pub outgoing: ConnectionLimit,
    /// The program `nft`.
    pub nft: PathBuf,
}

impl NetworkSettings {
    /// Usual settings for a subnet and its endpoints.
    #[must_use]
    pub fn new(subnet: PrivateSubnet, endpoints: EndpointPool) -> Self {
        Self {
            name: "nemordp".to_owned(),
            bridge: "nemordp0".to_owned(),
            subnet,
            endpoints,
            closed_destinations: Vec::new(),
            dns_forwarders: Vec::new(),
            incoming: ConnectionLimit { per_minute: 120, burst: 60 },
            outgoing: ConnectionLimit { per_minute: 6000, burst: 1000 },
            nft: PathBuf::from("/usr/sbin/nft"),
        }
    }

    /// Refuses names and sizes that the kernel, libvirt or `nft` would refuse later.
    pub fn check(&self) -> Result<(), Failure> {
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if self.bridge.is_empty()
            || self.bridge.len() > 15
            || !plain(&self.bridge)
            || self.bridge.starts_with(TAP_PREFIX)
        {
            return Err(Failure::field(
                "bridge",
                "use at most 15 lower-case letters, digits and '-', not starting with ndt",
            ));
        }
        if self.name.is_empty() || self.name.len() > 60 || !plain(&self.name) {
            return Err(Failure::field("network", "use at most 60 lower-case letters, digits and '-'"));
        }
        if self.subnet.prefix < 18 {
            return Err(Failure::field("private_subnet", "use a prefix length from 18 to 29, like 10.64.0.0/22"));
        }
        for (field, limit) in [("incoming", self.incoming), ("outgoing", self.outgoing)] {
            if limit.per_minute == 0 || limit.burst == 0 {
                return Err(Failure::field(field, "use a limit above zero"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tap_has_a_name_that_fits_and_is_its_own() {
        assert_eq!(tap_name(Ipv4Addr::new(10, 64, 0, 2)), "ndt0a400002");
        assert!(tap_name(Ipv4Addr::BROADCAST).len() <= 15);
    }

    #[test]
    fn networks_are_read_and_host_bits_refused() {
        assert_eq!("198.51.100.7".parse::<Ipv4Network>().unwrap().to_string(), "198.51.100.7/32");
        assert_eq!("0.0.0.0/0".parse::<Ipv4Network>().unwrap().to_string(), "0.0.0.0/0");
        for bad in ["198.51.100.7/24", "x", "1.2.3.4/33", "1.2.3.4/", "::1/128", "1.2.3.4/8; flush ruleset"] {
            assert!(bad.parse::<Ipv4Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn settings_that_cannot_work_name_their_field() {
        let endpoints = EndpointPool { address: "203.0.113.1".parse().unwrap(), first_port: 40000, last_port: 40100 };
        let good = NetworkSettings::new("10.64.0.0/24".parse().unwrap(), endpoints);
        good.check().unwrap();
        let field = |settings: NetworkSettings| settings.check().unwrap_err().field.unwrap();
        assert_eq!(field(NetworkSettings { bridge: "a-name-that-is-too-long".to_owned(), ..good.clone() }), "bridge");
        assert_eq!(field(NetworkSettings { bridge: "x\" drop".to_owned(), ..good.clone() }), "bridge");
        assert_eq!(field(NetworkSettings { name: "<x>".to_owned(), ..good.clone() }), "network");
        assert_eq!(field(NetworkSettings { subnet: "10.64.0.0/16".parse().unwrap(), ..good }), "private_subnet");
    }
}
