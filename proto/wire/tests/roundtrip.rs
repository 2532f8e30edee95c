//! What is written reads back the same, and junk is refused with the field's name.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use nemordp_types::guest::{Account, AccountState, GuestSession, LoginRefusal};
use nemordp_types::instance::{
    DesiredPower, DiskSet, Edition, GpuSpec, GuestSpec, InstanceSpec, InstanceStatus, NetworkSpec, ObservedPower,
};
use nemordp_types::node::{Acceleration, EndpointPool, GpuInventory, NodeInventory, NodeLoad, PoolInventory};
use nemordp_types::operation::{Operation, OperationKind, OperationState, Stage};
use nemordp_types::template::{Personalisation, RdpSecurity};
use nemordp_types::{
    Bytes, Endpoint, Failure, Fence, Generation, GiB, GpuModel, HostName, InstanceId, LoginName, MacAddr, ManualClock,
    MiB, Mutation, OperationId, OrderId, Pair, Reason, SeededEntropy, StorageClass, Template, TemplateDigest,
    TemplateName, Vcpu,
};
use nemordp_wire::v1;
use proptest::prelude::*;

fn template(size: u64, tls: bool) -> Template {
    Template {
        name: TemplateName::new("debian-12-xrdp").unwrap(),
        digest: TemplateDigest::from_bytes([3; 32]),
        file_size: Bytes(size),
        virtual_size: Bytes(size * 2),
        rdp_security: if tls { RdpSecurity::Tls } else { RdpSecurity::Nla },
        personalisation: if tls { Personalisation::GuestAgent } else { Personalisation::CloudInit },
        login_name: LoginName::new("user").unwrap(),
    }
}

fn spec(seed: u64, last: u8, port: u16, tls: bool) -> InstanceSpec {
    let (clock, entropy) = (ManualClock::at_second(1_700_000_000), SeededEntropy::new(seed));
    let private_ipv4 = std::net::Ipv4Addr::new(10, 64, 0, last);
    InstanceSpec {
        order_id: OrderId::new(&clock, &entropy),
        vcpu: Vcpu(1 + u32::from(last)),
        memory: MiB(512),
        disk: GiB(50),
        storage_class: StorageClass::new("nvme").unwrap(),
        template: template(1 << 30, tls),
        network: NetworkSpec {
            mac: MacAddr::of_private_ipv4(private_ipv4),
            private_ipv4,
            endpoint: Endpoint { address: "198.18.0.9".parse().unwrap(), port },
        },
        guest: GuestSpec {
            host_name: HostName::new("desk-1").unwrap(),
            login_name: LoginName::new("user").unwrap(),
            time_zone: tls.then(|| "Europe/Berlin".parse().unwrap()),
            keyboard: (!tls).then(|| "de".parse().unwrap()),
        },
        power: if tls { DesiredPower::On } else { DesiredPower::Off },
        suspended: !tls,
        disks: if tls {
            DiskSet::default()
        } else {
            DiskSet { system: Edition(4), rescue: Some(Edition(9)), kept: Some(Edition::default()) }
        },
        gpus: tls.then(|| GpuSpec { model: GpuModel::new("rtx4000").unwrap(), count: 2 }),
    }
}

fn inventory() -> NodeInventory {
    let pool = |class: &str| PoolInventory {
        storage_class: StorageClass::new(class).unwrap(),
        physical: Bytes(9),
        free: Bytes(5),
        reserved: Bytes(4),
    };
    NodeInventory {
        agent_version: "0.1.0".to_owned(),
        hypervisor: "libvirt".to_owned(),
        acceleration: Acceleration::Tcg,
        vcpu: Vcpu(2),
        memory: MiB(4096),
        memory_for_instances: MiB(3072),
        pools: vec![pool("nvme"), pool("hdd")],
        private_subnet: "10.64.0.0/24".parse().unwrap(),
        endpoints: EndpointPool { address: "198.18.0.9".parse().unwrap(), first_port: 20_000, last_port: 20_100 },
        templates: vec![TemplateDigest::from_bytes([3; 32])],
        boot_id: "b".to_owned(),
        gpus: vec![GpuInventory { model: GpuModel::new("l40s").unwrap(), count: 4 }],
    }
}

proptest! {
    #[test]
    fn an_instance_spec_survives(seed: u64, last in 2u8..=254, port in 1u16.., tls: bool) {
        let spec = spec(seed, last, port, tls);
        prop_assert_eq!(InstanceSpec::try_from(v1::InstanceSpec::from(&spec)).unwrap(), spec);
    }

    #[test]
    fn a_status_and_an_operation_survive(seed: u64, generation in 1u64.., fence in 1u64.., percent in 0u8..=100, failed: bool) {
        let (clock, entropy) = (ManualClock::at_second(1_700_000_000), SeededEntropy::new(seed));
        let pair = Pair { generation: Generation(generation), fence: Fence(fence) };
        let at = jiff::Timestamp::from_microsecond(1_700_000_000_123_456).unwrap();
        let status = InstanceStatus {
            instance_id: InstanceId::new(&clock, &entropy),
            order_id: OrderId::new(&clock, &entropy),
            pair,
            power: if failed { ObservedPower::Paused } else { ObservedPower::Running },
            guest_agent: failed,
            confirmed_ipv4: failed.then(|| "10.64.0.2".parse().unwrap()),
            rdp_certificate_sha256: failed.then_some([9; 32]),
            started_at: failed.then_some(at),
            vcpu: Vcpu(2),
            memory: MiB(3),
            disk: Bytes(4),
            gpus: failed.then_some(0),
        };
        prop_assert_eq!(InstanceStatus::try_from(v1::InstanceStatus::from(&status)).unwrap(), status.clone());

        let operation = Operation {
            mutation: Mutation { operation_id: OperationId::new(&clock, &entropy), instance_id: status.instance_id, pair },
            kind: OperationKind::SetPassword,
            stage: Stage::GuestAgent,
            percent: failed.then_some(percent),
            state: if failed {
                OperationState::Failed(Failure::new(Reason::DiskFull, "make room").with_context("ENOSPC"))
            } else {
                OperationState::Succeeded
            },
            accepted_at: at,
            finished_at: failed.then_some(at),
        };
        prop_assert_eq!(Operation::try_from(v1::Operation::from(&operation)).unwrap(), operation);
    }
}

#[test]
fn node_and_guest_messages_survive() {
    let inventory = inventory();
    assert_eq!(NodeInventory::try_from(v1::NodeInventory::from(&inventory)).unwrap(), inventory);
    let load = NodeLoad { cpu_pressure: 99.5, io_pressure: 1.25, clones: 3, ..NodeLoad::default() };
    for load in [load, NodeLoad { steal: Some(0.5), disk_latency_ms: Some(12.5), ..load }] {
        assert_eq!(NodeLoad::try_from(v1::NodeLoad::from(&load)).unwrap(), load);
    }
    let account = Account {
        login_name: LoginName::new("user").unwrap(),
        state: AccountState::Locked,
        last_refusal: Some(LoginRefusal::Authentication),
    };
    assert_eq!(Account::try_from(v1::GetAccountResponse::from(&account)).unwrap(), account);
    let session = GuestSession { id: ":10".to_owned(), login_name: LoginName::new("user").unwrap(), started_at: None };
    assert_eq!(GuestSession::try_from(v1::GuestSession::from(&session)).unwrap(), session);
}

/// Breaks a good specification in one place and returns the field that the error names.
fn field_of(change: impl FnOnce(&mut v1::InstanceSpec)) -> String {
    let mut message = v1::InstanceSpec::from(&spec(1, 9, 3389, true));
    change(&mut message);
    InstanceSpec::try_from(message).unwrap_err().field.unwrap_or_default()
}

#[test]
fn junk_in_a_specification_names_its_field() {
    assert_eq!(field_of(|m| m.vcpu = 0), "vcpu");
    assert_eq!(field_of(|m| m.memory_mib = 0), "memory_mib");
    assert_eq!(field_of(|m| m.disk_gib = 1), "disk_gib");
    assert_eq!(field_of(|m| m.order_id = vec![1].into()), "order_id");
    assert_eq!(field_of(|m| m.mac = "01:00:00:00:00:00".to_owned()), "mac");
    assert_eq!(field_of(|m| m.private_ipv4 = "::1".to_owned()), "private_ipv4");
    assert_eq!(field_of(|m| m.endpoint = None), "endpoint");
    assert_eq!(field_of(|m| m.endpoint.as_mut().unwrap().port = 0), "endpoint.port");
    assert_eq!(field_of(|m| m.template = None), "template");
    assert_eq!(field_of(|m| m.template.as_mut().unwrap().digest = vec![0; 31].into()), "template.digest");
    assert_eq!(field_of(|m| m.host_name = "a b".to_owned()), "host_name");
    assert_eq!(field_of(|m| m.login_name = "root;".to_owned()), "login_name");
    assert_eq!(field_of(|m| m.time_zone = "../x".to_owned()), "time_zone");
    assert_eq!(field_of(|m| m.keyboard = "$(x)".to_owned()), "keyboard");
    assert_eq!(field_of(|m| m.power = 99), "power");
    assert_eq!(field_of(|m| m.storage_class = String::new()), "storage_class");
    assert_eq!(field_of(|m| m.gpus.as_mut().unwrap().count = 0), "gpus.count");
    assert_eq!(field_of(|m| m.gpus.as_mut().unwrap().model = "RTX 4000".to_owned()), "gpus.model");
}

#[test]
fn junk_in_an_inventory_or_mutation_names_its_field() {
    let mut message = v1::NodeInventory::from(&inventory());
    message.pools[1].storage_class = "nvme".to_owned();
    assert_eq!(NodeInventory::try_from(message).unwrap_err().field.as_deref(), Some("pools"));
    let mut message = v1::NodeInventory::from(&inventory());
    message.gpus.push(message.gpus[0].clone());
    assert_eq!(NodeInventory::try_from(message).unwrap_err().field.as_deref(), Some("gpus"));
    let mut message = v1::NodeInventory::from(&inventory());
    message.endpoints.as_mut().unwrap().last_port = 1;
    assert_eq!(NodeInventory::try_from(message).unwrap_err().field.as_deref(), Some("endpoints.last_port"));
    let load = v1::NodeLoad { cpu_pressure: f64::NAN, ..Default::default() };
    assert_eq!(NodeLoad::try_from(load).unwrap_err().field.as_deref(), Some("cpu_pressure"));
    let load = v1::NodeLoad { steal: Some(101.0), ..Default::default() };
    assert_eq!(NodeLoad::try_from(load).unwrap_err().field.as_deref(), Some("steal"));
    let load = v1::NodeLoad { disk_latency_ms: Some(-1.0), ..Default::default() };
    assert_eq!(NodeLoad::try_from(load).unwrap_err().field.as_deref(), Some("disk_latency_ms"));
    assert_eq!(nemordp_wire::fencing::required(None).unwrap_err().field.as_deref(), Some("mutation"));
    let bare =
        v1::Mutation { operation_id: vec![1; 16].into(), instance_id: vec![1; 16].into(), generation: 1, fence: 0 };
    assert_eq!(nemordp_wire::fencing::required(Some(bare)).unwrap_err().field.as_deref(), Some("mutation.fence"));
}

#[test]
fn an_unknown_reason_of_a_newer_peer_is_kept_in_the_context() {
    let failure = Failure::from(v1::Failure { reason: "melted".to_owned(), ..Default::default() });
    assert_eq!(failure.reason, Reason::Internal);
    assert!(failure.context.unwrap().contains("melted"));
}
