//! Capacity, ports and addresses, against those who hold them.

use std::collections::{BTreeMap, BTreeSet};

use nemordp_types::instance::GpuSpec;
use nemordp_types::node::Reserved;
use nemordp_types::{Bytes, GpuModel, InstanceId, MiB, NodeId, Vcpu};

use super::{Facts, Finding, FindingKind, HeldCapacity};
use crate::instance::Instance;

pub(super) fn check(facts: &Facts, findings: &mut Vec<Finding>) {
    let instances = facts.instances_by_id();
    capacity(facts, &instances, findings);
    sums(facts, findings);
    numbers(facts, &instances, findings);
}

fn capacity(facts: &Facts, instances: &BTreeMap<InstanceId, &Instance>, findings: &mut Vec<Finding>) {
    let mut held: BTreeMap<InstanceId, u32> = BTreeMap::new();
    for reservation in &facts.capacity {
        *held.entry(reservation.instance_id).or_default() += 1;
        let Some(instance) = instances.get(&reservation.instance_id).filter(|instance| instance.lifecycle.is_live())
        else {
            let detail = format!("{} and {} on a node", reservation.vcpu, reservation.memory);
            let finding = Finding::new(FindingKind::ReservationWithoutInstance, detail);
            findings.push(finding.about(reservation.instance_id).on_node(reservation.node_id));
            continue;
        };
        if let Some(detail) = differs(reservation, instance) {
            findings.push(
                Finding::of_instance(FindingKind::ReservationDiffers, instance, detail).on_node(reservation.node_id),
            );
        }
    }
    for instance in facts.instances.iter().filter(|instance| instance.lifecycle.is_live()) {
        match held.get(&instance.id).copied().unwrap_or_default() {
            0 => findings.push(Finding::of_instance(
                FindingKind::InstanceWithoutReservation,
                instance,
                format!("it is {} and holds no capacity", instance.lifecycle),
            )),
            1 => {}
            times => findings.push(Finding::of_instance(
                FindingKind::ReservationTwice,
                instance,
                format!("it holds capacity {times} times"),
            )),
        }
    }
}

fn differs(held: &HeldCapacity, instance: &Instance) -> Option<String> {
    let spec = &instance.spec;
    if held.node_id != instance.node_id {
        return Some(format!("it is on node {}, the capacity on {}", instance.node_id, held.node_id));
    }
    let wanted = (spec.vcpu, spec.memory, Bytes::from(spec.disk), &spec.storage_class);
    let found = (held.vcpu, held.memory, held.disk, &held.storage_class);
    if wanted != found {
        return Some(format!(
            "bought {}, {}, {} on {}; held {}, {}, {} on {}",
            wanted.0, wanted.1, wanted.2, wanted.3, found.0, found.1, found.2, found.3
        ));
    }
    let gpus = |gpus: &Option<GpuSpec>| {
        gpus.as_ref().map_or_else(|| "no GPUs".to_owned(), |gpus| format!("{} GPUs {}", gpus.count, gpus.model))
    };
    (spec.gpus != held.gpus).then(|| format!("bought {}; held {}", gpus(&spec.gpus), gpus(&held.gpus)))
}

fn sums(facts: &Facts, findings: &mut Vec<Finding>) {
    let mut sums: BTreeMap<NodeId, Reserved> = BTreeMap::new();
    for held in &facts.capacity {
        let sum = sums.entry(held.node_id).or_default();
        sum.vcpu = Vcpu(sum.vcpu.0.saturating_add(held.vcpu.0));
        sum.memory = MiB(sum.memory.0.saturating_add(held.memory.0));
        sum.disk = Bytes(sum.disk.0.saturating_add(held.disk.0));
    }
    for node in &facts.nodes {
        let sum = sums.get(&node.id).copied().unwrap_or_default();
        if node.reserved != sum {
            let detail = format!(
                "the node counts {}, {}, {}; its reservations are {}, {}, {}",
                node.reserved.vcpu, node.reserved.memory, node.reserved.disk, sum.vcpu, sum.memory, sum.disk
            );
            findings.push(Finding::new(FindingKind::NodeSumsDiffer, detail).on_node(node.id));
        }
    }
    gpu_sums(facts, findings);
}

fn gpu_sums(facts: &Facts, findings: &mut Vec<Finding>) {
    let mut sums: BTreeMap<(NodeId, &GpuModel), u64> = BTreeMap::new();
    for held in &facts.capacity {
        if let Some(gpus) = &held.gpus {
            *sums.entry((held.node_id, &gpus.model)).or_default() += u64::from(gpus.count);
        }
    }
    for node in &facts.nodes {
        let counted = node.gpus.iter().map(|gpus| (&gpus.model, gpus.room.used));
        let counted: BTreeMap<&GpuModel, u64> = counted.filter(|(_, used)| *used > 0).collect();
        let held: BTreeMap<&GpuModel, u64> =
            sums.iter().filter(|((id, _), _)| *id == node.id).map(|((_, model), sum)| (*model, *sum)).collect();
        if counted != held {
            let list = |sums: &BTreeMap<&GpuModel, u64>| {
                let parts: Vec<String> = sums.iter().map(|(model, count)| format!("{count} {model}")).collect();
                if parts.is_empty() { "none".to_owned() } else { parts.join(", ") }
            };
            let detail = format!("the node counts GPUs {}; its reservations are {}", list(&counted), list(&held));
            findings.push(Finding::new(FindingKind::NodeSumsDiffer, detail).on_node(node.id));
        }
    }
}

fn numbers(facts: &Facts, instances: &BTreeMap<InstanceId, &Instance>, findings: &mut Vec<Finding>) {
    let mut held: BTreeSet<(InstanceId, &str, &str, u32)> = BTreeSet::new();
    for number in &facts.numbers {
        held.insert((number.instance_id, &number.kind, &number.scope, number.number));
        if !instances.get(&number.instance_id).is_some_and(|instance| instance.lifecycle.is_live()) {
            let detail = format!("{} {} of {}", number.kind, number.number, number.scope);
            findings.push(Finding::new(FindingKind::NumberWithoutInstance, detail).about(number.instance_id));
        }
    }
    for instance in facts.instances.iter().filter(|instance| instance.lifecycle.is_live()) {
        let network = &instance.spec.network;
        let (address, node) = (network.endpoint.address.to_string(), instance.node_id.to_string());
        let port = (instance.id, "port", address.as_str(), u32::from(network.endpoint.port));
        let private = (instance.id, "address", node.as_str(), u32::from(network.private_ipv4));
        for used in [port, private].iter().filter(|used| !held.contains(*used)) {
            let detail = format!("it uses {} {} of {} and does not hold it", used.1, used.3, used.2);
            findings.push(Finding::of_instance(FindingKind::InstanceWithoutNumber, instance, detail));
        }
    }
}
