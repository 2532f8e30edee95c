//! What a network card, a node and a customer's client use to be reached.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::failure::Failure;

/// A unicast MAC address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// Refuses group addresses (IEEE 802: the lowest bit of the first octet).
    pub fn new(octets: [u8; 6]) -> Result<Self, Failure> {
        if octets[0] & 1 == 1 || octets == [0; 6] {
            return Err(Failure::field("mac", "use a unicast MAC address, like 52:54:00:12:34:56"));
        }
        Ok(Self(octets))
    }

    /// The address of the card that owns a private IPv4: QEMU's prefix 52:54:00 and the low 24 bits of the IPv4.
    ///
    /// One address, one card: a DHCP server that still remembers an older owner of the IPv4 sees the same card again
    /// and gives the lease at once.
    #[must_use]
    pub const fn of_private_ipv4(address: Ipv4Addr) -> Self {
        let [_, b, c, d] = address.octets();
        Self([0x52, 0x54, 0x00, b, c, d])
    }

    /// The six octets in transmission order.
    #[must_use]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddr {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let bad = || Failure::field("mac", "use six octets in hex, like 52:54:00:12:34:56");
        let mut octets = [0u8; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(bad)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            return Err(bad());
        }
        Self::new(octets)
    }
}

impl Serialize for MacAddr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MacAddr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Address and TCP port at which the customer's RDP client connects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// Public address; the node's own where a port is forwarded.
    pub address: IpAddr,
    /// TCP port at that address.
    pub port: u16,
}

impl Endpoint {
    /// As the sockets want it.
    #[must_use]
    pub const fn socket_addr(self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket_addr().fmt(f)
    }
}

/// Where the control plane reaches a node's agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeAddress(pub SocketAddr);

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_survives_its_text() {
        let mac = MacAddr::of_private_ipv4(Ipv4Addr::new(10, 64, 3, 200));
        assert_eq!(mac.to_string(), "52:54:00:40:03:c8");
        assert_eq!(mac.to_string().parse::<MacAddr>().unwrap(), mac);
    }

    #[test]
    fn group_and_broken_addresses_are_refused() {
        for bad in [
            "01:00:5e:00:00:01",
            "ff:ff:ff:ff:ff:ff",
            "00:00:00:00:00:00",
            "52:54:00",
            "52:54:00:0:0:1",
            "x",
            "52:54:00:00:00:00:00",
        ] {
            assert_eq!(bad.parse::<MacAddr>().unwrap_err().field.as_deref(), Some("mac"), "{bad}");
        }
    }
}
