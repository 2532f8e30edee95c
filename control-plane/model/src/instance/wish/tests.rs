use nemordp_types::instance::{GuestSpec, NetworkSpec};
use nemordp_types::template::{Personalisation, RdpSecurity};
use nemordp_types::{
    Endpoint, Fence, InstanceId, LoginName, MacAddr, ManualClock, NodeId, OrderId, SeededEntropy, StorageClass,
    TemplateDigest, TemplateName, TenantId,
};

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn template(login: &str, virtual_size: GiB) -> Template {
    Template {
        name: TemplateName::new("debian").unwrap(),
        digest: TemplateDigest::from_bytes([1; 32]),
        file_size: Bytes(1),
        virtual_size: Bytes::from(virtual_size),
        rdp_security: RdpSecurity::Tls,
        personalisation: Personalisation::GuestAgent,
        login_name: LoginName::new(login).unwrap(),
    }
}

fn instance() -> Instance {
    let (clock, entropy) = (ManualClock::at_second(1), SeededEntropy::new(7));
    let order_id = OrderId::new(&clock, &entropy);
    let private_ipv4 = std::net::Ipv4Addr::new(10, 64, 0, 2);
    Instance {
        id: InstanceId::new(&clock, &entropy),
        order_id,
        tenant_id: TenantId::new(&clock, &entropy),
        node_id: NodeId::new(&clock, &entropy),
        siting: Default::default(),
        spec: InstanceSpec {
            order_id,
            vcpu: Vcpu(2),
            memory: MiB(4_096),
            disk: GiB(50),
            storage_class: StorageClass::new("nvme").unwrap(),
            template: template("user", GiB(10)),
            network: NetworkSpec {
                mac: MacAddr::of_private_ipv4(private_ipv4),
                private_ipv4,
                endpoint: Endpoint { address: [192, 0, 2, 1].into(), port: 20_000 },
            },
            guest: GuestSpec {
                host_name: HostName::new("desk").unwrap(),
                login_name: LoginName::new("user").unwrap(),
                time_zone: None,
                keyboard: None,
            },
            power: DesiredPower::On,
            suspended: false,
            disks: DiskSet::default(),
            gpus: None,
        },
        generation: Generation(3),
        fence: Fence(5),
        lifecycle: Lifecycle::Active,
        observed: None,
        observed_at: None,
        rdp_certificate_sha256: Some([1; 32]),
        frozen: None,
        frozen_at: None,
        suspended_at: None,
        delete_after: None,
        misaligned_at: None,
        paid_until: None,
        created_at: NOW,
        updated_at: NOW,
    }
}

fn after(wishes: &[Wish]) -> Instance {
    let mut instance = instance();
    for wish in wishes {
        instance.wish(wish, NOW).unwrap();
    }
    instance
}

fn refusal(instance: &Instance, wish: &Wish) -> (Reason, String) {
    let mut changed = instance.clone();
    let failure = changed.wish(wish, NOW).unwrap_err();
    assert_eq!(changed, *instance, "a refusal changes nothing");
    (failure.reason, failure.field.unwrap_or_default())
}

fn later() -> Wish {
    Wish::DeleteLater { at: Timestamp::from_second(100).unwrap() }
}

/// One of each.
fn all() -> Vec<Wish> {
    vec![
        Wish::PowerOn,
        Wish::PowerOff,
        Wish::Keep,
        Wish::Rename { host_name: HostName::new("other").unwrap() },
        Wish::Resize { vcpu: Some(Vcpu(4)), memory: None, disk: None },
        Wish::Reinstall { template: None },
        Wish::Rescue,
        Wish::Unrescue,
        Wish::Suspend,
        Wish::Unsuspend,
        later(),
        Wish::Restore,
        Wish::Delete,
    ]
}

#[test]
fn every_change_raises_the_generation_and_can_be_taken_back() {
    for before in [after(&[]), after(&[Wish::Rescue]), after(&[Wish::Suspend]), after(&[later()])] {
        for wish in all().into_iter().filter(|wish| *wish != Wish::Delete) {
            let mut changed = before.clone();
            if changed.wish(&wish, NOW).is_err() {
                continue;
            }
            assert_eq!(changed.generation.0, before.generation.0 + 1, "{wish:?}");
            let generation = changed.generation;
            let changes = changed.former() != before.former();
            assert_eq!(changed.take_back(before.former(), false, NOW), changes, "{wish:?}");
            assert_eq!(changed.former(), before.former(), "{wish:?}");
            assert!(changed.generation.0 == generation.0 + u64::from(changes), "{wish:?}");
            assert!(!changed.take_back(before.former(), false, NOW), "taken back once");
        }
    }
}

#[test]
fn a_suspended_instance_takes_nothing_but_the_end_of_it_and_deletion() {
    let suspended = after(&[Wish::Suspend]);
    assert_eq!(suspended.desired_power(), DesiredPower::Off);
    for wish in all() {
        if wish == Wish::Unsuspend || wish.wins() {
            assert!(suspended.clone().wish(&wish, NOW).is_ok(), "{wish:?}");
        } else {
            let field = if wish == Wish::Restore { "delete_after" } else { "suspended" };
            assert_eq!(refusal(&suspended, &wish), (Reason::Conflict, field.to_owned()), "{wish:?}");
        }
    }
    let back = after(&[Wish::Suspend, Wish::Unsuspend]);
    assert_eq!(back.desired_power(), DesiredPower::On, "what the customer wanted holds again");
}

#[test]
fn what_is_to_be_deleted_can_only_be_had_back_and_keeps_its_suspension() {
    let waiting = after(&[later()]);
    for wish in all() {
        if wish == Wish::Restore || wish.wins() {
            assert!(waiting.clone().wish(&wish, NOW).is_ok(), "{wish:?}");
        } else {
            assert_eq!(refusal(&waiting, &wish), (Reason::Conflict, "delete_after".to_owned()), "{wish:?}");
        }
    }
    assert_eq!(after(&[later(), Wish::Restore]).desired_power(), DesiredPower::On);
    assert_eq!(after(&[Wish::Suspend, later(), Wish::Restore]).desired_power(), DesiredPower::Off);
}

#[test]
fn a_size_only_grows_and_the_refusal_names_the_field() {
    let is = instance();
    let resize = |vcpu: Option<u32>, memory: Option<u64>, disk: Option<u64>| Wish::Resize {
        vcpu: vcpu.map(Vcpu),
        memory: memory.map(MiB),
        disk: disk.map(GiB),
    };
    assert_eq!(refusal(&is, &resize(Some(1), None, None)), (Reason::InvalidArgument, "vcpu".to_owned()));
    assert_eq!(refusal(&is, &resize(None, Some(1), None)), (Reason::InvalidArgument, "memory_mib".to_owned()));
    assert_eq!(refusal(&is, &resize(Some(9), None, Some(49))), (Reason::DiskTooSmall, "disk_gib".to_owned()));
    assert_eq!(refusal(&is, &resize(Some(2), None, Some(50))).0, Reason::InvalidArgument, "nothing grows");
    let mut larger = after(&[resize(None, Some(8_192), Some(100))]);
    assert_eq!((larger.spec.vcpu, larger.spec.memory, larger.spec.disk), (Vcpu(2), MiB(8_192), GiB(100)));
    larger.take_back(is.former(), true, NOW);
    assert_eq!((larger.spec.memory, larger.spec.disk), (MiB(4_096), GiB(100)), "a disk that grew stays so");
}

#[test]
fn each_fresh_disk_has_an_edition_of_its_own_and_the_old_one_is_kept_until_it_is_final() {
    let mut fresh = after(&[Wish::Reinstall { template: Some(Box::new(template("admin", GiB(50)))) }]);
    assert_eq!(fresh.spec.disks, DiskSet { system: Edition(4), rescue: None, kept: Some(Edition(0)) });
    assert_eq!(fresh.spec.guest.login_name.as_str(), "admin");
    assert!(fresh.settle(NOW) && !fresh.settle(NOW));
    assert_eq!((fresh.spec.disks.kept, fresh.generation), (None, Generation(5)));
    let large = Wish::Reinstall { template: Some(Box::new(template("admin", GiB(51)))) };
    assert_eq!(refusal(&instance(), &large), (Reason::DiskTooSmall, "template".to_owned()));
    let rescued = after(&[Wish::PowerOff, Wish::Rescue]);
    assert_eq!((rescued.spec.disks.boots(), rescued.desired_power()), (Edition(5), DesiredPower::On));
    assert_eq!(refusal(&rescued, &Wish::Reinstall { template: None }).1, "rescued");
    let back = after(&[Wish::Rescue, Wish::Unrescue]);
    assert_eq!(back.spec.disks, DiskSet { system: Edition(0), rescue: None, kept: Some(Edition(4)) });
}

#[test]
fn what_its_node_missed_is_done_before_anything_but_a_deletion() {
    for before in [after(&[]), after(&[Wish::Rescue]), after(&[Wish::Suspend]), after(&[later()])] {
        let misaligned = Instance { misaligned_at: Some(NOW), ..before.clone() };
        for wish in all() {
            let mut changed = misaligned.clone();
            match (wish.wins(), changed.wish(&wish, NOW)) {
                (true, outcome) => outcome.unwrap(),
                (false, outcome) => assert_eq!(outcome.unwrap_err().reason, Reason::Conflict, "{wish:?}"),
            }
        }
        let mut aligned = misaligned;
        aligned.wish(&Wish::Realign, NOW).unwrap();
        let expected = Instance { generation: Generation(before.generation.0 + 1), updated_at: NOW, ..before };
        assert_eq!(aligned, expected, "nothing else is wanted than before");
    }
}
