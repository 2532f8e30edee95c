//! What is held for scarce plans.

use jiff::Timestamp;
use nemordp_types::{PlanName, RegionName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many orders of a plan must stay possible in a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reserve {
    /// Where.
    #[schema(value_type = String, example = "fsn1")]
    pub region: RegionName,
    /// Of which plan.
    #[schema(value_type = String, example = "gpu")]
    pub plan: PlanName,
    /// How many; 0 when nothing is held any more.
    pub slots: u32,
    /// When it was set.
    #[schema(value_type = String, format = DateTime)]
    pub updated_at: Timestamp,
}

/// All reserves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReserveList {
    /// By region, then plan.
    pub items: Vec<Reserve>,
}

/// Slots to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "region": "fsn1", "plan": "gpu", "slots": 4 }))]
pub struct SetReserve {
    /// Where.
    #[schema(value_type = String)]
    pub region: RegionName,
    /// Of which plan; one that asks for GPUs and is on sale.
    #[schema(value_type = String)]
    pub plan: PlanName,
    /// How many orders of it must stay possible; 0 lifts the reserve.
    #[schema(minimum = 0, maximum = 100_000)]
    pub slots: u32,
}
