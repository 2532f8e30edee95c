//! Slots of scarce plans that cheaper orders may not take: the operator's word, by region and plan.

use jiff::Timestamp;
use nemordp_model::{EventKind, SlotReserve};
use nemordp_types::{PlanName, RegionName};
use serde_json::json;

use crate::Store;
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::idempotency::{Idempotency, Once, once};
use crate::plan;
use crate::sql::{Query, Row, values};
use crate::transaction::{Sql, Tx};

/// How many orders of a plan must stay possible in a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanReserve {
    /// Where.
    pub region: RegionName,
    /// Of which plan.
    pub plan: PlanName,
    /// How many; none when nothing is held for it any more.
    pub slots: u32,
    /// When it was set.
    pub updated_at: Timestamp,
}

fn plan_reserve(row: &Row) -> Result<PlanReserve> {
    Ok(PlanReserve {
        region: row.get("region")?,
        plan: row.get("plan")?,
        slots: row.get("slots")?,
        updated_at: row.get("updated_at")?,
    })
}

/// What binds orders now: reserves for plans that are on sale and ask for GPUs, with the plans' amounts of today.
pub(crate) async fn binding(sql: &mut impl Sql, region: Option<&RegionName>) -> Result<Vec<SlotReserve>> {
    let text = "SELECT s.region, s.slots, p.vcpu, p.memory_mib, p.disk_gib, p.storage_class, p.gpu_count, p.gpu_model \
                FROM slot_reserve s JOIN plan p ON p.name = s.plan WHERE p.on_sale = 1 AND p.gpu_count > 0 \
                AND ($1 IS NULL OR s.region = $1) ORDER BY s.region, s.plan";
    let rows = sql.fetch(Query::new("slot_reserve", text, values![region])).await?;
    let reserve = |row: &Row| {
        let demand = plan::demand(row)?;
        Ok(SlotReserve { region: row.get("region")?, demand, slots: row.get("slots")? })
    };
    rows.iter().map(reserve).collect()
}

async fn set_in_tx(tx: &mut Tx, region: &RegionName, plan: &PlanName, slots: u32) -> Result<PlanReserve> {
    let now = tx.now;
    let body = json!({ "region": region, "plan": plan, "slots": slots });
    tx.event(EventKind::ReserveChanged, Subject::default(), body).await?;
    if slots == 0 {
        let sql = "DELETE FROM slot_reserve WHERE region = $1 AND plan = $2";
        tx.execute(Query::new("slot_reserve", sql, values![region, plan])).await?;
        return Ok(PlanReserve { region: region.clone(), plan: plan.clone(), slots, updated_at: now });
    }
    let sql = "INSERT INTO slot_reserve (region, plan, slots, updated_at) VALUES ($1, $2, $3, $4) \
               ON CONFLICT (region, plan) DO UPDATE SET slots = excluded.slots, updated_at = excluded.updated_at \
               RETURNING region, plan, slots, updated_at";
    let row = tx.fetch_optional(Query::new("slot_reserve", sql, values![region, plan, slots, now])).await?;
    plan_reserve(&row.ok_or(StoreError::NotFound { noun: "reserve" })?)
}

impl Store {
    /// Holds slots of a plan in a region; none lifts it.
    pub async fn slot_reserve_set(
        &self,
        region: &RegionName,
        plan: &PlanName,
        slots: u32,
        intention: Option<&Idempotency<'_, PlanReserve>>,
    ) -> Result<Once<PlanReserve>> {
        transaction!(self, |tx| once!(tx, intention, set_in_tx(tx, region, plan, slots).await?))
    }

    /// All of them, by region and plan; those too that bind nobody, because the plan is off sale.
    pub async fn slot_reserve_list(&self) -> Result<Vec<PlanReserve>> {
        let sql = "SELECT region, plan, slots, updated_at FROM slot_reserve ORDER BY region, plan";
        self.reader().fetch(Query::new("slot_reserve", sql, vec![])).await?.iter().map(plan_reserve).collect()
    }
}
