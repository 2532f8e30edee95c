//! How many more fit, and whether one ever could.

use std::collections::BTreeSet;

use nemordp_types::{Bytes, Failure, PlanName, RegionName, StorageClass};
use serde::{Deserialize, Serialize};

use super::snapshot::{FleetSnapshot, NodeSnapshot, PlanShare};
use super::{AddressKind, Affinity, Demand, PlacementRequest, place, refusal};
use crate::label::Label;

/// How many more of a plan a region takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Where.
    pub region: RegionName,
    /// Which plan.
    pub plan: PlanName,
    /// How many orders in a row would be placed.
    pub more: u64,
}

/// How many requests like this one would be placed one after the other. Nodes do not influence each other, so each is
/// counted by itself, except where a reserve may bind.
#[must_use]
pub fn how_many_fit(request: &PlacementRequest, snapshot: &FleetSnapshot) -> u64 {
    how_many_fit_up_to(u64::MAX, request, snapshot)
}

/// The same for who only wants to know whether there are so many: beside a reserve orders are placed one by one to count them.
#[must_use]
pub fn how_many_fit_up_to(limit: u64, request: &PlacementRequest, snapshot: &FleetSnapshot) -> u64 {
    let takes = |node: &&NodeSnapshot| refusal::check(request, node).is_ok();
    let held = |node: &NodeSnapshot| request.gpus.is_none() && holds_slots(node, snapshot);
    let free = snapshot.nodes.iter().filter(takes).filter(|node| !held(node));
    let free = free.map(|node| on(node, request)).fold(0, u64::saturating_add);
    let mut beside = FleetSnapshot {
        nodes: snapshot.nodes.iter().filter(|node| held(node)).cloned().collect(),
        ..FleetSnapshot::new(snapshot.taken_at, Vec::new())
    };
    beside.reserves.clone_from(&snapshot.reserves);
    beside.mix.clone_from(&snapshot.mix);
    free.saturating_add(one_by_one(request, beside, limit.saturating_sub(free)))
}

/// Whether a reserve may be about room of this node.
fn holds_slots(node: &NodeSnapshot, snapshot: &FleetSnapshot) -> bool {
    snapshot.reserves.iter().any(|reserve| reserve.region == node.region && node.slots(&reserve.demand) > 0)
}

fn one_by_one(request: &PlacementRequest, mut fleet: FleetSnapshot, limit: u64) -> u64 {
    let mut placed = 0;
    while placed < limit
        && let Ok(placement) = place(request, &fleet)
    {
        let Some(node) = fleet.nodes.iter_mut().find(|node| node.id == placement.node_id) else { break };
        node.reserve(request);
        placed += 1;
    }
    placed
}

/// How many like it one node takes that takes one.
fn on(node: &NodeSnapshot, request: &PlacementRequest) -> u64 {
    let ports = match request.address {
        AddressKind::ForwardedPort => node.free_ports,
        AddressKind::Routed => node.free_routed,
    };
    let alone = if request.affinity == Affinity::Apart && request.group_key().is_some() { 1 } else { u64::MAX };
    node.slots(&request.demand()).min(u64::from(ports.min(node.free_addresses))).min(alone)
}

/// How many more of each plan each region takes, reachable through forwarded ports.
#[must_use]
pub fn capacity_report(plans: &[PlanShare], snapshot: &FleetSnapshot) -> Vec<Capacity> {
    let regions: BTreeSet<&RegionName> = snapshot.nodes.iter().map(|node| &node.region).collect();
    let mut report = Vec::with_capacity(regions.len() * plans.len());
    for region in regions {
        for share in plans {
            let request = PlacementRequest::new(region.clone(), share.demand.clone());
            report.push(Capacity {
                region: region.clone(),
                plan: share.plan.clone(),
                more: how_many_fit(&request, snapshot),
            });
        }
    }
    report
}

/// Refuses amounts that no node with these labels could hold even if it were empty; the error names the first field that is
/// to blame and the most that any of them has. A fleet without nodes refuses nothing: its machines are yet to come.
///
/// # Errors
/// `invalid_argument` with the field `labels`, `storage_class`, `vcpu`, `memory_mib`, `disk_gib` or `gpus`.
pub fn could_ever_hold(demand: &Demand, labels: &BTreeSet<Label>, snapshot: &FleetSnapshot) -> Result<(), Failure> {
    if snapshot.nodes.is_empty() {
        return Ok(());
    }
    let labelled: Vec<&NodeSnapshot> = snapshot.nodes.iter().filter(|node| labels.is_subset(&node.labels)).collect();
    if labelled.is_empty() {
        return Err(no_such_labels(labels, &snapshot.nodes));
    }
    if labelled.iter().any(|node| empty(node).slots(demand) > 0) {
        return Ok(());
    }
    let nodes: Vec<&NodeSnapshot> =
        labelled.iter().copied().filter(|node| node.pool(&demand.storage_class).is_some()).collect();
    if nodes.is_empty() {
        let classes: BTreeSet<&StorageClass> =
            labelled.iter().flat_map(|node| node.pools.iter().map(|pool| &pool.storage_class)).collect();
        let list: Vec<&str> = classes.into_iter().map(StorageClass::as_str).collect();
        let message = format!("no node has storage `{}`: use one of {}", demand.storage_class, list.join(", "));
        return Err(Failure::field("storage_class", message));
    }
    Err(to_blame(demand, &nodes))
}

fn no_such_labels(labels: &BTreeSet<Label>, nodes: &[NodeSnapshot]) -> Failure {
    let nowhere = labels.iter().find(|label| !nodes.iter().any(|node| node.labels.contains(*label)));
    let message = match nowhere {
        Some(label) => {
            format!("no node has the label `{label}`: give it to one first, or take the plan off sale until then")
        }
        None => "no single node has all of these labels: give them to one first, or take the plan off sale until then"
            .to_owned(),
    };
    Failure::field("labels", message)
}

fn to_blame(demand: &Demand, nodes: &[&NodeSnapshot]) -> Failure {
    let most = |of: &dyn Fn(&NodeSnapshot) -> u64| nodes.iter().map(|node| of(node)).max().unwrap_or(0);
    let vcpu = most(&|node| node.vcpu_room().capacity);
    if u64::from(demand.vcpu.0) > vcpu {
        return Failure::field("vcpu", format!("no node could ever hold this: the largest sells {vcpu} processors"));
    }
    let memory = most(&|node| node.memory_room().capacity);
    if demand.memory.0 > memory {
        return Failure::field("memory_mib", format!("no node could ever hold this: the largest sells {memory} MiB"));
    }
    let disk = most(&|node| node.pool(&demand.storage_class).map_or(0, |pool| node.pool_room(pool).capacity));
    if Bytes::from(demand.disk).0 > disk {
        let gib = disk >> 30;
        return Failure::field("disk_gib", format!("no node could ever hold this: the largest pool sells {gib} GiB"));
    }
    if let Some(wanted) = &demand.gpus {
        let gpus = most(&|node| {
            let suits = node.gpus.iter().filter(|g| wanted.model.as_ref().is_none_or(|model| g.model == *model));
            suits.map(|g| g.room.capacity).max().unwrap_or(0)
        });
        if u64::from(wanted.count) > gpus {
            let model = wanted.model.as_ref().map_or_else(String::new, |model| format!(" of model {model}"));
            return Failure::field("gpus", format!("no node could ever hold this: the most{model} in one is {gpus}"));
        }
    }
    Failure::field(
        "vcpu",
        "no single node could ever hold all of these amounts together: use smaller ones, or enroll a larger node",
    )
}

/// The node with nothing reserved on it.
fn empty(node: &NodeSnapshot) -> NodeSnapshot {
    let mut node = node.clone();
    (node.vcpu.used, node.memory.used) = (0, 0);
    node.pools.iter_mut().for_each(|pool| pool.room.used = 0);
    node.gpus.iter_mut().for_each(|gpus| gpus.room.used = 0);
    node
}
