//! GPUs: what plans ask for, what nodes have.

use nemordp_types::GpuModel;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whole GPUs of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "count": 1, "model": "rtx4000" }))]
pub struct Gpus {
    /// How many, 1 to 64.
    #[schema(minimum = 1, maximum = 64)]
    pub count: u32,
    /// Of which model, as the nodes' operators call it; of any one model when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub model: Option<GpuModel>,
}

/// The GPUs of one model in a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeGpus {
    /// Which model.
    #[schema(value_type = String, example = "rtx4000")]
    pub model: GpuModel,
    /// How many it has; less than are reserved where it lost some.
    pub count: u64,
    /// How many are reserved.
    pub reserved: u64,
}
