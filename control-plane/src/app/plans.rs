//! What is sold.

use std::collections::BTreeSet;

use nemordp_model::{Plan, could_ever_hold};
use nemordp_store::{Idempotency, NewPlan, Once, Page, Paged, StoreError};
use nemordp_types::{Failure, PlanName};

use super::App;

impl App {
    /// Makes a plan, or changes the one of this name. Instances that were sold keep their shape.
    ///
    /// # Errors
    /// Amounts that no machine has, too many labels; for a plan on sale also labels that no enrolled node has, and amounts
    /// that none with these labels could hold even if it were empty. All name the field. While no node is enrolled the latter
    /// are not known.
    pub async fn plan_put(
        &self,
        new: &NewPlan,
        intention: Option<&Idempotency<'_, Plan>>,
    ) -> Result<Once<Plan>, Failure> {
        let now = self.clock.now();
        let plan = Plan {
            name: new.name.clone(),
            vcpu: new.vcpu,
            memory: new.memory,
            disk: new.disk,
            storage_class: new.storage_class.clone(),
            gpus: new.gpus.clone(),
            labels: new.labels.clone(),
            on_sale: new.on_sale,
            created_at: now,
            updated_at: now,
        };
        plan.check()?;
        if plan.on_sale {
            let fleet = self.store.fleet_snapshot_for(None, &BTreeSet::new()).await?;
            could_ever_hold(&plan.demand(), &plan.labels, &fleet)?;
        }
        Ok(self.store.plan_put(new, intention).await?)
    }

    /// A plan by its name.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn plan(&self, name: &PlanName) -> Result<Plan, Failure> {
        Ok(self.store.plan_fetch(name).await?)
    }

    /// Plans by name.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn plans(&self, page: Page<PlanName>) -> Result<Paged<Plan, PlanName>, Failure> {
        Ok(self.store.plan_list(page).await?)
    }

    /// A plan that is on sale.
    ///
    /// # Errors
    /// `unknown_plan`, naming the field.
    pub(super) async fn plan_on_sale(&self, name: &PlanName) -> Result<Plan, Failure> {
        let unknown = || {
            Failure::new(
                nemordp_types::Reason::UnknownPlan,
                format!("no plan `{name}` is on sale: choose one that GET /v1/plans lists as on_sale"),
            )
            .with_field("plan")
        };
        match self.store.plan_fetch(name).await {
            Ok(plan) if plan.on_sale => Ok(plan),
            Ok(_) | Err(StoreError::NotFound { .. }) => Err(unknown()),
            Err(error) => Err(error.into()),
        }
    }
}
