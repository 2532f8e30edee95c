//! The same decision on a fleet with nodes or plans added or removed.

use nemordp_types::{NodeId, PlanName};
use serde::{Deserialize, Serialize};

use super::PlacementRequest;
use super::explain::{Explained, explain};
use super::snapshot::{FleetSnapshot, NodeSnapshot, PlanShare};

/// One thing that would be different.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// A node more; one of the same id is replaced.
    AddNode(Box<NodeSnapshot>),
    /// A node less.
    RemoveNode(NodeId),
    /// A plan more in the expected mix; one of the same name is replaced.
    AddPlan(PlanShare),
    /// A plan less.
    RemovePlan(PlanName),
}

/// The decision as it is and as it would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WhatIf {
    /// On the snapshot.
    pub now: Explained,
    /// On the changed one.
    pub then: Explained,
}

/// The snapshot with the changes made, in their order.
#[must_use]
pub fn changed(snapshot: &FleetSnapshot, changes: &[Change]) -> FleetSnapshot {
    let mut fleet = snapshot.clone();
    for change in changes {
        match change {
            Change::AddNode(node) => {
                fleet.nodes.retain(|other| other.id != node.id);
                fleet.nodes.push((**node).clone());
            }
            Change::RemoveNode(id) => fleet.nodes.retain(|node| node.id != *id),
            Change::AddPlan(share) => {
                fleet.mix.retain(|other| other.plan != share.plan);
                fleet.mix.push(share.clone());
            }
            Change::RemovePlan(plan) => fleet.mix.retain(|share| share.plan != *plan),
        }
    }
    fleet
}

/// Decides twice.
#[must_use]
pub fn what_if(request: &PlacementRequest, snapshot: &FleetSnapshot, changes: &[Change]) -> WhatIf {
    WhatIf { now: explain(request, snapshot), then: explain(request, &changed(snapshot, changes)) }
}
