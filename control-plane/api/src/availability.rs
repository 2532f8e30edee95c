//! What can be had where, now.

use nemordp_types::{PlanName, RegionName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whether a plan can be had in a region now. Only an order reserves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Availability {
    /// Where.
    #[schema(value_type = String, example = "fsn1")]
    pub region: RegionName,
    /// What.
    #[schema(value_type = String, example = "basic")]
    pub plan: PlanName,
    /// Whether an order would find room.
    pub available: bool,
    /// How many orders would find room one after the other, counted up to 100.
    pub more: u32,
}

/// Every region with every plan on sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AvailabilityList {
    /// By region, then plan.
    pub items: Vec<Availability>,
}
