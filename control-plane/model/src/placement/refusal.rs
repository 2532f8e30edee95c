//! Why a node does not take a request.

use std::collections::BTreeMap;

use nemordp_types::node::{NodeAvailability, NodePolicy};
use nemordp_types::{Bytes, Failure, NodeId, Reason};
use serde::{Deserialize, Serialize};

use super::{AddressKind, NodeSnapshot, PlacementRequest, PoolRoom};
use crate::words;

words! {
    /// Why a node was passed over; the first of them that applies, in this order.
    Refusal {
        /// It stands elsewhere.
        Region = "region",
        /// It was tried for this order already.
        Excluded = "excluded",
        /// It is kept for another tenant, or the order may only lie on nodes kept for its own.
        Pinned = "pinned",
        /// It lacks a label that the order asks for.
        Label = "label",
        /// The operator lets it take no new instances.
        Policy = "policy",
        /// It does not answer, or has not yet.
        Availability = "availability",
        /// It has no storage of this kind.
        StorageClassMissing = "storage_class_missing",
        /// It has no GPU of this model.
        GpuModelMissing = "gpu_model_missing",
        /// Too few processors are left.
        Vcpu = "vcpu",
        /// Too little memory is left.
        Memory = "memory",
        /// Too little storage is left to sell.
        Disk = "disk",
        /// Too few GPUs are left.
        Gpu = "gpu",
        /// Its file system has no room for the template, which it lacks.
        TemplateRoom = "template_room",
        /// No port is left.
        Ports = "ports",
        /// No private address is left.
        Addresses = "addresses",
        /// No public address is left.
        RoutedAddresses = "routed_addresses",
        /// It has one of the group already, and the order or that one was to stand apart.
        Affinity = "affinity",
        /// What is left of it is held back for maintenance.
        HeldBack = "held_back",
        /// The room is held for dearer plans that are expected.
        Reserve = "reserve",
    }
}

/// Each node that was passed over, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Refusals(Vec<(NodeId, Refusal)>);

impl Refusals {
    pub(super) fn push(&mut self, node: NodeId, refusal: Refusal) {
        self.0.push((node, refusal));
    }

    /// Node by node, in the snapshot's order.
    pub fn iter(&self) -> impl Iterator<Item = (NodeId, Refusal)> + '_ {
        self.0.iter().copied()
    }

    /// How often each reason occurred.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Refusal, usize> {
        let mut counts = BTreeMap::new();
        for (_, refusal) in &self.0 {
            *counts.entry(*refusal).or_insert(0) += 1;
        }
        counts
    }

    /// What the caller is told: the counts outside, the nodes inside.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        let mut counts = self.counts();
        counts.remove(&Refusal::Region);
        let only = |refusal| counts.len() == 1 && counts.contains_key(&refusal);
        let reason = if only(Refusal::Ports) {
            Reason::PortPoolExhausted
        } else if only(Refusal::Addresses) {
            Reason::AddressPoolExhausted
        } else {
            Reason::CapacityExhausted
        };
        let nodes: usize = counts.values().sum();
        let message = if nodes == 0 {
            "no node stands in this region: choose another region".to_owned()
        } else {
            let list: Vec<String> = counts.iter().map(|(refusal, count)| format!("{refusal} {count}")).collect();
            format!("no room on {nodes} node(s) of this region ({}): try another region or plan", list.join(", "))
        };
        let context: Vec<String> = self.0.iter().map(|(node, refusal)| format!("{node}: {refusal}")).collect();
        Failure::new(reason, message).with_context(context.join("; "))
    }
}

/// Whether it takes new instances at all.
pub(super) fn takes_new(node: &NodeSnapshot) -> bool {
    match (node.policy, node.availability) {
        (NodePolicy::Active, NodeAvailability::Available) => true,
        (NodePolicy::Active | NodePolicy::Cordoned | NodePolicy::Draining | NodePolicy::Decommissioned, _) => false,
    }
}

/// The pool on which the disk would lie, or the first reason against the node.
pub(super) fn check<'n>(request: &PlacementRequest, node: &'n NodeSnapshot) -> Result<&'n PoolRoom, Refusal> {
    wanted_there(request, node)?;
    let pool = node.pool(&request.storage_class).ok_or(Refusal::StorageClassMissing)?;
    if let Some(wanted) = &request.gpus
        && !node.gpus.iter().any(|gpus| wanted.model.as_ref().is_none_or(|model| gpus.model == *model))
    {
        return Err(Refusal::GpuModelMissing);
    }
    if u64::from(request.vcpu.0) > node.vcpu_in_all().free() {
        return Err(Refusal::Vcpu);
    }
    if request.memory.0 > node.memory_in_all().free() {
        return Err(Refusal::Memory);
    }
    if Bytes::from(request.disk).0 > node.pool_in_all(pool).free() {
        return Err(Refusal::Disk);
    }
    if request.gpus.as_ref().is_some_and(|wanted| node.gpus_for(wanted).is_none()) {
        return Err(Refusal::Gpu);
    }
    if !node.templates.contains(&request.template) && pool.physical_free < request.template_size {
        return Err(Refusal::TemplateRoom);
    }
    reachable(request, node)?;
    beside_the_group(request, node)?;
    let is_left = u64::from(request.vcpu.0) <= node.vcpu_room().free()
        && request.memory.0 <= node.memory_room().free()
        && Bytes::from(request.disk).0 <= node.pool_room(pool).free();
    if is_left { Ok(pool) } else { Err(Refusal::HeldBack) }
}

/// Region, tries, policy, life, tenant and labels: all that has nothing to do with amounts.
fn wanted_there(request: &PlacementRequest, node: &NodeSnapshot) -> Result<(), Refusal> {
    if node.region != request.region {
        return Err(Refusal::Region);
    }
    if request.exclude.contains(&node.id) {
        return Err(Refusal::Excluded);
    }
    let own = node.pinned_to.is_some() && node.pinned_to == request.tenant;
    if !own && (node.pinned_to.is_some() || request.pinned) {
        return Err(Refusal::Pinned);
    }
    if !request.labels.is_subset(&node.labels) {
        return Err(Refusal::Label);
    }
    match node.policy {
        NodePolicy::Active => {}
        NodePolicy::Cordoned | NodePolicy::Draining | NodePolicy::Decommissioned => return Err(Refusal::Policy),
    }
    match node.availability {
        NodeAvailability::Available => Ok(()),
        NodeAvailability::Unknown | NodeAvailability::Suspect | NodeAvailability::Lost | NodeAvailability::Fenced => {
            Err(Refusal::Availability)
        }
    }
}

fn reachable(request: &PlacementRequest, node: &NodeSnapshot) -> Result<(), Refusal> {
    match request.address {
        AddressKind::ForwardedPort if node.free_ports == 0 => return Err(Refusal::Ports),
        AddressKind::Routed if node.free_routed == 0 => return Err(Refusal::RoutedAddresses),
        AddressKind::ForwardedPort | AddressKind::Routed => {}
    }
    if node.free_addresses == 0 {
        return Err(Refusal::Addresses);
    }
    Ok(())
}

fn beside_the_group(request: &PlacementRequest, node: &NodeSnapshot) -> Result<(), Refusal> {
    match request.group_key() {
        Some(group) if !node.admits(&group, request.affinity) => Err(Refusal::Affinity),
        Some(_) | None => Ok(()),
    }
}
