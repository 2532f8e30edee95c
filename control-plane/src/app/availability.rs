//! What can be had where, now: the placement of an order that nobody places.

use std::collections::BTreeSet;

use nemordp_model::{PlacementRequest, Plan, how_many_fit_up_to};
use nemordp_store::{PAGE_MAX, Page};
use nemordp_types::{Bytes, Failure, PlanName, RegionName, Template, TemplateDigest, TemplateName, TenantId};

use super::App;

/// How far room is told: enough to see scarcity.
const COUNT_MAX: u32 = 100;

/// Whose orders they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orderer {
    /// The tenant.
    pub tenant_id: TenantId,
    /// Whether its instances may only lie on nodes that are kept for it.
    pub pinned: bool,
}

impl Orderer {
    /// The request as one of this tenant.
    fn asks(self, request: PlacementRequest) -> PlacementRequest {
        PlacementRequest { tenant: Some(self.tenant_id), pinned: self.pinned, ..request }
    }
}

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
    /// Every region with every plan on sale, or those that were asked for; for orders of this tenant.
    ///
    /// # Errors
    /// `unknown_region`, `unknown_plan`, `unknown_template` for what was asked for and is not there.
    pub async fn availability(
        &self,
        orderer: Orderer,
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
        let snapshot = self.store.fleet_snapshot_for(region, &BTreeSet::new()).await?;
        let mut found = Vec::new();
        for region in &regions {
            for plan in &plans {
                let fits = template.as_ref().is_none_or(|template| plan.holds(template).is_ok());
                let room = if fits {
                    let request = orderer.asks(request(region, plan, template.as_ref()));
                    how_many_fit_up_to(COUNT_MAX.into(), &request, &snapshot)
                } else {
                    0
                };
                let more = u32::try_from(room).unwrap_or(COUNT_MAX).min(COUNT_MAX);
                found.push(Availability { region: region.clone(), plan: plan.name.clone(), more });
            }
        }
        Ok(found)
    }
}

/// What placement is asked for a plan; without a template none has to be fetched.
pub(super) fn request(region: &RegionName, plan: &Plan, template: Option<&Template>) -> PlacementRequest {
    PlacementRequest {
        template: template.map_or(TemplateDigest::from_bytes([0; 32]), |template| template.digest),
        template_size: template.map_or(Bytes::ZERO, |template| template.file_size),
        labels: plan.labels.clone(),
        ..PlacementRequest::new(region.clone(), plan.demand())
    }
}
