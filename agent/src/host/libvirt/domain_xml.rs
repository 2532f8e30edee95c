//! A domain's description: a pure function of what is wanted, the mark, and where the files lie.
//!
//! The mark and the whole specification stand in the metadata, so that an agent that was restarted reads back what it
//! runs. The description never holds a password.

use std::path::Path;

use nemordp_types::instance::{InstanceSpec, Mark};
use nemordp_types::node::Acceleration;
use nemordp_types::template::Personalisation;
use nemordp_types::{Failure, InstanceId};

use crate::host::gpu::PciAddress;
use crate::host::network::tap_name;
use crate::host::xml::Element;

/// Namespace of our metadata.
pub const NAMESPACE: &str = "https://nemordp.dev/xmlns/instance/1";

/// Where a domain's files lie and what it is connected to.
#[derive(Debug, Clone)]
pub struct Surroundings<'a> {
    /// The disk.
    pub disk: &'a Path,
    /// The seed, used when the template is personalised by cloud-init.
    pub seed: &'a Path,
    /// Whether the disk's file system takes `O_DIRECT`.
    pub bypasses_cache: bool,
    /// How it is executed.
    pub acceleration: Acceleration,
    /// Path of QEMU; libvirt's choice when absent.
    pub emulator: Option<&'a Path>,
    /// File of the serial console.
    pub serial_log: Option<&'a Path>,
    /// The guests' bridge.
    pub bridge: &'a str,
    /// The GPUs that are handed through to it.
    pub gpus: &'a [PciAddress],
}

/// Where a rescue system finds the instance's own disk; the seed may have the second place.
pub const OWN_DISK_TARGET: &str = "vdc";
/// What a rescue system calls that disk: `/dev/disk/by-id/virtio-own`.
const OWN_DISK_SERIAL: &str = "own";

/// Name of an instance's domain.
#[must_use]
pub fn domain_name(instance: InstanceId) -> String {
    format!("nemordp-{instance}")
}

/// Describes the domain.
pub fn domain_xml(mark: &Mark, spec: &InstanceSpec, around: &Surroundings<'_>) -> Result<String, Failure> {
    let kvm = match around.acceleration {
        Acceleration::Kvm => true,
        Acceleration::Tcg => false,
        Acceleration::Simulated => return Err(Failure::field("acceleration", "use kvm or tcg with libvirt")),
    };
    let os = Element::new("os")
        .child(Element::new("type").attr("arch", "x86_64").attr("machine", "q35").content("hvm"))
        .child(Element::new("boot").attr("dev", "hd"));
    let domain = Element::new("domain")
        .attr("type", if kvm { "kvm" } else { "qemu" })
        .child(Element::new("name").content(domain_name(mark.instance_id)))
        .child(Element::new("uuid").content(mark.instance_id))
        .child(Element::new("title").content(format!("NemoRDP {}", spec.guest.host_name)))
        .child(metadata(mark, spec)?)
        .child(Element::new("memory").attr("unit", "MiB").content(spec.memory.0))
        .child(Element::new("vcpu").attr("placement", "static").content(spec.vcpu.0))
        .child(os)
        .child(Element::new("features").child(Element::new("acpi")).child(Element::new("apic")))
        .child(cpu(kvm, spec.vcpu.0))
        .child(clock())
        .child(Element::new("on_poweroff").content("destroy"))
        .child(Element::new("on_reboot").content(on_reboot(spec)))
        .child(Element::new("on_crash").content("destroy"))
        .child(devices(spec, around, kvm));
    Ok(domain.render())
}

fn metadata(mark: &Mark, spec: &InstanceSpec) -> Result<Element, Failure> {
    let json = serde_json::to_string(spec).map_err(Failure::internal)?;
    let ours = Element::new("nemordp:instance")
        .attr("xmlns:nemordp", NAMESPACE)
        .attr("installation", mark.installation_id)
        .attr("instance", mark.instance_id)
        .attr("order", mark.order_id)
        .attr("generation", mark.generation.0)
        .child(Element::new("nemordp:spec").content(json));
    Ok(Element::new("metadata").child(ours))
}

/// One socket with all cores: desktop systems are licensed per socket.
///
/// Emulation gets the plainest 64-bit processor with what x86-64-v2 asks for, because current distributions need that:
/// a guest that sees more features does more work for each switch of task, which emulation pays for (measured to the
/// agent's first answer: 18 to 20 seconds of processor time, 22 to 26 with every feature).
fn cpu(kvm: bool, vcpu: u32) -> Element {
    let topology =
        Element::new("topology").attr("sockets", "1").attr("dies", "1").attr("cores", vcpu).attr("threads", "1");
    if kvm {
        let cpu = Element::new("cpu").attr("mode", "host-passthrough").attr("check", "none").attr("migratable", "on");
        return cpu.child(topology);
    }
    let features = ["ssse3", "sse4.1", "sse4.2", "popcnt"];
    Element::new("cpu")
        .attr("mode", "custom")
        .attr("match", "exact")
        .attr("check", "none")
        .child(Element::new("model").attr("fallback", "forbid").content("qemu64"))
        .child(topology)
        .with(features.map(|name| Element::new("feature").attr("policy", "require").attr("name", name)))
}

/// A rescue system that reboots by itself would boot beside the instance's own disk: it is off instead, and started anew.
const fn on_reboot(spec: &InstanceSpec) -> &'static str {
    if spec.disks.rescue.is_some() { "destroy" } else { "restart" }
}

fn clock() -> Element {
    let timer = |name: &str| Element::new("timer").attr("name", name);
    Element::new("clock")
        .attr("offset", "utc")
        .child(timer("rtc").attr("tickpolicy", "catchup"))
        .child(timer("pit").attr("tickpolicy", "delay"))
        .child(timer("hpet").attr("present", "no"))
}

fn devices(spec: &InstanceSpec, around: &Surroundings<'_>, kvm: bool) -> Element {
    let emulator = around.emulator.map(|path| Element::new("emulator").content(path.display()));
    let seed = match spec.template.personalisation {
        Personalisation::CloudInit => Some(seed(around.seed)),
        Personalisation::GuestAgent => None,
    };
    Element::new("devices")
        .with(emulator)
        .child(disk(around.disk, kvm && around.bypasses_cache, "vda"))
        .with(seed)
        .child(Element::new("controller").attr("type", "usb").attr("model", "none"))
        .child(interface(spec, around.bridge))
        .child(serial(around.serial_log))
        .child(
            Element::new("channel")
                .attr("type", "unix")
                .child(Element::new("target").attr("type", "virtio").attr("name", "org.qemu.guest_agent.0")),
        )
        .child(balloon(kvm))
        .child(
            Element::new("rng")
                .attr("model", "virtio")
                .child(Element::new("backend").attr("model", "random").content("/dev/urandom")),
        )
        .with(around.gpus.iter().copied().map(gpu))
}

/// A GPU of the machine, taken from the host's driver when the guest starts and given back when it ends.
fn gpu(at: PciAddress) -> Element {
    let address = Element::new("address")
        .attr("domain", format!("{:#06x}", at.domain))
        .attr("bus", format!("{:#04x}", at.bus))
        .attr("slot", format!("{:#04x}", at.slot))
        .attr("function", format!("{:#x}", at.function));
    Element::new("hostdev")
        .attr("mode", "subsystem")
        .attr("type", "pci")
        .attr("managed", "yes")
        .child(Element::new("source").child(address))
}

/// Both caches are safe: what the guest flushed is on the disk. Past the page cache is quicker where a processor is not
/// emulated; under emulation the page cache is.
fn disk(path: &Path, direct: bool, target: &str) -> Element {
    let driver = Element::new("driver").attr("name", "qemu").attr("type", "qcow2");
    let driver =
        if direct { driver.attr("cache", "none").attr("io", "native") } else { driver.attr("cache", "writeback") };
    let driver = driver.attr("discard", "unmap").attr("detect_zeroes", "unmap").attr("error_policy", "enospace");
    Element::new("disk")
        .attr("type", "file")
        .attr("device", "disk")
        .child(driver)
        .child(Element::new("source").attr("file", path.display()))
        .child(Element::new("target").attr("dev", target).attr("bus", "virtio"))
}

/// The instance's own disk as it is plugged into a rescue system; `direct`: past the page cache.
#[must_use]
pub fn own_disk(path: &Path, direct: bool) -> String {
    disk(path, direct, OWN_DISK_TARGET).child(Element::new("serial").content(OWN_DISK_SERIAL)).render()
}

fn seed(path: &Path) -> Element {
    Element::new("disk")
        .attr("type", "file")
        .attr("device", "disk")
        .child(Element::new("driver").attr("name", "qemu").attr("type", "raw"))
        .child(Element::new("source").attr("file", path.display()))
        .child(Element::new("target").attr("dev", "vdb").attr("bus", "virtio"))
        .child(Element::new("readonly"))
}

fn interface(spec: &InstanceSpec, bridge: &str) -> Element {
    Element::new("interface")
        .attr("type", "bridge")
        .child(Element::new("mac").attr("address", spec.network.mac))
        .child(Element::new("source").attr("bridge", bridge))
        .child(Element::new("target").attr("dev", tap_name(spec.network.private_ipv4)))
        .child(Element::new("model").attr("type", "virtio"))
        .child(Element::new("port").attr("isolated", "yes"))
}

fn serial(log: Option<&Path>) -> Element {
    let target = Element::new("target").attr("port", "0");
    match log {
        Some(path) => Element::new("serial")
            .attr("type", "file")
            .child(Element::new("source").attr("path", path.display()).attr("append", "on"))
            .child(target),
        None => Element::new("serial").attr("type", "pty").child(target),
    }
}

/// Gives memory back to the node that the guest has freed; emulation has no use for it.
fn balloon(kvm: bool) -> Element {
    if kvm {
        Element::new("memballoon").attr("model", "virtio").attr("freePageReporting", "on")
    } else {
        Element::new("memballoon").attr("model", "none")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use nemordp_types::instance::{DesiredPower, DiskSet, GpuSpec, GuestSpec, NetworkSpec};
    use nemordp_types::template::RdpSecurity;
    use nemordp_types::{
        Bytes, Endpoint, Generation, GiB, GpuModel, HostName, InstallationId, KeyboardLayout, LoginName, MacAddr, MiB,
        OrderId, StorageClass, Template, TemplateDigest, TemplateName, TimeZoneName, Vcpu,
    };

    pub(in super::super) fn mark() -> Mark {
        Mark {
            installation_id: InstallationId::from_uuid(uuid::Uuid::from_u128(1)),
            instance_id: InstanceId::from_uuid(uuid::Uuid::from_u128(0x1234)),
            order_id: OrderId::from_uuid(uuid::Uuid::from_u128(3)),
            generation: Generation(7),
        }
    }

    pub(in super::super) fn spec(personalisation: Personalisation) -> InstanceSpec {
        let private_ipv4 = std::net::Ipv4Addr::new(10, 64, 0, 2);
        InstanceSpec {
            order_id: mark().order_id,
            vcpu: Vcpu(2),
            memory: MiB(2048),
            disk: GiB(50),
            storage_class: StorageClass::new("nvme").unwrap(),
            template: Template {
                name: TemplateName::new("debian-12-xrdp").unwrap(),
                digest: TemplateDigest::from_bytes([0xab; 32]),
                file_size: Bytes(700 << 20),
                virtual_size: Bytes(4 << 30),
                rdp_security: RdpSecurity::Tls,
                personalisation,
                login_name: LoginName::new("user").unwrap(),
            },
            network: NetworkSpec {
                mac: MacAddr::of_private_ipv4(private_ipv4),
                private_ipv4,
                endpoint: Endpoint { address: "203.0.113.1".parse().unwrap(), port: 40001 },
            },
            guest: GuestSpec {
                host_name: HostName::new("desk-1").unwrap(),
                login_name: LoginName::new("user").unwrap(),
                time_zone: Some(TimeZoneName::new("Europe/Berlin").unwrap()),
                keyboard: Some(KeyboardLayout::new("de").unwrap()),
            },
            power: DesiredPower::On,
            suspended: false,
            disks: DiskSet::default(),
            gpus: None,
        }
    }

    fn spec_with_gpus(count: u32) -> InstanceSpec {
        let gpus = GpuSpec { model: GpuModel::new("rtx4000").unwrap(), count };
        InstanceSpec { gpus: Some(gpus), ..spec(Personalisation::GuestAgent) }
    }

    pub(in super::super) fn around(acceleration: Acceleration) -> Surroundings<'static> {
        Surroundings {
            disk: Path::new("/pool/disk.qcow2"),
            seed: Path::new("/pool/disk.seed.img"),
            bypasses_cache: true,
            acceleration,
            emulator: None,
            serial_log: None,
            bridge: "nemordp0",
            gpus: &[],
        }
    }

    #[test]
    fn each_kind_of_domain_is_the_golden_one() {
        let golden = [
            (Acceleration::Kvm, Personalisation::GuestAgent, "domain-kvm.xml"),
            (Acceleration::Tcg, Personalisation::CloudInit, "domain-tcg-cloud-init.xml"),
        ];
        for (acceleration, personalisation, wanted) in golden {
            let xml = domain_xml(&mark(), &spec(personalisation), &around(acceleration)).unwrap();
            crate::host::golden::assert_golden(wanted, &xml);
        }
    }

    #[test]
    fn gpus_are_handed_through_where_they_sit() {
        let gpus = ["0000:01:00.0".parse().unwrap(), "0001:af:1e.1".parse().unwrap()];
        let around = Surroundings { gpus: &gpus, ..around(Acceleration::Kvm) };
        let xml = domain_xml(&mark(), &spec_with_gpus(2), &around).unwrap();
        crate::host::golden::assert_golden("domain-with-gpus.xml", &xml);
        assert_eq!(super::super::parse::pci_devices(&xml), gpus);
    }

    #[test]
    fn a_rescue_system_does_not_boot_beside_the_own_disk() {
        let mut rescued = spec(Personalisation::GuestAgent);
        rescued.disks.rescue = Some(nemordp_types::instance::Edition(9));
        let xml = domain_xml(&mark(), &rescued, &around(Acceleration::Kvm)).unwrap();
        assert!(xml.contains("<on_reboot>destroy</on_reboot>"), "{xml}");
        assert!(!xml.contains(OWN_DISK_TARGET), "the own disk is plugged in after the boot, never defined: {xml}");
        let own = own_disk(Path::new("/pool/disk.qcow2"), true);
        crate::host::golden::assert_golden("own-disk-of-a-rescued-domain.xml", &own);
    }

    #[test]
    fn simulated_guests_are_not_for_libvirt() {
        let failure = domain_xml(&mark(), &spec(Personalisation::GuestAgent), &around(Acceleration::Simulated));
        assert_eq!(failure.unwrap_err().field.as_deref(), Some("acceleration"));
    }
}
