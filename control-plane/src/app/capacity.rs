//! How many more of each plan each region takes.

use std::collections::BTreeSet;

use nemordp_model::{Capacity, FleetSnapshot, Plan, how_many_fit};
use nemordp_store::{PAGE_MAX, Page};
use nemordp_types::{Failure, PlanName, RegionName};

use super::App;

impl App {
    /// Every region with every plan on sale, or those that were asked for; by region, then plan. For a tenant that no node
    /// is kept for.
    ///
    /// # Errors
    /// `unknown_region`, `unknown_plan` for what was asked for and is not there.
    pub async fn capacity(
        &self,
        region: Option<&RegionName>,
        plan: Option<&PlanName>,
    ) -> Result<Vec<Capacity>, Failure> {
        let plans = match plan {
            Some(name) => vec![self.plan_on_sale(name).await?],
            None => self.plans_on_sale().await?,
        };
        let regions = match region {
            Some(region) => {
                self.check_region(region).await?;
                BTreeSet::from([region.clone()])
            }
            None => self.regions().await?,
        };
        let snapshot = self.fleet.snapshot_for(region, &BTreeSet::new()).await?;
        report(regions, plans, snapshot).await
    }

    /// All plans that new orders may name.
    pub(super) async fn plans_on_sale(&self) -> Result<Vec<Plan>, Failure> {
        let mut plans = Vec::new();
        let mut page = Page::first(PAGE_MAX);
        loop {
            let found = self.plans(page).await?;
            plans.extend(found.items.into_iter().filter(|plan| plan.on_sale));
            let Some(next) = found.next else { return Ok(plans) };
            page = Page::after(next, PAGE_MAX);
        }
    }
}

/// Counting over many nodes takes its time; nobody else's task waits for it.
pub(super) async fn report(
    regions: BTreeSet<RegionName>,
    plans: Vec<Plan>,
    snapshot: FleetSnapshot,
) -> Result<Vec<Capacity>, Failure> {
    let count = move || {
        let mut report = Vec::with_capacity(regions.len() * plans.len());
        for region in &regions {
            for plan in &plans {
                let more = how_many_fit(&super::availability::request(region, plan, None), &snapshot);
                report.push(Capacity { region: region.clone(), plan: plan.name.clone(), more });
            }
        }
        report
    };
    tokio::task::spawn_blocking(count).await.map_err(Failure::internal)
}
