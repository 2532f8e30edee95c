//! Why a node does not take a request.

use std::collections::BTreeMap;

use nemordp_types::node::{NodeAvailability, NodePolicy};
use nemordp_types::{Bytes, Failure, NodeId, Reason};
use serde::{Deserialize, Serialize};

use super::{NodeSnapshot, PlacementRequest, PoolRoom};
use crate::words;

words! {
    /// Why a node was passed over; the first of them that applies, in this order.
    Refusal {
        /// It stands elsewhere.
        Region = "region",
        /// It was tried for this order already.
        Excluded = "excluded",
        /// The operator lets it take no new instances.
        Policy = "policy",
        /// It does not answer, or has not yet.
        Availability = "availability",
        /// It has no storage of this kind.
        StorageClassMissing = "storage_class_missing",
        /// Too few processors are left.
        Vcpu = "vcpu",
        /// Too little memory is left.
        Memory = "memory",
        /// Too little storage is left to sell.
        Disk = "disk",
        /// Its file system has no room for the template, which it lacks.
        TemplateRoom = "template_room",
        /// No port is left.
        Ports = "ports",
        /// No private address is left.
        Addresses = "addresses",
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

/// The pool on which the disk would lie, or the first reason against the node.
pub(super) fn check<'n>(request: &PlacementRequest, node: &'n NodeSnapshot) -> Result<&'n PoolRoom, Refusal> {
    if node.region != request.region {
        return Err(Refusal::Region);
    }
    if request.exclude.contains(&node.id) {
        return Err(Refusal::Excluded);
    }
    match node.policy {
        NodePolicy::Active => {}
        NodePolicy::Cordoned | NodePolicy::Draining | NodePolicy::Decommissioned => return Err(Refusal::Policy),
    }
    match node.availability {
        NodeAvailability::Available => {}
        NodeAvailability::Unknown | NodeAvailability::Suspect | NodeAvailability::Lost | NodeAvailability::Fenced => {
            return Err(Refusal::Availability);
        }
    }
    let pool =
        node.pools.iter().find(|p| p.storage_class == request.storage_class).ok_or(Refusal::StorageClassMissing)?;
    if u64::from(request.vcpu.0) > node.vcpu.free() {
        return Err(Refusal::Vcpu);
    }
    if request.memory.0 > node.memory.free() {
        return Err(Refusal::Memory);
    }
    if Bytes::from(request.disk).0 > pool.room.free() {
        return Err(Refusal::Disk);
    }
    if !node.templates.contains(&request.template) && pool.physical_free < request.template_size {
        return Err(Refusal::TemplateRoom);
    }
    if node.free_ports == 0 {
        return Err(Refusal::Ports);
    }
    if node.free_addresses == 0 {
        return Err(Refusal::Addresses);
    }
    Ok(pool)
}
