//! The libvirt network beneath the guests: a bridge with DHCP and DNS of the node, and no rule of libvirt's own.
//!
//! Every guest address of the subnet is given to the one MAC that follows from it
//! ([`MacAddr::of_private_ipv4`]), for ever: nothing has to be changed when an instance comes or goes, a lease is given at
//! once, and a card with another MAC gets nothing.

use nemordp_types::MacAddr;

use super::NetworkSettings;
use crate::host::xml::Element;

const DNSMASQ: &str = "http://libvirt.org/schemas/network/dnsmasq/1.0";

/// Describes the network; the UUID is libvirt's own of an earlier definition, where there is one.
#[must_use]
pub fn network_xml(settings: &NetworkSettings, uuid: Option<uuid::Uuid>) -> String {
    let netmask = std::net::Ipv4Addr::from(u32::MAX << (32 - u32::from(settings.subnet.prefix)));
    let hosts = settings
        .subnet
        .guests()
        .map(|address| Element::new("host").attr("mac", MacAddr::of_private_ipv4(address)).attr("ip", address));
    let forwarders = settings.dns_forwarders.iter().map(|address| Element::new("forwarder").attr("addr", address));
    // Without no-ping every new lease waits three seconds; without no-hosts guests could read the node's own names.
    let options = ["no-ping", "no-hosts", "domain-needed", "bogus-priv"];
    Element::new("network")
        .attr("xmlns:dnsmasq", DNSMASQ)
        .child(Element::new("name").content(&settings.name))
        .with(uuid.map(|uuid| Element::new("uuid").content(uuid)))
        .child(Element::new("forward").attr("mode", "open"))
        .child(Element::new("bridge").attr("name", &settings.bridge).attr("stp", "off").attr("delay", "0"))
        // libvirt would choose one at random, which could be a guest's.
        .child(Element::new("mac").attr("address", MacAddr::of_private_ipv4(settings.subnet.gateway())))
        .child(Element::new("dns").attr("enable", "yes").with(forwarders))
        .child(
            Element::new("ip")
                .attr("address", settings.subnet.gateway())
                .attr("netmask", netmask)
                .child(Element::new("dhcp").with(hosts)),
        )
        .child(
            Element::new("dnsmasq:options")
                .with(options.map(|option| Element::new("dnsmasq:option").attr("value", option))),
        )
        .render()
}

/// Whether the definition that libvirt has says the same as the wanted one; what libvirt adds itself (UUID, MAC) and
/// where it puts things does not count.
#[must_use]
pub fn is_same(have: &str, want: &str) -> bool {
    match (Element::parse(have), Element::parse(want)) {
        (Ok(have), Ok(want)) => lines(&have) == lines(&want),
        (Ok(_) | Err(_), _) => false,
    }
}

fn lines(network: &Element) -> Vec<String> {
    fn collect(element: &Element, path: &str, into: &mut Vec<String>) {
        let path = format!("{path}/{}", element.name);
        let ignored = ["uuid", "mac"];
        if ignored.contains(&element.name.as_str()) {
            return;
        }
        let mut attributes: Vec<String> = element
            .attributes
            .iter()
            .filter(|(key, _)| !key.starts_with("xmlns") && key != "connections")
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        attributes.sort();
        if !attributes.is_empty() || !element.text.is_empty() {
            into.push(format!("{path} {} {}", attributes.join(" "), element.text));
        }
        for child in &element.children {
            collect(child, &path, into);
        }
    }
    let mut found = Vec::new();
    collect(network, "", &mut found);
    // `enable='yes'` is the default that libvirt leaves out.
    found.retain(|line| !line.starts_with("/network/dns enable=yes"));
    found.sort();
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use nemordp_types::node::EndpointPool;

    fn settings() -> NetworkSettings {
        let endpoints = EndpointPool { address: "203.0.113.1".parse().unwrap(), first_port: 40000, last_port: 40100 };
        NetworkSettings::new("10.64.0.0/29".parse().unwrap(), endpoints)
    }

    #[test]
    fn the_definition_is_the_golden_one() {
        crate::host::golden::assert_golden("network.xml", &network_xml(&settings(), None));
    }

    #[test]
    fn what_libvirt_adds_makes_no_difference_and_what_we_change_does() {
        let want = network_xml(&settings(), None);
        let have = include_str!("../../../tests/golden/network-as-libvirt-has-it.xml");
        assert!(is_same(have, &want));
        let mut other = settings();
        other.dns_forwarders.push("192.0.2.53".parse().unwrap());
        assert!(!is_same(have, &network_xml(&other, None)));
        other = settings();
        other.subnet = "10.64.0.0/28".parse().unwrap();
        assert!(!is_same(have, &network_xml(&other, None)));
        assert!(!is_same("nonsense", &want));
    }
}
