//! The GPUs that the operator gives to instances.

use nemordp_types::{Failure, GpuModel};
use serde::Deserialize;

use super::text::from_text;
use crate::host::gpu::PciAddress;

/// One GPU that is handed through to guests, whole; nothing else of the machine uses it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuConfig {
    /// Its make, as plans name it.
    pub model: GpuModel,
    /// Where it sits.
    #[serde(deserialize_with = "from_text")]
    pub address: PciAddress,
}

/// Refuses an address that stands twice.
pub(super) fn check(gpus: &[GpuConfig]) -> Result<(), Failure> {
    for (index, gpu) in gpus.iter().enumerate() {
        if gpus[..index].iter().any(|other| other.address == gpu.address) {
            let message = format!("{} stands twice: name each GPU once", gpu.address);
            return Err(Failure::field("address", message));
        }
    }
    Ok(())
}
