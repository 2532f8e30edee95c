//! Slots that are held for scarce plans.

use nemordp_store::{Idempotency, Once, PlanReserve};
use nemordp_types::{Failure, PlanName, RegionName};

use super::App;

/// More than any fleet has room for.
const SLOTS_MAX: u32 = 100_000;

impl App {
    /// All reserves.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn reserves(&self) -> Result<Vec<PlanReserve>, Failure> {
        Ok(self.store.slot_reserve_list().await?)
    }

    /// Keeps so many orders of a plan possible in a region: orders that ask for no GPU are refused (`reserve`) where they would
    /// take one of the last slots. None lifts it.
    ///
    /// # Errors
    /// `unknown_region`, `unknown_plan`; `invalid_argument` for a plan without GPUs, naming the field.
    pub async fn reserve_set(
        &self,
        region: &RegionName,
        plan: &PlanName,
        slots: u32,
        intention: Option<&Idempotency<'_, PlanReserve>>,
    ) -> Result<Once<PlanReserve>, Failure> {
        if slots > SLOTS_MAX {
            return Err(Failure::field("slots", format!("use at most {SLOTS_MAX}; 0 lifts the reserve")));
        }
        if slots > 0 {
            self.check_region(region).await?;
            if self.plan_on_sale(plan).await?.gpus.is_none() {
                let message = format!("plan `{plan}` asks for no GPU: only slots of plans that do are held");
                return Err(Failure::field("plan", message));
            }
        }
        Ok(self.store.slot_reserve_set(region, plan, slots, intention).await?)
    }
}
