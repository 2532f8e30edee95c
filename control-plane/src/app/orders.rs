//! Orders: checked, placed, reserved; or refused with nothing stored.

use std::collections::BTreeSet;

use nemordp_api::NewOrder;
use nemordp_model::{Affinity, Label, Order, PlacementRequest, Plan, SagaKind, Siting};
use nemordp_store::{
    Accepted, Idempotency, NewOrder as StoredOrder, Once, OrderAccept, OrderFilter, Page, Paged, Shape, StoreError,
    TenantScope,
};
use nemordp_types::instance::GuestSpec;
use nemordp_types::{
    Failure, HostName, InstanceId, OrderId, Reason, RegionName, ReservationId, Template, TemplateName, TenantId,
    TimeZoneName,
};

use super::{App, Intention, Orderer, Subject};

impl App {
    /// Accepts an order: everything that it needs is taken in one transaction, or nothing is. Orders that arrive together
    /// share the transaction.
    ///
    /// # Errors
    /// `unknown_plan`, `unknown_template`, `unknown_region`, `disk_too_small`, `invalid_argument` name the field;
    /// `capacity_exhausted`, `port_pool_exhausted`, `address_pool_exhausted` leave nothing stored.
    pub async fn order_accept(
        &self,
        orderer: Orderer,
        new: NewOrder,
        intention: Option<Intention>,
    ) -> Result<Once<Accepted>, Failure> {
        let (plan, template) = self.check(&new).await?;
        let siting = Siting::new(new.placement_group.clone(), new.affinity.map(affinity_of))?;
        let siting = Siting { labels: plan.labels.clone(), pinned: orderer.pinned, ..siting };
        let accept = self.draft(orderer.tenant_id, new, &plan, template, siting)?;
        let request = super::availability::request(&accept.order.region, &plan, Some(&accept.template))
            .sited(orderer.tenant_id, &accept.siting);
        let request = PlacementRequest { ends_at: accept.paid_until, ..request };
        let once = self.desk.accept(accept, request, intention).await?;
        if let Once::Done(accepted) = &once {
            self.work.poke();
            tracing::info!(
                order_id = %accepted.order.id, instance_id = %accepted.instance.id,
                node_id = %accepted.instance.node_id, rest_shortened = accepted.rest_shortened,
                "order accepted"
            );
        }
        Ok(once)
    }

    /// An order.
    ///
    /// # Errors
    /// `not_found`, another tenant's included.
    pub async fn order(&self, scope: TenantScope, id: OrderId) -> Result<Order, Failure> {
        Ok(self.store.order_fetch(scope, id).await?)
    }

    /// Orders, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn orders(
        &self,
        scope: TenantScope,
        filter: &OrderFilter,
        page: Page<OrderId>,
    ) -> Result<Paged<Order, OrderId>, Failure> {
        Ok(self.store.order_list(scope, filter, page).await?)
    }

    /// Calls an order off; what was built of it is removed.
    ///
    /// # Errors
    /// `conflict` once it is active (delete its instance) or over.
    pub async fn order_cancel(
        &self,
        scope: TenantScope,
        id: OrderId,
        intention: Option<&Idempotency<'_, Order>>,
    ) -> Result<Once<Order>, Failure> {
        let once = self.store.order_cancel(scope, id, intention).await?;
        self.work.poke();
        Ok(once)
    }

    async fn check(&self, new: &NewOrder) -> Result<(Plan, Template), Failure> {
        let plan = self.plan_on_sale(&new.plan).await?;
        let template = self.template_on_offer(&new.template).await?;
        self.check_region(&new.region).await?;
        plan.holds(&template)?;
        if let Some(zone) = &new.time_zone {
            check_time_zone(zone)?;
        }
        if new.paid_until.is_some_and(|paid_until| paid_until <= self.clock.now()) {
            return Err(Failure::field("paid_until", "use a time to come, or leave it out where it is not known"));
        }
        Ok((plan, template))
    }

    fn draft(
        &self,
        tenant_id: TenantId,
        new: NewOrder,
        plan: &Plan,
        template: Template,
        siting: Siting,
    ) -> Result<OrderAccept, Failure> {
        let (clock, entropy) = (self.clock.as_ref(), self.entropy.as_ref());
        let (order_id, instance_id) = (OrderId::new(clock, entropy), InstanceId::new(clock, entropy));
        let host_name = new.host_name.map_or_else(|| default_host_name(order_id), Ok)?;
        let external_reference =
            new.external_reference.map(|text| Label::new(text, "external_reference")).transpose()?;
        let guest = GuestSpec {
            host_name: host_name.clone(),
            login_name: template.login_name.clone(),
            time_zone: new.time_zone.clone(),
            keyboard: new.keyboard.clone(),
        };
        Ok(OrderAccept {
            order: StoredOrder {
                id: order_id,
                tenant_id,
                external_reference,
                plan: new.plan,
                template: new.template,
                region: new.region,
                host_name,
                time_zone: new.time_zone,
                keyboard: new.keyboard,
            },
            instance_id,
            reservation_id: ReservationId::new(clock, entropy),
            // Replaced by each placement.
            node_id: nemordp_types::NodeId::from_uuid(uuid::Uuid::nil()),
            alternatives: Vec::new(),
            decision: None,
            template,
            shape: Shape {
                vcpu: plan.vcpu,
                memory: plan.memory,
                disk: plan.disk,
                storage_class: plan.storage_class.clone(),
                gpus: plan.gpus.clone(),
            },
            siting,
            paid_until: new.paid_until,
            guest,
            saga: self.work.begin(SagaKind::Provision, Subject { order_id: Some(order_id), instance_id })?,
        })
    }

    /// A template that is registered.
    pub(super) async fn template_on_offer(&self, name: &TemplateName) -> Result<Template, Failure> {
        match self.store.template_fetch(name).await {
            Ok(registered) => Ok(registered.template),
            Err(StoreError::NotFound { .. }) => Err(Failure::new(
                Reason::UnknownTemplate,
                format!("no template `{name}` is registered: choose one that GET /v1/templates lists"),
            )
            .with_field("template")),
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses a region that neither a node nor the configuration has.
    pub(super) async fn check_region(&self, region: &RegionName) -> Result<(), Failure> {
        let known = self.regions().await?;
        if known.contains(region) {
            return Ok(());
        }
        let list: Vec<&str> = known.iter().map(RegionName::as_str).collect();
        let fix = if list.is_empty() { "enroll a node first".to_owned() } else { format!("use {}", list.join(", ")) };
        Err(Failure::new(Reason::UnknownRegion, format!("there is no region `{region}`: {fix}")).with_field("region"))
    }

    /// The regions of the nodes and those of the configuration.
    pub(super) async fn regions(&self) -> Result<BTreeSet<RegionName>, Failure> {
        let mut known: BTreeSet<RegionName> = self.store.region_list().await?.into_iter().collect();
        known.extend(self.config.regions.iter().cloned());
        Ok(known)
    }
}

const fn affinity_of(word: nemordp_api::Affinity) -> Affinity {
    match word {
        nemordp_api::Affinity::Any => Affinity::Any,
        nemordp_api::Affinity::PreferApart => Affinity::PreferApart,
        nemordp_api::Affinity::Apart => Affinity::Apart,
        nemordp_api::Affinity::PreferTogether => Affinity::PreferTogether,
    }
}

/// The last eight hex digits of the id: random, unlike its first ones.
fn default_host_name(order: OrderId) -> Result<HostName, Failure> {
    let digits = order.as_uuid().simple().to_string();
    HostName::new(format!("desk-{}", &digits[24..]))
}

/// The form was checked already; where the machine has the time zone database, the name must be in it.
fn check_time_zone(zone: &TimeZoneName) -> Result<(), Failure> {
    let database = jiff::tz::db();
    if database.available().next().is_none() || database.get(zone.as_str()).is_ok() {
        return Ok(());
    }
    Err(Failure::field(
        "time_zone",
        format!("`{zone}` is not in the IANA time zone database: use one like Europe/Berlin"),
    ))
}
