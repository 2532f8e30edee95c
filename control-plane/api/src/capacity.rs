//! How many more of each plan each region takes.

use nemordp_types::{PlanName, RegionName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many more of a plan a region takes now. Only an order reserves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Capacity {
    /// Where.
    #[schema(value_type = String, example = "fsn1")]
    pub region: RegionName,
    /// Which plan.
    #[schema(value_type = String, example = "basic")]
    pub plan: PlanName,
    /// How many orders of it alone would find room one after the other.
    pub more: u64,
}

/// Every region with every plan on sale.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapacityList {
    /// By region, then plan.
    pub items: Vec<Capacity>,
}

/// How many more of a plan a region takes now and would take then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CapacityChange {
    /// Where.
    #[schema(value_type = String, example = "fsn1")]
    pub region: RegionName,
    /// Which plan.
    #[schema(value_type = String, example = "basic")]
    pub plan: PlanName,
    /// Now; absent for a plan or region that is only supposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<u64>,
    /// Then; absent for a plan that is supposed to be gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<u64>,
}
