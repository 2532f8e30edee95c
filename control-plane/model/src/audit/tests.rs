//! A sound world, one thing made wrong at a time, and exactly the finding that names it.

use jiff::Timestamp;
use nemordp_types::instance::{
    DesiredPower, DiskSet, GpuSpec, GuestSpec, InstanceSpec, InstanceStatus, NetworkSpec, ObservedPower,
};
use nemordp_types::node::Reserved;
use nemordp_types::{
    Bytes, Endpoint, Failure, Fence, Generation, GiB, GpuModel, HostName, InstanceId, LoginName, MacAddr, ManualClock,
    MiB, NodeId, OrderId, Pair, PlanName, Reason, RegionName, SagaId, SeededEntropy, StorageClass, TemplateName,
    TenantId, Vcpu,
};

use super::*;
use crate::instance::{Freeze, Lifecycle};
use crate::order::OrderState;
use crate::placement::{GpuRoom, Room};
use crate::saga::{SagaKind, SagaStatus};

struct World {
    clock: ManualClock,
    entropy: SeededEntropy,
    facts: Facts,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn node(id: NodeId) -> Node {
    serde_json::from_value(serde_json::json!({
        "id": id, "name": "a", "region": "fsn1", "agent_address": "127.0.0.1:7443", "policy": "active",
        "availability": "available", "availability_changed_at": at(1), "overcommit":
        { "vcpu_percent": 100, "memory_percent": 100 }, "inventory": {
            "agent_version": "1", "hypervisor": "sim", "acceleration": "simulated", "vcpu": 8, "memory": 9000,
            "memory_for_instances": 9000, "pools": [], "private_subnet": { "network": "10.64.0.0", "prefix": 24 },
            "endpoints": { "address": "203.0.113.1", "first_port": 20000, "last_port": 20009 }, "templates": [],
            "boot_id": "b" },
        "load": null, "template_presence": [], "taken_ports": [], "last_heartbeat_at": null, "reserved": { "vcpu": 2, "memory": 4096, "disk": 53_687_091_200u64 },
        "certificate_serial": [1], "enrolled_at": at(1), "updated_at": at(1),
    }))
    .unwrap()
}

fn spec(order_id: OrderId) -> InstanceSpec {
    let private_ipv4 = std::net::Ipv4Addr::new(10, 64, 0, 2);
    InstanceSpec {
        order_id,
        vcpu: Vcpu(2),
        memory: MiB(4_096),
        disk: GiB(50),
        storage_class: StorageClass::new("nvme").unwrap(),
        template: serde_json::from_value(serde_json::json!({
            "name": "debian", "digest": format!("sha256:{}", "ab".repeat(32)), "file_size": 1_000_000,
            "virtual_size": 2_000_000_000u64, "rdp_security": "tls", "personalisation": "guest_agent",
            "login_name": "user",
        }))
        .unwrap(),
        network: NetworkSpec {
            mac: MacAddr::of_private_ipv4(private_ipv4),
            private_ipv4,
            endpoint: Endpoint { address: "203.0.113.1".parse().unwrap(), port: 20_000 },
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
    }
}

fn status(instance: &Instance) -> InstanceStatus {
    InstanceStatus {
        instance_id: instance.id,
        order_id: instance.order_id,
        pair: instance.pair(),
        power: ObservedPower::Running,
        guest_agent: true,
        confirmed_ipv4: None,
        rdp_certificate_sha256: None,
        started_at: None,
        vcpu: instance.spec.vcpu,
        memory: instance.spec.memory,
        disk: Bytes::from(instance.spec.disk),
        gpus: Some(0),
    }
}

impl World {
    /// One node with one delivered order.
    fn sound() -> Self {
        let (clock, entropy) = (ManualClock::at_second(1), SeededEntropy::new(1));
        let (order_id, instance_id) = (OrderId::new(&clock, &entropy), InstanceId::new(&clock, &entropy));
        let (node_id, tenant_id) = (NodeId::new(&clock, &entropy), TenantId::new(&clock, &entropy));
        let order = Order {
            id: order_id,
            tenant_id,
            external_reference: None,
            plan: PlanName::new("basic").unwrap(),
            template: TemplateName::new("debian").unwrap(),
            region: RegionName::new("fsn1").unwrap(),
            host_name: HostName::new("desk").unwrap(),
            time_zone: None,
            keyboard: None,
            state: OrderState::Active,
            failure: None,
            instance_id,
            saga_id: SagaId::new(&clock, &entropy),
            created_at: at(1),
            updated_at: at(1),
        };
        let instance = Instance {
            id: instance_id,
            order_id,
            tenant_id,
            node_id,
            siting: Default::default(),
            spec: spec(order_id),
            generation: Generation(2),
            fence: Fence(3),
            lifecycle: Lifecycle::Active,
            observed: None,
            observed_at: None,
            rdp_certificate_sha256: None,
            frozen: None,
            frozen_at: None,
            suspended_at: None,
            delete_after: None,
            misaligned_at: None,
            paid_until: None,
            created_at: at(1),
            updated_at: at(1),
        };
        let capacity = HeldCapacity {
            instance_id,
            node_id,
            vcpu: Vcpu(2),
            memory: MiB(4_096),
            storage_class: StorageClass::new("nvme").unwrap(),
            disk: Bytes::from(GiB(50)),
            gpus: None,
        };
        let number =
            |kind: &str, scope: String, number| HeldNumber { kind: kind.to_owned(), scope, number, instance_id };
        let private = u32::from(instance.spec.network.private_ipv4);
        let facts = Facts {
            words: [(node_id, NodeWord { asked_at: at(10), instances: vec![status(&instance)] })].into(),
            orders: vec![order],
            capacity: vec![capacity],
            numbers: vec![
                number("port", "203.0.113.1".to_owned(), 20_000),
                number("address", node_id.to_string(), private),
            ],
            secrets: vec![instance_id],
            nodes: vec![node(node_id)],
            instances: vec![instance],
            sagas: Vec::new(),
            untold: Vec::new(),
        };
        Self { clock, entropy, facts }
    }

    fn saga(&mut self, status: SagaStatus) {
        let instance = &self.facts.instances[0];
        let saga = Saga {
            id: SagaId::new(&self.clock, &self.entropy),
            kind: SagaKind::Stop,
            status,
            step: 0,
            attempt: 1,
            fence: Fence(3),
            lease_owner: None,
            lease_until: None,
            next_run_at: at(1),
            cancel_requested_at: None,
            failure: Some(Failure::new(Reason::NotOurs, "not ours")),
            tenant_id: instance.tenant_id,
            order_id: Some(instance.order_id),
            instance_id: Some(instance.id),
            created_at: at(1),
            updated_at: at(1),
            finished_at: None,
            steps: Vec::new(),
        };
        self.facts.sagas.push(saga);
    }

    fn word(&mut self) -> &mut NodeWord {
        self.facts.words.values_mut().next().unwrap()
    }

    fn stranger(&self) -> InstanceId {
        InstanceId::new(&self.clock, &self.entropy)
    }
}

#[track_caller]
fn expect(change: impl FnOnce(&mut World), expected: &[FindingKind]) {
    let mut world = World::sound();
    change(&mut world);
    let found: Vec<FindingKind> = audit(&world.facts).iter().map(|finding| finding.kind).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_sound_world_has_no_finding() {
    expect(|_| {}, &[]);
}

#[test]
fn orders_and_instances_are_compared() {
    use FindingKind as K;
    expect(|w| w.facts.orders[0].state = OrderState::Provisioning, &[K::OrderUnattended, K::OrderAndInstanceDisagree]);
    expect(|w| w.facts.orders[0].state = OrderState::Failed, &[K::OrderAndInstanceDisagree]);
    expect(|w| w.facts.orders[0].instance_id = w.stranger(), &[K::OrderWithoutInstance]);
    expect(|w| w.facts.instances[0].lifecycle = Lifecycle::Deleting, &[K::InstanceUnattended]);
    expect(
        |w| {
            w.facts.instances[0].lifecycle = Lifecycle::Deleting;
            w.saga(SagaStatus::Running);
        },
        &[],
    );
    expect(|w| w.saga(SagaStatus::Stuck), &[K::SagaStuck]);
    expect(|w| w.facts.instances[0].frozen = Some(Freeze::Unverified), &[K::InstanceFrozen]);
    expect(|w| w.facts.secrets.push(w.stranger()), &[K::SecretWithoutInstance]);
    expect(|w| w.facts.untold.push((w.facts.orders[0].id, w.facts.instances[0].id)), &[K::EventMissing]);
}

#[test]
fn what_is_held_is_compared_with_who_holds_it() {
    use FindingKind as K;
    expect(|w| w.facts.capacity.clear(), &[K::InstanceWithoutReservation, K::NodeSumsDiffer]);
    expect(
        |w| {
            let again = w.facts.capacity[0].clone();
            w.facts.capacity.push(again);
        },
        &[K::ReservationTwice, K::NodeSumsDiffer],
    );
    expect(|w| w.facts.capacity[0].vcpu = Vcpu(1), &[K::ReservationDiffers, K::NodeSumsDiffer]);
    expect(|w| w.facts.nodes[0].reserved = Reserved::default(), &[K::NodeSumsDiffer]);
    let gpus = |count| Some(GpuSpec { model: GpuModel::new("l40s").unwrap(), count });
    expect(|w| w.facts.instances[0].spec.gpus = gpus(1), &[K::ReservationDiffers, K::WrongSize]);
    expect(|w| w.facts.capacity[0].gpus = gpus(1), &[K::ReservationDiffers, K::NodeSumsDiffer]);
    let counted = |used| GpuRoom { model: GpuModel::new("l40s").unwrap(), room: Room { capacity: 4, used } };
    expect(|w| w.facts.nodes[0].gpus = vec![counted(1)], &[K::NodeSumsDiffer]);
    let with_gpus = |w: &mut World, used| {
        (w.facts.instances[0].spec.gpus, w.facts.capacity[0].gpus) = (gpus(2), gpus(2));
        w.facts.nodes[0].gpus = vec![counted(used)];
        w.word().instances[0].gpus = Some(2);
    };
    expect(|w| with_gpus(w, 2), &[]);
    expect(|w| with_gpus(w, 1), &[K::NodeSumsDiffer]);
    expect(
        |w| {
            let number = HeldNumber { number: 20_001, instance_id: w.stranger(), ..w.facts.numbers[0].clone() };
            w.facts.numbers.push(number);
        },
        &[K::NumberWithoutInstance],
    );
    expect(|w| w.facts.numbers[0].number = 20_001, &[K::InstanceWithoutNumber]);
    expect(|w| drop(w.facts.numbers.pop()), &[K::InstanceWithoutNumber]);
    let over = |w: &mut World| {
        w.facts.orders.clear();
        w.facts.secrets.clear();
        w.word().instances.clear();
        w.facts.instances[0].lifecycle = Lifecycle::Deleted;
    };
    expect(over, &[K::ReservationWithoutInstance, K::NumberWithoutInstance, K::NumberWithoutInstance]);
}

#[test]
fn what_nodes_run_is_compared_with_what_is_wanted() {
    use FindingKind as K;
    expect(|w| w.facts.words.clear(), &[K::NodeSilent]);
    expect(|w| w.word().instances.clear(), &[K::DomainMissing]);
    expect(
        |w| {
            let stray = InstanceStatus { instance_id: w.stranger(), ..w.word().instances[0].clone() };
            w.word().instances.push(stray);
        },
        &[K::DomainUnknown],
    );
    expect(|w| w.facts.nodes[0].taken_ports = vec![20_000, 20_001], &[K::PortTaken]);
    expect(|w| w.facts.nodes[0].taken_ports = vec![20_001], &[]);
    expect(|w| w.word().instances[0].vcpu = Vcpu(1), &[K::WrongSize]);
    expect(|w| w.word().instances[0].gpus = Some(1), &[K::WrongSize]);
    expect(|w| w.word().instances[0].gpus = None, &[]);
    expect(|w| w.word().instances[0].power = ObservedPower::Off, &[K::WrongPower]);
    expect(|w| w.facts.instances[0].spec.power = DesiredPower::Off, &[K::WrongPower]);
    expect(|w| w.facts.instances[0].spec.suspended = true, &[K::WrongPower]);
    expect(|w| w.word().instances[0].pair = Pair { generation: Generation(3), fence: Fence(0) }, &[K::StoreBehind]);
    expect(
        |w| {
            let other = NodeId::new(&w.clock, &w.entropy);
            let word = w.word().clone();
            w.facts.words.insert(other, word);
            w.facts.nodes.push(Node { reserved: Reserved::default(), ..node(other) });
        },
        &[K::DomainLeftover, K::DomainTwice],
    );
}

#[test]
fn a_suspended_instance_is_rightly_off_and_one_out_of_line_waits() {
    expect(
        |w| {
            w.facts.instances[0].spec.suspended = true;
            w.word().instances[0].power = ObservedPower::Off;
        },
        &[],
    );
    expect(
        |w| {
            w.facts.instances[0].misaligned_at = Some(at(1));
            w.word().instances[0].power = ObservedPower::Off;
        },
        &[],
    );
}

#[test]
fn what_is_under_way_or_changed_since_is_no_finding() {
    expect(
        |w| {
            w.word().instances[0].power = ObservedPower::Off;
            w.saga(SagaStatus::Running);
        },
        &[],
    );
    expect(
        |w| {
            w.word().instances.clear();
            w.facts.instances[0].updated_at = at(11);
        },
        &[],
    );
}
