//! What nodes run, against what is wanted of them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nemordp_types::instance::{DesiredPower, InstanceStatus, ObservedPower};
use nemordp_types::{Bytes, InstanceId, NodeId};

use super::{Facts, Finding, FindingKind, NodeWord};
use crate::instance::{Instance, Lifecycle};
use crate::node::Node;

pub(super) fn check(facts: &Facts, findings: &mut Vec<Finding>) {
    let (instances, attended) = (facts.instances_by_id(), facts.attended());
    let mut places: BTreeMap<InstanceId, Vec<NodeId>> = BTreeMap::new();
    for node in &facts.nodes {
        for instance in facts.instances.iter().filter(|instance| is_robbed(node, instance)) {
            let detail = format!("{} is used by something else there", instance.spec.network.endpoint);
            findings.push(Finding::of_instance(FindingKind::PortTaken, instance, detail));
        }
        let Some(word) = facts.words.get(&node.id) else {
            let detail = format!("{} did not answer: what it runs was not compared", node.name);
            findings.push(Finding::new(FindingKind::NodeSilent, detail).on_node(node.id));
            continue;
        };
        for status in &word.instances {
            places.entry(status.instance_id).or_default().push(node.id);
            let known = instances.get(&status.instance_id).copied();
            let quiet = !attended.contains(&status.instance_id);
            findings.extend(seen(node.id, word.asked_at, status, known, quiet));
        }
    }
    for instance in facts.instances.iter().filter(|instance| instance.lifecycle == Lifecycle::Active) {
        let word = facts.words.get(&instance.node_id);
        if word.is_some_and(|word| is_missing(instance, word)) {
            let detail = "it was handed over, and its node does not have it";
            findings.push(Finding::of_instance(FindingKind::DomainMissing, instance, detail));
        }
    }
    for (id, nodes) in places.into_iter().filter(|(_, nodes)| nodes.len() > 1) {
        let names: Vec<String> = nodes.iter().map(ToString::to_string).collect();
        findings.push(Finding::new(FindingKind::DomainTwice, format!("on {}", names.join(" and "))).about(id));
    }
}

/// Whether a node said that something else uses the port of an instance that customers reach there.
fn is_robbed(node: &Node, instance: &Instance) -> bool {
    let endpoint = instance.spec.network.endpoint;
    let here = instance.node_id == node.id && endpoint.address == node.inventory.endpoints.address;
    here && instance.lifecycle == Lifecycle::Active && node.taken_ports.contains(&endpoint.port)
}

/// What changed after the node was asked says nothing.
fn is_missing(instance: &Instance, word: &NodeWord) -> bool {
    let settled = instance.frozen.is_none() && instance.updated_at < word.asked_at;
    settled && word.instances.iter().all(|status| status.instance_id != instance.id)
}

fn seen(
    node: NodeId,
    asked_at: Timestamp,
    status: &InstanceStatus,
    known: Option<&Instance>,
    quiet: bool,
) -> Option<Finding> {
    let Some(instance) = known else {
        let detail = format!("for order {}, {}, {}", status.order_id, status.vcpu, status.memory);
        return Some(Finding::new(FindingKind::DomainUnknown, detail).about(status.instance_id).on_node(node));
    };
    let finding = |kind, detail: String| Some(Finding::of_instance(kind, instance, detail).on_node(node));
    let settled = instance.updated_at < asked_at;
    if !instance.lifecycle.is_live() {
        let detail = format!("the instance is {}", instance.lifecycle);
        return if settled { finding(FindingKind::DomainLeftover, detail) } else { None };
    }
    if instance.is_behind(status) {
        let (theirs, ours) = (status.pair, instance.pair());
        let detail = format!(
            "the node has seen ({}, {}), the store knows ({}, {})",
            theirs.generation.0, theirs.fence.0, ours.generation.0, ours.fence.0
        );
        // A frozen one is told already.
        return if instance.frozen.is_none() { finding(FindingKind::StoreBehind, detail) } else { None };
    }
    if instance.node_id != node {
        let detail = format!("the instance is on node {}", instance.node_id);
        return if settled && quiet { finding(FindingKind::DomainLeftover, detail) } else { None };
    }
    // One that is out of line is brought in line by itself.
    let waits = instance.frozen.is_some() || instance.misaligned_at.is_some();
    if instance.lifecycle != Lifecycle::Active || waits || !quiet || !settled {
        return None;
    }
    let spec = &instance.spec;
    if (status.vcpu, status.memory, status.disk) != (spec.vcpu, spec.memory, Bytes::from(spec.disk)) {
        let detail = format!(
            "bought {}, {}, {}; it has {}, {}, {}",
            spec.vcpu,
            spec.memory,
            Bytes::from(spec.disk),
            status.vcpu,
            status.memory,
            status.disk
        );
        return finding(FindingKind::WrongSize, detail);
    }
    let bought = spec.gpus.as_ref().map_or(0, |gpus| gpus.count);
    if let Some(has) = status.gpus.filter(|has| *has != bought) {
        return finding(FindingKind::WrongSize, format!("bought {bought} GPUs; it has {has}"));
    }
    let wanted = instance.desired_power();
    let right = match (wanted, status.power) {
        (DesiredPower::On, ObservedPower::Running) | (DesiredPower::Off, ObservedPower::Off) => true,
        (_, ObservedPower::Absent) => true,
        (DesiredPower::On, ObservedPower::Off | ObservedPower::Paused | ObservedPower::Failed)
        | (DesiredPower::Off, ObservedPower::Running | ObservedPower::Paused | ObservedPower::Failed) => false,
    };
    if right {
        return None;
    }
    let wanted = if wanted == DesiredPower::On { "on" } else { "off" };
    finding(FindingKind::WrongPower, format!("wanted {wanted}, the node says {:?}", status.power).to_lowercase())
}
