//! Domains against libvirt's own test driver: defined, started, read back, removed, and nothing foreign touched.
#![cfg(feature = "libvirt")]
#![expect(clippy::unwrap_used, reason = "a test ends where it cannot go on")]

use std::net::Ipv4Addr;
use std::path::Path;

use nemordp_agent::config::GpuConfig;
use nemordp_agent::host::Host;
use nemordp_agent::host::disk::{DiskSettings, PoolSettings};
use nemordp_agent::host::gpu::PciAddress;
use nemordp_agent::host::libvirt::connection::Connection;
use nemordp_agent::host::libvirt::parse::pci_devices;
use nemordp_agent::host::libvirt::{LibvirtHost, LibvirtSettings};
use nemordp_agent::host::network::NetworkSettings;
use nemordp_types::instance::{
    DesiredPower, DiskSet, Edition, GpuSpec, GuestSpec, InstanceSpec, Mark, NetworkSpec, ObservedPower,
};
use nemordp_types::node::{Acceleration, EndpointPool};
use nemordp_types::template::{Personalisation, RdpSecurity};
use nemordp_types::{
    Bytes, Endpoint, Generation, GiB, GpuModel, HostName, InstallationId, InstanceId, LoginName, MacAddr, MiB, OrderId,
    Reason, StorageClass, Template, TemplateDigest, TemplateName, Vcpu,
};
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;

/// A node of the test driver, with one domain of somebody else.
const NODE: &str = "<node><cpu><mhz>2600</mhz><model>test</model><active>8</active><nodes>1</nodes><sockets>1</sockets>\
    <cores>4</cores><threads>2</threads></cpu><memory>33554432</memory><domain type='test'><name>theirs</name>\
    <memory>65536</memory><os><type>hvm</type></os></domain></node>";

/// The GPUs of that node.
const GPUS: [&str; 3] = ["0000:01:00.0", "0000:02:00.0", "0000:03:00.0"];

fn gpu_model() -> GpuModel {
    GpuModel::new("rtx4000").unwrap()
}

/// The test driver keeps its state in the connection, so that the test holds the one that the host uses.
struct Rig {
    host: LibvirtHost,
    connect: Connect,
    _directory: tempfile::TempDir,
}

fn installation() -> InstallationId {
    InstallationId::from_uuid(Uuid::from_u128(1))
}

async fn rig_of(installation: InstallationId, connect: Connect) -> Rig {
    let directory = tempfile::tempdir().unwrap();
    let disks = DiskSettings {
        template_dir: directory.path().join("templates"),
        pools: vec![PoolSettings {
            storage_class: StorageClass::new("ssd").unwrap(),
            path: directory.path().join("ssd"),
            clone_width: 2,
        }],
        qemu_img: "/usr/bin/qemu-img".into(),
        owner: None,
        keep_free: Bytes(1 << 20),
    };
    // The test driver knows only its own kind of domain.
    let mut settings = LibvirtSettings::new(Acceleration::Kvm, disks);
    settings.pci_dir = directory.path().join("pci");
    settings.gpus = GPUS.map(|address| GpuConfig { model: gpu_model(), address: address.parse().unwrap() }).to_vec();
    // The last one has failed: the kernel does not show it.
    for address in &GPUS[..2] {
        std::fs::create_dir_all(settings.pci_dir.join(address)).unwrap();
    }
    let endpoints = EndpointPool { address: "203.0.113.1".parse().unwrap(), first_port: 40000, last_port: 40100 };
    let network = NetworkSettings::new("10.64.0.0/24".parse().unwrap(), endpoints);
    let connection = Connection::with_open(connect.clone(), "test:///default");
    let host = LibvirtHost::open_with(connection, settings, network, installation).await.unwrap();
    Rig { host, connect, _directory: directory }
}

async fn rig() -> Rig {
    // `test:///default` is one node for the whole process; a file makes one for this connection alone.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("node.xml");
    std::fs::write(&file, NODE).unwrap();
    rig_of(installation(), Connect::open(Some(&format!("test://{}", file.display()))).unwrap()).await
}

fn instance(number: u8) -> (Mark, InstanceSpec) {
    let order_id = OrderId::from_uuid(Uuid::from_u128(0x300 + u128::from(number)));
    let mark = Mark {
        installation_id: installation(),
        instance_id: InstanceId::from_uuid(Uuid::from_u128(0x200 + u128::from(number))),
        order_id,
        generation: Generation(1),
    };
    let private_ipv4 = Ipv4Addr::new(10, 64, 0, number);
    let login_name = LoginName::new("user").unwrap();
    let spec = InstanceSpec {
        order_id,
        vcpu: Vcpu(2),
        memory: MiB(512),
        disk: GiB(5),
        storage_class: StorageClass::new("ssd").unwrap(),
        template: Template {
            name: TemplateName::new("debian").unwrap(),
            digest: TemplateDigest::from_bytes([7; 32]),
            file_size: Bytes(1),
            virtual_size: Bytes(1 << 30),
            rdp_security: RdpSecurity::Tls,
            personalisation: Personalisation::GuestAgent,
            login_name: login_name.clone(),
        },
        network: NetworkSpec {
            mac: MacAddr::of_private_ipv4(private_ipv4),
            private_ipv4,
            endpoint: Endpoint { address: "203.0.113.1".parse().unwrap(), port: 40000 + u16::from(number) },
        },
        guest: GuestSpec { host_name: HostName::new("desk").unwrap(), login_name, time_zone: None, keyboard: None },
        power: DesiredPower::On,
        suspended: false,
        disks: DiskSet::default(),
        gpus: None,
    };
    (mark, spec)
}

/// The test driver refuses `type='kvm'`; what it is given otherwise is the real description.
fn as_test_domain(xml: &str) -> String {
    xml.replacen("type=\"kvm\"", "type=\"test\"", 1)
}

fn define_by_hand(rig: &Rig, mark: &Mark, spec: &InstanceSpec) -> Domain {
    define_with_gpus(rig, mark, spec, &[])
}

fn define_with_gpus(rig: &Rig, mark: &Mark, spec: &InstanceSpec, gpus: &[PciAddress]) -> Domain {
    use nemordp_agent::host::libvirt::domain_xml::{Surroundings, domain_xml};
    let around = Surroundings {
        disk: Path::new("/nowhere/disk.qcow2"),
        seed: Path::new("/nowhere/seed.img"),
        bypasses_cache: true,
        acceleration: Acceleration::Kvm,
        emulator: None,
        serial_log: None,
        bridge: "nemordp0",
        gpus,
    };
    let xml = as_test_domain(&domain_xml(mark, spec, &around).unwrap());
    Domain::define_xml(&rig.connect, &xml).unwrap()
}

#[tokio::test]
async fn an_instance_is_read_back_started_stopped_and_removed_and_every_call_may_be_repeated() {
    let rig = rig().await;
    let (mark, spec) = instance(2);
    let id = mark.instance_id;
    assert_eq!(rig.host.instance_find(id).await.unwrap(), None);
    define_by_hand(&rig, &mark, &spec);
    let found = rig.host.instance_find(id).await.unwrap().unwrap();
    assert_eq!((found.mark, &found.spec, found.power), (mark, &spec, ObservedPower::Off));
    assert_eq!((found.vcpu, found.memory, found.disk), (Vcpu(2), MiB(512), Bytes(0)));
    for _ in 0..2 {
        rig.host.domain_start(id).await.unwrap();
        assert_eq!(rig.host.instance_find(id).await.unwrap().unwrap().power, ObservedPower::Running);
    }
    assert_eq!(rig.host.domain_undefine(id).await.unwrap_err().reason, Reason::Conflict);
    assert_eq!(rig.host.disk_delete(id, &spec.storage_class).await.unwrap_err().reason, Reason::Conflict);
    for _ in 0..2 {
        rig.host.domain_destroy(id).await.unwrap();
        assert_eq!(rig.host.instance_find(id).await.unwrap().unwrap().power, ObservedPower::Off);
    }
    for _ in 0..2 {
        rig.host.domain_undefine(id).await.unwrap();
        rig.host.disk_delete(id, &spec.storage_class).await.unwrap();
        rig.host.domain_destroy(id).await.unwrap();
    }
    assert!(rig.host.instance_list().await.unwrap().is_empty());
    assert_eq!(rig.host.domain_start(id).await.unwrap_err().reason, Reason::NotFound);
}

#[tokio::test]
async fn gpus_that_a_domain_has_are_not_given_to_another() {
    let rig = rig().await;
    let offered = rig.host.inventory().await.unwrap().gpus;
    assert_eq!(offered.iter().map(|found| found.count).collect::<Vec<_>>(), [2], "one has failed");
    let gpus = |count| Some(GpuSpec { model: gpu_model(), count });
    let ((mark, mut spec), (other, mut theirs)) = (instance(2), instance(3));
    (spec.gpus, theirs.gpus) = (gpus(1), gpus(2));
    define_with_gpus(&rig, &mark, &spec, &[GPUS[1].parse().unwrap()]);
    rig.host.domain_start(mark.instance_id).await.unwrap();
    let refused = rig.host.domain_define(&other, &theirs).await.unwrap_err();
    assert_eq!((refused.reason, refused.field.as_deref()), (Reason::CapacityExhausted, Some("spec.gpus")));
    assert!(refused.context.unwrap().contains(GPUS[1]));
    theirs.gpus = gpus(1);
    for _ in 0..2 {
        rig.host.domain_define(&other, &theirs).await.unwrap();
        let defined = Domain::lookup_by_uuid(&rig.connect, other.instance_id.as_uuid()).unwrap();
        let has: Vec<String> = pci_devices(&defined.get_xml_desc(0).unwrap()).iter().map(ToString::to_string).collect();
        assert_eq!(has, [GPUS[0]], "the one that is left, and its own from then on");
    }
}

#[tokio::test]
async fn a_rescue_system_gets_the_own_disk_while_it_runs_and_only_then() {
    let rig = rig().await;
    let (mut mark, spec) = instance(2);
    let id = mark.instance_id;
    define_by_hand(&rig, &mark, &spec);
    rig.host.domain_start(id).await.unwrap();
    rig.host.disk_attach(id).await.unwrap();
    rig.host.domain_destroy(id).await.unwrap();
    let mut rescued = spec.clone();
    rescued.disks.rescue = Some(Edition(4));
    mark.generation = Generation(4);
    let domain = define_by_hand(&rig, &mark, &rescued);
    rig.host.disk_attach(id).await.unwrap();
    rig.host.domain_start(id).await.unwrap();
    assert!(!domain.get_xml_desc(0).unwrap().contains("<serial>own</serial>"), "it boots alone");
    // The driver cannot plug anything in: that it is asked to shows that only a running rescue system gets the disk.
    let asked = rig.host.disk_attach(id).await.unwrap_err();
    assert!(asked.context.unwrap().contains("virDomainAttachDeviceFlags"));
    assert_eq!(rig.host.disk_grow(id, &rescued).await.unwrap_err().reason, Reason::Conflict, "it may be in use");
    let unrelated = InstanceSpec { disks: DiskSet { system: Edition(9), ..DiskSet::default() }, ..spec };
    assert_eq!(rig.host.disk_tidy(id, &unrelated).await.unwrap_err().reason, Reason::Conflict, "it boots from another");
}

#[tokio::test]
async fn foreign_domains_are_neither_listed_nor_touched() {
    let rig = rig().await;
    let (mark, spec) = instance(2);
    let id = mark.instance_id;
    let name = format!("nemordp-{id}");
    let bare = format!(
        "<domain type='test'><name>{name}</name><uuid>{id}</uuid><memory>65536</memory>\
         <os><type>hvm</type></os></domain>"
    );
    let foreign = Domain::define_xml(&rig.connect, &bare).unwrap();
    foreign.create().unwrap();
    let before = foreign.get_xml_desc(0).unwrap();
    let refused = [
        rig.host.domain_define(&mark, &spec).await,
        rig.host.domain_start(id).await,
        rig.host.domain_shutdown(id).await,
        rig.host.domain_destroy(id).await,
        rig.host.domain_undefine(id).await,
        rig.host.disk_delete(id, &spec.storage_class).await,
        rig.host.disk_grow(id, &spec).await,
        rig.host.disk_tidy(id, &spec).await,
        rig.host.disk_attach(id).await,
        rig.host.guest_end_sessions(id, &spec.guest.login_name, false).await,
        rig.host.guest_personalise(id, &spec.guest).await,
    ];
    for result in refused {
        assert_eq!(result.unwrap_err().reason, Reason::NotOurs);
    }
    assert!(rig.host.instance_list().await.unwrap().is_empty(), "the driver's own domain is not listed either");
    assert_eq!(rig.host.instance_find(id).await.unwrap(), None);
    assert_eq!(foreign.get_xml_desc(0).unwrap(), before);
    assert!(foreign.is_active().unwrap());
}

#[tokio::test]
async fn a_foreign_domain_of_the_same_name_under_another_uuid_stays() {
    let rig = rig().await;
    let (mark, spec) = instance(2);
    let bare = format!(
        "<domain type='test'><name>nemordp-{}</name><memory>65536</memory><os><type>hvm</type></os></domain>",
        mark.instance_id
    );
    let foreign = Domain::define_xml(&rig.connect, &bare).unwrap();
    assert_eq!(rig.host.domain_define(&mark, &spec).await.unwrap_err().reason, Reason::NotOurs);
    assert_eq!(rig.host.domain_destroy(mark.instance_id).await.unwrap_err().reason, Reason::NotOurs);
    assert_eq!(rig.host.domain_undefine(mark.instance_id).await.unwrap_err().reason, Reason::NotOurs);
    foreign.get_xml_desc(0).unwrap();
}

#[tokio::test]
async fn another_installations_instance_stays() {
    let rig = rig().await;
    let (mark, spec) = instance(2);
    define_by_hand(&rig, &mark, &spec);
    let other = rig_of(InstallationId::from_uuid(Uuid::from_u128(2)), rig.connect.clone()).await;
    assert!(other.host.instance_list().await.unwrap().is_empty());
    for result in [
        other.host.domain_start(mark.instance_id).await,
        other.host.domain_destroy(mark.instance_id).await,
        other.host.domain_undefine(mark.instance_id).await,
        other.host.domain_define(&mark, &spec).await,
    ] {
        assert_eq!(result.unwrap_err().reason, Reason::NotOurs);
    }
    assert_eq!(rig.host.instance_list().await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_descriptions_that_real_libvirt_prints_are_those_that_the_parser_is_tested_with() {
    let rig = rig().await;
    let (mark, spec) = instance(9);
    let domain = define_by_hand(&rig, &mark, &spec);
    let printed = domain.get_xml_desc(0).unwrap();
    for part in ["<port isolated='yes'/>", "ndt0a400009", "https://nemordp.dev/xmlns/instance/1", "discard='unmap'"] {
        assert!(printed.contains(part), "libvirt dropped {part}: {printed}");
    }
}

#[tokio::test]
async fn the_inventory_counts_what_is_reserved() {
    let rig = rig().await;
    let (mark, spec) = instance(2);
    define_by_hand(&rig, &mark, &spec);
    let inventory = rig.host.inventory().await.unwrap();
    assert_eq!(inventory.pools.len(), 1);
    assert_eq!(inventory.pools[0].reserved, Bytes(5 << 30));
    assert!(inventory.pools[0].physical > inventory.pools[0].free);
    assert!(inventory.hypervisor.starts_with("libvirt "), "{}", inventory.hypervisor);
    assert!(inventory.vcpu.0 > 0 && inventory.memory > inventory.memory_for_instances);
    rig.host.load().await.unwrap();
}
