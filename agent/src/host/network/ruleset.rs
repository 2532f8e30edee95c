//! The node's two nftables tables as text: a pure function of the settings and of the instances' bindings.
//!
//! `table inet nemordp` forwards, masquerades, filters and counts; `table bridge nemordp` keeps each guest to its own MAC
//! and IPv4 address at its own device. One transaction deletes both and makes them anew; what is forwarded lives in sets
//! and maps, so that the number of rules does not grow with the number of guests. Conntrack is not used in the bridge
//! table and bridges are not named there: not every kernel can.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use nemordp_types::Failure;
use nemordp_types::instance::GUEST_RDP_PORT;

use super::{NetworkSettings, TAP_PREFIX, tap_name};
use crate::host::Binding;

/// Name of both tables.
pub const TABLE: &str = "nemordp";

/// Where guests never go (RFC 6890): this network, private, shared, loopback, link-local, protocol assignments,
/// benchmarking, multicast, reserved, broadcast.
const CLOSED: [&str; 10] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/3",
];

/// Packets and bytes of a named counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Counters by name, as they stand.
pub type Counts = BTreeMap<String, Count>;

/// Name of the counter of what a guest sent.
#[must_use]
pub fn sent(address: Ipv4Addr) -> String {
    format!("sent_{:08x}", u32::from(address))
}

/// Name of the counter of what a guest received.
#[must_use]
pub fn received(address: Ipv4Addr) -> String {
    format!("received_{:08x}", u32::from(address))
}

/// Refuses a binding that no rule can carry.
pub fn check(settings: &NetworkSettings, binding: &Binding) -> Result<(), Failure> {
    let network = binding.network;
    if !settings.subnet.has_guest(network.private_ipv4) {
        return Err(Failure::field("network.private_ipv4", format!("use an address of {}", settings.subnet)));
    }
    if network.mac != nemordp_types::MacAddr::of_private_ipv4(network.private_ipv4) {
        return Err(Failure::field("network.mac", "use the MAC address that follows from the private IPv4"));
    }
    if !network.endpoint.address.is_ipv4() {
        return Err(Failure::field("network.endpoint", "use an IPv4 address: guests have no IPv6"));
    }
    Ok(())
}

/// The transaction that replaces both tables; `counts` go on from where they stood.
#[must_use]
pub fn render(settings: &NetworkSettings, bindings: &[Binding], counts: &Counts) -> String {
    let mut sorted: Vec<&Binding> = bindings.iter().collect();
    sorted.sort_by_key(|binding| binding.network.private_ipv4);
    let mut text = String::new();
    for family in ["inet", "bridge"] {
        // Adding first makes the deletion work when there is no table yet.
        let _ = writeln!(text, "add table {family} {TABLE}\ndelete table {family} {TABLE}");
    }
    let _ = writeln!(text, "table inet {TABLE} {{");
    objects(&mut text, settings, &sorted, counts);
    text.push_str(&nat_chains(settings));
    text.push_str(&filter_chains(settings));
    text.push_str("}\n");
    bridge_table(&mut text, &sorted);
    text
}

fn elements(items: &[String]) -> String {
    if items.is_empty() {
        return String::new();
    }
    format!("\n\t\telements = {{ {} }}", items.join(",\n\t\t\t"))
}

fn objects(text: &mut String, settings: &NetworkSettings, bindings: &[&Binding], counts: &Counts) {
    let (mut forwards, mut sent_by, mut received_by) = (Vec::new(), Vec::new(), Vec::new());
    for binding in bindings {
        let guest = binding.network.private_ipv4;
        let endpoint = binding.network.endpoint;
        if let IpAddr::V4(address) = endpoint.address {
            forwards.push(format!("{address} . {} : {guest} . {GUEST_RDP_PORT}", endpoint.port));
        }
        for (name, map) in [(sent(guest), &mut sent_by), (received(guest), &mut received_by)] {
            let Count { packets, bytes } = counts.get(&name).copied().unwrap_or_default();
            let _ = writeln!(text, "\tcounter {name} {{ packets {packets} bytes {bytes} }}");
            map.push(format!("{guest} : \"{name}\""));
        }
    }
    for name in ["refused_mail", "refused_closed", "refused_node", "limited_in", "limited_out"] {
        let Count { packets, bytes } = counts.get(name).copied().unwrap_or_default();
        let _ = writeln!(text, "\tcounter {name} {{ packets {packets} bytes {bytes} }}");
    }
    let closed: Vec<String> = CLOSED
        .iter()
        .map(ToString::to_string)
        .chain(settings.closed_destinations.iter().map(ToString::to_string))
        .collect();
    let _ = write!(
        text,
        "\tmap forwards {{\n\t\ttype ipv4_addr . inet_service : ipv4_addr . inet_service{forwards}\n\t}}\n\
         \tmap sent_by {{\n\t\ttype ipv4_addr : counter{sent_by}\n\t}}\n\
         \tmap received_by {{\n\t\ttype ipv4_addr : counter{received_by}\n\t}}\n\
         \tset closed {{\n\t\ttype ipv4_addr\n\t\tflags interval\n\t\tauto-merge{closed}\n\t}}\n\
         \tset sources_in {{\n\t\ttype ipv4_addr\n\t\tsize 65535\n\t\tflags dynamic,timeout\n\t\ttimeout 2m\n\t}}\n\
         \tset sources_out {{\n\t\ttype ipv4_addr\n\t\tsize 65535\n\t\tflags dynamic,timeout\n\t\ttimeout 2m\n\t}}\n",
        forwards = elements(&forwards),
        sent_by = elements(&sent_by),
        received_by = elements(&received_by),
        closed = elements(&closed),
    );
}

/// Guests do not reach forwarded ports of their own node: what comes from the bridge is not translated.
fn nat_chains(settings: &NetworkSettings) -> String {
    let NetworkSettings { bridge, subnet, .. } = settings;
    format!(
        r#"	chain forwarded {{
		type nat hook prerouting priority dstnat; policy accept;
		iifname != "{bridge}" dnat ip to ip daddr . tcp dport map @forwards
	}}
	chain forwarded_local {{
		type nat hook output priority -100; policy accept;
		dnat ip to ip daddr . tcp dport map @forwards
	}}
	chain masqueraded {{
		type nat hook postrouting priority srcnat; policy accept;
		oifname != "{bridge}" ip saddr {subnet} masquerade
	}}
"#
    )
}

fn filter_chains(settings: &NetworkSettings) -> String {
    let NetworkSettings { bridge, subnet, incoming, outgoing, .. } = settings;
    let gateway = subnet.gateway();
    format!(
        r#"	chain forward {{
		type filter hook forward priority -5; policy accept;
		iifname "{bridge}" goto from_guest
		oifname "{bridge}" goto to_guest
	}}
	chain from_guest {{
		meta nfproto != ipv4 drop
		ip saddr != {subnet} drop
		oifname "{bridge}" drop
		counter name ip saddr map @sent_by
		ct state established,related accept
		ct state != new drop
		ip daddr @closed counter name refused_closed drop
		tcp dport 25 counter name refused_mail reject with tcp reset
		add @sources_out {{ ip saddr limit rate over {out_rate}/minute burst {out_burst} packets }} counter name limited_out drop
		accept
	}}
	chain to_guest {{
		meta nfproto != ipv4 drop
		counter name ip daddr map @received_by
		ct state established,related accept
		ct status dnat ct state new tcp dport {GUEST_RDP_PORT} goto arriving
		drop
	}}
	chain arriving {{
		add @sources_in {{ ip saddr limit rate over {in_rate}/minute burst {in_burst} packets }} counter name limited_in drop
		accept
	}}
	chain input {{
		type filter hook input priority -5; policy accept;
		iifname "{bridge}" goto node_from_guest
	}}
	chain node_from_guest {{
		meta nfproto != ipv4 drop
		ct state established,related accept
		ip daddr {{ 255.255.255.255, {gateway} }} udp sport 68 udp dport 67 accept
		ip saddr {subnet} ip daddr {gateway} udp dport 53 accept
		ip saddr {subnet} ip daddr {gateway} tcp dport 53 accept
		counter name refused_node drop
	}}
"#,
        in_rate = incoming.per_minute,
        in_burst = incoming.burst,
        out_rate = outgoing.per_minute,
        out_burst = outgoing.burst,
    )
}

fn bridge_table(text: &mut String, bindings: &[&Binding]) {
    let (mut cards, mut addresses) = (Vec::new(), Vec::new());
    for binding in bindings {
        let network = binding.network;
        let tap = tap_name(network.private_ipv4);
        cards.push(format!("\"{tap}\" . {}", network.mac));
        addresses.push(format!("\"{tap}\" . {} . {}", network.mac, network.private_ipv4));
    }
    let _ = write!(
        text,
        r#"table bridge {TABLE} {{
	set cards {{
		type ifname . ether_addr{cards}
	}}
	set addresses {{
		type ifname . ether_addr . ipv4_addr{addresses}
	}}
	chain prerouting {{
		type filter hook prerouting priority -300; policy accept;
		iifname "{TAP_PREFIX}*" goto guest
	}}
	chain guest {{
		iifname . ether saddr != @cards counter drop
		ether type arp goto guest_arp
		ether type ip ip saddr 0.0.0.0 ip daddr 255.255.255.255 udp sport 68 udp dport 67 accept
		ether type ip iifname . ether saddr . ip saddr @addresses accept
		counter drop
	}}
	chain guest_arp {{
		arp saddr ether 00:00:00:00:00:00 drop
		iifname . arp saddr ether != @cards counter drop
		arp saddr ip 0.0.0.0 accept
		iifname . arp saddr ether . arp saddr ip @addresses accept
		counter drop
	}}
	chain forward {{
		type filter hook forward priority -200; policy accept;
		iifname "{TAP_PREFIX}*" oifname "{TAP_PREFIX}*" counter drop
	}}
}}
"#,
        cards = elements(&cards),
        addresses = elements(&addresses),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use nemordp_types::instance::NetworkSpec;
    use nemordp_types::node::EndpointPool;
    use nemordp_types::{Endpoint, InstanceId, MacAddr};

    fn settings() -> NetworkSettings {
        let endpoints = EndpointPool { address: "203.0.113.1".parse().unwrap(), first_port: 40000, last_port: 40100 };
        let mut settings = NetworkSettings::new("10.64.0.0/24".parse().unwrap(), endpoints);
        settings.closed_destinations.push("203.0.113.0/24".parse().unwrap());
        settings
    }

    fn binding(number: u8) -> Binding {
        let private_ipv4 = Ipv4Addr::new(10, 64, 0, number);
        Binding {
            instance_id: InstanceId::from_uuid(uuid::Uuid::from_u128(u128::from(number))),
            network: NetworkSpec {
                mac: MacAddr::of_private_ipv4(private_ipv4),
                private_ipv4,
                endpoint: Endpoint { address: "203.0.113.1".parse().unwrap(), port: 40000 + u16::from(number) },
            },
        }
    }

    #[test]
    fn the_rules_are_the_golden_ones() {
        let counts = Counts::from([(sent(Ipv4Addr::new(10, 64, 0, 2)), Count { packets: 3, bytes: 180 })]);
        let text = render(&settings(), &[binding(3), binding(2)], &counts);
        crate::host::golden::assert_golden("ruleset.nft", &text);
    }

    #[test]
    fn the_order_of_the_bindings_makes_no_difference() {
        let none = Counts::new();
        assert_eq!(
            render(&settings(), &[binding(3), binding(2)], &none),
            render(&settings(), &[binding(2), binding(3)], &none)
        );
    }

    #[test]
    fn nothing_of_others_is_flushed() {
        let text = render(&settings(), &[], &Counts::new());
        assert!(!text.contains("flush"));
        for line in text.lines().filter(|line| line.starts_with("delete") || line.starts_with("table")) {
            assert!(line.contains(" nemordp"), "{line}");
        }
    }

    #[test]
    fn bindings_that_no_rule_can_carry_name_their_field() {
        let field = |change: fn(&mut Binding)| {
            let mut bad = binding(2);
            change(&mut bad);
            check(&settings(), &bad).unwrap_err().field.unwrap()
        };
        check(&settings(), &binding(2)).unwrap();
        assert_eq!(field(|b| b.network.private_ipv4 = Ipv4Addr::new(10, 64, 0, 1)), "network.private_ipv4");
        assert_eq!(field(|b| b.network.mac = MacAddr::new([2; 6]).unwrap()), "network.mac");
        assert_eq!(field(|b| b.network.endpoint.address = "2001:db8::1".parse().unwrap()), "network.endpoint");
    }
}
