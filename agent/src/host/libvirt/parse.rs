//! Reads a domain's description back: who owns it and, when we do, what it was made from.

use std::path::PathBuf;

use nemordp_types::instance::{InstanceSpec, Mark};
use nemordp_types::{Generation, InstallationId, MiB, Vcpu};

use super::domain_xml::NAMESPACE;
use crate::host::gpu::PciAddress;
use crate::host::xml::Element;

/// A domain that carries our mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OurDomain {
    /// The mark.
    pub mark: Mark,
    /// What it was made from.
    pub spec: InstanceSpec,
    /// Processors as defined.
    pub vcpu: Vcpu,
    /// Memory as defined.
    pub memory: MiB,
    /// Its first disk.
    pub disk: Option<PathBuf>,
    /// Devices of the machine that it was given.
    pub gpus: u32,
}

/// Reads a description; none unless it carries this installation's mark, whole and for this very domain: a copy under
/// another UUID has our metadata but is not ours.
#[must_use]
pub fn our_domain(xml: &str, installation: InstallationId) -> Option<OurDomain> {
    let domain = Element::parse(xml).ok()?;
    let ours = domain
        .find("metadata")?
        .children
        .iter()
        .find(|element| element.namespace() == Some(NAMESPACE) && element.local_name() == "instance")?;
    let mark = Mark {
        installation_id: ours.get("installation")?.parse().ok()?,
        instance_id: ours.get("instance")?.parse().ok()?,
        order_id: ours.get("order")?.parse().ok()?,
        generation: Generation(ours.get("generation")?.parse().ok()?),
    };
    let same_domain = domain.find("uuid")?.text.trim() == mark.instance_id.to_string();
    if mark.installation_id != installation || !same_domain {
        return None;
    }
    let spec = ours.children.iter().find(|element| element.local_name() == "spec")?;
    let spec: InstanceSpec = serde_json::from_str(&spec.text).ok()?;
    let gpus = u32::try_from(devices_of(&domain).len()).unwrap_or(u32::MAX);
    Some(OurDomain { mark, spec, vcpu: vcpu(&domain), memory: memory(&domain), disk: disk(&domain), gpus })
}

fn vcpu(domain: &Element) -> Vcpu {
    Vcpu(domain.find("vcpu").and_then(|element| element.text.parse().ok()).unwrap_or(0))
}

/// libvirt writes KiB, whatever unit it was given.
fn memory(domain: &Element) -> MiB {
    let Some(element) = domain.find("memory") else { return MiB::ZERO };
    let amount: u64 = element.text.parse().unwrap_or(0);
    match element.get("unit") {
        Some("MiB" | "M") => MiB(amount),
        Some("GiB" | "G") => MiB(amount.saturating_mul(1024)),
        Some("b" | "bytes") => MiB(amount >> 20),
        Some(_) | None => MiB(amount >> 10),
    }
}

fn disk(domain: &Element) -> Option<PathBuf> {
    let disks = domain.find("devices")?.children.iter().filter(|element| element.name == "disk");
    let mut first = disks.filter(|disk| disk.find("target").and_then(|target| target.get("dev")) == Some("vda"));
    first.next()?.find("source")?.get("file").map(PathBuf::from)
}

/// Whether a description has a disk at this place.
#[must_use]
pub fn has_disk(xml: &str, target: &str) -> bool {
    let Ok(domain) = Element::parse(xml) else { return false };
    let devices = domain.find("devices").into_iter().flat_map(|devices| &devices.children);
    let mut targets = devices.filter(|device| device.name == "disk").filter_map(|disk| disk.find("target"));
    targets.any(|found| found.get("dev") == Some(target))
}

/// The machine's PCI devices that are handed through to a domain.
#[must_use]
pub fn pci_devices(xml: &str) -> Vec<PciAddress> {
    Element::parse(xml).map_or_else(|_| Vec::new(), |domain| devices_of(&domain))
}

fn devices_of(domain: &Element) -> Vec<PciAddress> {
    let devices = domain.find("devices").into_iter().flat_map(|devices| &devices.children);
    let handed_through = devices.filter(|device| matches!(device.name.as_str(), "hostdev" | "interface"));
    let sources = handed_through.filter_map(|device| device.find("source")?.find("address"));
    sources.filter_map(pci_address).collect()
}

/// libvirt writes hexadecimal numbers with `0x`, and takes decimal ones too.
fn pci_address(address: &Element) -> Option<PciAddress> {
    let number = |key: &str| -> Option<u16> {
        let text = address.get(key)?;
        text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |hex| u16::from_str_radix(hex, 16).ok())
    };
    let byte = |key: &str| u8::try_from(number(key)?).ok();
    Some(PciAddress {
        domain: number("domain").unwrap_or(0),
        bus: byte("bus")?,
        slot: byte("slot")?,
        function: byte("function").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::super::domain_xml::domain_xml;
    use super::super::domain_xml::tests::{around, mark, spec};
    use super::*;
    use nemordp_types::node::Acceleration;
    use nemordp_types::template::Personalisation;

    fn written() -> String {
        domain_xml(&mark(), &spec(Personalisation::GuestAgent), &around(Acceleration::Tcg)).unwrap()
    }

    #[test]
    fn what_was_written_is_read_back() {
        let ours = our_domain(&written(), mark().installation_id).unwrap();
        assert_eq!(ours.mark, mark());
        assert_eq!(ours.spec, spec(Personalisation::GuestAgent));
        assert_eq!((ours.vcpu, ours.memory, ours.gpus), (Vcpu(2), MiB(2048), 0));
        assert_eq!(ours.disk, Some(PathBuf::from("/pool/disk.qcow2")));
    }

    #[test]
    fn devices_that_are_handed_through_are_found_however_they_are_written() {
        let xml = "<domain><devices>\
                   <hostdev mode='subsystem' type='pci' managed='yes'><driver name='vfio'/><source>\
                   <address domain='0x0000' bus='0x01' slot='0x1f' function='0x7'/></source>\
                   <address type='pci' domain='0x0000' bus='0x05' slot='0x00' function='0x0'/></hostdev>\
                   <hostdev mode='subsystem' type='usb'><source><vendor id='0x1234'/></source></hostdev>\
                   <interface type='hostdev'><source><address type='pci' domain='0' bus='10' slot='2' function='0'/></source></interface>\
                   <interface type='bridge'><source bridge='br0'/></interface>\
                   </devices></domain>";
        let found: Vec<String> = pci_devices(xml).iter().map(ToString::to_string).collect();
        assert_eq!(found, ["0000:01:1f.7", "0000:0a:02.0"]);
        assert!(pci_devices("nonsense").is_empty());
    }

    #[test]
    fn what_was_handed_through_by_hand_is_counted() {
        let device =
            "<hostdev type='pci'><source><address domain='0' bus='1' slot='0' function='0'/></source></hostdev>";
        let changed = written().replace("</devices>", &format!("{device}</devices>"));
        assert_eq!(our_domain(&changed, mark().installation_id).unwrap().gpus, 1);
    }

    #[test]
    fn another_installations_mark_a_copy_and_a_broken_mark_are_foreign() {
        let xml = written();
        let other = InstallationId::from_uuid(uuid::Uuid::from_u128(2));
        assert_eq!(our_domain(&xml, other), None);
        let id = mark().instance_id.to_string();
        let copy = xml.replace(&format!("<uuid>{id}"), "<uuid>00000000-0000-0000-0000-000000009999");
        assert_eq!(our_domain(&copy, mark().installation_id), None);
        for (from, to) in [("generation=\"7\"", "generation=\"x\""), (NAMESPACE, "urn:other"), ("{&quot;", "{{")] {
            assert!(xml.contains(from), "{from}");
            assert_eq!(our_domain(&xml.replace(from, to), mark().installation_id), None, "{from}");
        }
        assert_eq!(our_domain("nonsense", mark().installation_id), None);
    }

    #[test]
    fn a_foreign_domain_as_libvirt_prints_it_is_ignored_and_ours_is_read() {
        let foreign = include_str!("../../../tests/golden/foreign-domain-as-libvirt-has-it.xml");
        assert_eq!(our_domain(foreign, mark().installation_id), None);
        let ours = include_str!("../../../tests/golden/our-domain-as-libvirt-has-it.xml");
        let read = our_domain(ours, mark().installation_id).unwrap();
        assert_eq!(read.mark.instance_id.to_string(), "00000000-0000-0000-0000-000000000202");
        assert_eq!((read.vcpu, read.memory), (Vcpu(1), MiB(1024)));
        assert_eq!(read.spec.guest.host_name.as_str(), "desk-2");
        assert_eq!(read.spec.network.endpoint.port, 40_002);
        assert!(read.disk.unwrap().ends_with("00000000-0000-0000-0000-000000000202.qcow2"));
    }
}
