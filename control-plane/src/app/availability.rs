//! What can be had where, now: the placement of an order that nobody places.

use std::collections::BTreeSet;

use nemordp_model::{FleetSnapshot, PlacementRequest, Plan, place};
use nemordp_store::{PAGE_MAX, Page};
use nemordp_types::{Bytes, Failure, PlanName, RegionName, Template, TemplateDigest, TemplateName};

use super::App;

/// How far room is counted: enough to see scarcity, and a bound on the work of one question.
const COUNT_MAX: u32 = 100;

/// Room for one plan in one region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Availability {
    /// Where.
    pub region: RegionName,
    /// What.
    pub plan: PlanName,
    /// How many orders would find room one after the other, counted up to 100.
    pub more: u32,
}

impl App {
    /// Every region with every plan on sale, or those that were asked for.
    ///
    /// # Errors
    /// `unknown_region`, `unknown_plan`, `unknown_template` for what was asked for and is not there.
    pub async fn availability(
        &self,
        region: Option<&RegionName>,
        plan: Option<&PlanName>,
        template: Option<&TemplateName>,
    ) -> Result<Vec<Availability>, Failure> {
        let template = match template {
            Some(name) => Some(self.template(name).await?.template),
            None => None,
        };
        let plans = match plan {
            Some(name) => vec![self.plan_on_sale(name).await?],
            None => self.plans(Page::first(PAGE_MAX)).await?.items.into_iter().filter(|plan| plan.on_sale).collect(),
        };
        let regions = match region {
            Some(region) => {
                self.check_region(region).await?;
                BTreeSet::from([region.clone()])
            }
            None => self.regions().await?,
        };
        let snapshot = self.store.fleet_snapshot(region).await?;
        let mut found = Vec::new();
        for region in &regions {
            for plan in &plans {
                let fits = template.as_ref().is_none_or(|template| plan.holds(template).is_ok());
                let more = if fits { count(&request(region, plan, template.as_ref()), &snapshot) } else { 0 };
                found.push(Availability { region: region.clone(), plan: plan.name.clone(), more });
            }
        }
        Ok(found)
    }
}

/// What placement is asked for a plan; without a template none has to be fetched.
pub(super) fn request(region: &RegionName, plan: &Plan, template: Option<&Template>) -> PlacementRequest {
    PlacementRequest {
        region: region.clone(),
        vcpu: plan.vcpu,
        memory: plan.memory,
        disk: plan.disk,
        storage_class: plan.storage_class.clone(),
        template: template.map_or(TemplateDigest::from_bytes([0; 32]), |template| template.digest),
        template_size: template.map_or(Bytes::ZERO, |template| template.file_size),
        exclude: BTreeSet::new(),
    }
}

/// Places one after the other on a copy of the snapshot.
fn count(request: &PlacementRequest, snapshot: &FleetSnapshot) -> u32 {
    let mut fleet = snapshot.clone();
    for placed in 0..COUNT_MAX {
        let Ok(placement) = place(request, &fleet) else { return placed };
        let Some(node) = fleet.nodes.iter_mut().find(|node| node.id == placement.node_id) else { return placed };
        node.vcpu.used += u64::from(request.vcpu.0);
        node.memory.used += request.memory.0;
        node.free_ports -= 1;
        node.free_addresses -= 1;
        if let Some(pool) = node.pools.iter_mut().find(|pool| pool.storage_class == request.storage_class) {
            pool.room.used += Bytes::from(request.disk).0;
        }
    }
    COUNT_MAX
}
