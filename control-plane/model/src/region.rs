//! Where something can be had.

use nemordp_types::{PlanName, RegionName};
use serde::{Deserialize, Serialize};

use crate::placement::{FleetSnapshot, PlacementRequest, place};

/// Whether a plan can be had in a region now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionAvailability {
    /// Where.
    pub region: RegionName,
    /// What.
    pub plan: PlanName,
    /// Whether an order would find room.
    pub available: bool,
}

impl RegionAvailability {
    /// What an order for the plan would be told now.
    #[must_use]
    pub fn of(plan: PlanName, request: &PlacementRequest, snapshot: &FleetSnapshot) -> Self {
        Self { region: request.region.clone(), plan, available: place(request, snapshot).is_ok() }
    }
}
