//! Accepting an order: everything that it needs is taken in one transaction, or nothing is. [`crate::burst`] does it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use nemordp_model::{EventKind, GpuDemand, Instance, Label, Lifecycle, Order, OrderState, Siting};
use nemordp_types::instance::{DesiredPower, DiskSet, GpuSpec, GuestSpec, InstanceSpec, NetworkSpec};
use nemordp_types::{
    Fence, Generation, GiB, HostName, InstanceId, KeyboardLayout, MiB, NodeId, OrderId, PlanName, RegionName,
    ReservationId, StorageClass, Template, TemplateName, TenantId, TimeZoneName, Vcpu,
};
use serde_json::json;

use crate::Store;
use crate::burst::Candidate;
use crate::claim;
use crate::decision::{self, Decision};
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::group_member;
use crate::idempotency::{Idempotency, Once};
use crate::instance;
use crate::lease::{self, Lease};
use crate::page::TenantScope;
use crate::reservation::{self, NewReservation, Taken};
use crate::saga::NewSaga;
use crate::transaction::Tx;

/// What an instance takes of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Processors.
    pub vcpu: Vcpu,
    /// Memory.
    pub memory: MiB,
    /// Size of the disk.
    pub disk: GiB,
    /// On what the disk lies.
    pub storage_class: StorageClass,
    /// GPUs.
    pub gpus: Option<GpuDemand>,
}

impl Shape {
    pub(crate) fn of(spec: &InstanceSpec) -> Self {
        Self {
            vcpu: spec.vcpu,
            memory: spec.memory,
            disk: spec.disk,
            storage_class: spec.storage_class.clone(),
            gpus: spec.gpus.clone().map(GpuDemand::from),
        }
    }

    /// The same on another node, where GPUs of another model may do.
    fn elsewhere(instance: &Instance) -> Self {
        let mut shape = Self::of(&instance.spec);
        if let Some(gpus) = shape.gpus.as_mut().filter(|_| instance.siting.any_gpu_model) {
            gpus.model = None;
        }
        shape
    }
}

/// What a customer orders.
#[derive(Debug, Clone)]
pub struct NewOrder {
    /// Its id.
    pub id: OrderId,
    /// Whose customer.
    pub tenant_id: TenantId,
    /// What the storefront calls it.
    pub external_reference: Option<Label>,
    /// What is bought.
    pub plan: PlanName,
    /// What it is made from.
    pub template: TemplateName,
    /// Where.
    pub region: RegionName,
    /// Name of the guest.
    pub host_name: HostName,
    /// Time zone of the guest.
    pub time_zone: Option<TimeZoneName>,
    /// Keyboard layout of the guest.
    pub keyboard: Option<KeyboardLayout>,
}

/// An order with the decision where it goes.
#[derive(Debug, Clone)]
pub struct OrderAccept {
    /// What is ordered.
    pub order: NewOrder,
    /// Id of the instance that will fulfil it.
    pub instance_id: InstanceId,
    /// Id of the reservation.
    pub reservation_id: ReservationId,
    /// Where placement put it.
    pub node_id: NodeId,
    /// Where it goes, in this order, when that node was filled meanwhile.
    pub alternatives: Vec<NodeId>,
    /// Why it goes there.
    pub decision: Option<Decision>,
    /// The template's manifest.
    pub template: Template,
    /// The plan's amounts.
    pub shape: Shape,
    /// What it asks of its node beyond them.
    pub siting: Siting,
    /// Until when it is paid for, where that is known.
    pub paid_until: Option<Timestamp>,
    /// How the guest presents itself.
    pub guest: GuestSpec,
    /// The saga that fulfils it.
    pub saga: NewSaga,
}

/// Another place for an instance.
#[derive(Debug, Clone)]
pub struct NewPlace {
    /// Which instance.
    pub instance_id: InstanceId,
    /// Where placement put it.
    pub node_id: NodeId,
    /// Id of the reservation there.
    pub reservation_id: ReservationId,
    /// Why it goes there.
    pub decision: Decision,
}

/// What was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The order.
    pub order: Order,
    /// Its instance.
    pub instance: Instance,
    /// The port was given to it before it had rested its time, because none else was left.
    pub rest_shortened: bool,
}

/// Order and instance at their beginning, on the node that gave them these GPUs and this network.
pub(crate) fn begin(
    accept: &OrderAccept,
    node_id: NodeId,
    gpus: Option<GpuSpec>,
    network: NetworkSpec,
    now: Timestamp,
) -> (Order, Instance) {
    let OrderAccept { order: new, instance_id, shape, .. } = accept;
    let order = Order {
        id: new.id,
        tenant_id: new.tenant_id,
        external_reference: new.external_reference.clone(),
        plan: new.plan.clone(),
        template: new.template.clone(),
        region: new.region.clone(),
        host_name: new.host_name.clone(),
        time_zone: new.time_zone.clone(),
        keyboard: new.keyboard.clone(),
        state: OrderState::Accepted,
        failure: None,
        instance_id: *instance_id,
        saga_id: accept.saga.id,
        created_at: now,
        updated_at: now,
    };
    let instance = Instance {
        id: *instance_id,
        order_id: new.id,
        tenant_id: new.tenant_id,
        node_id,
        siting: Siting {
            any_gpu_model: shape.gpus.as_ref().is_some_and(|gpus| gpus.model.is_none()),
            ..accept.siting.clone()
        },
        spec: InstanceSpec {
            order_id: new.id,
            vcpu: shape.vcpu,
            memory: shape.memory,
            disk: shape.disk,
            storage_class: shape.storage_class.clone(),
            template: accept.template.clone(),
            network,
            guest: accept.guest.clone(),
            power: DesiredPower::On,
            suspended: false,
            disks: DiskSet::default(),
            gpus,
        },
        generation: Generation(1),
        fence: Fence(0),
        lifecycle: Lifecycle::Provisioning,
        observed: None,
        observed_at: None,
        rdp_certificate_sha256: None,
        frozen: None,
        frozen_at: None,
        suspended_at: None,
        delete_after: None,
        misaligned_at: None,
        paid_until: accept.paid_until,
        created_at: now,
        updated_at: now,
    };
    (order, instance)
}

/// `Raced` when labels, owner or company of the node, whose row the transaction has taken, have changed since the decision.
async fn still_suits(tx: &mut Tx, instance: &Instance, node_id: NodeId, taken: &Taken) -> Result<()> {
    let Instance { siting, tenant_id, .. } = instance;
    if !siting.suits(*tenant_id, &taken.labels, taken.pinned_to) {
        return Err(StoreError::Raced);
    }
    let Some(group) = siting.group_of(*tenant_id) else { return Ok(()) };
    let there = group_member::of(tx, &BTreeSet::from([group.clone()])).await?;
    let members = there.get(&node_id).and_then(|groups| groups.get(&group)).copied().unwrap_or_default();
    if members.admit(siting.affinity) { Ok(()) } else { Err(StoreError::Raced) }
}

impl Store {
    /// Accepts an order on a node: idempotency key, order, instance, capacity, port, private address, saga and events at
    /// once. `Raced` when the room is gone there and on all alternatives: take a new snapshot and place again. The pools'
    /// exhaustion is typed.
    pub async fn order_accept(
        &self,
        accept: &OrderAccept,
        intention: Option<&Idempotency<'_, Accepted>>,
    ) -> Result<Once<Accepted>> {
        let outcome = self.order_accept_burst(&[Candidate { accept, intention }]).await.pop();
        outcome.unwrap_or_else(|| Err(StoreError::Driver("an order got no outcome".to_owned())))
    }

    /// Gives back what an instance holds: capacity, port (which rests) and private address. Safe to repeat.
    pub async fn order_release(&self, instance_id: InstanceId) -> Result<()> {
        transaction!(self, |tx| crate::effect::release_in_tx(tx, instance_id).await)
    }

    /// Puts an instance that was never handed over on another node: what it held is given back, the same is taken there,
    /// the generation rises, and the decision takes the place of the one that was kept with the order. Gives the lease with
    /// the new numbers. `Raced` leaves everything as it was.
    pub async fn instance_place_again(&self, lease: &Lease, place: &NewPlace) -> Result<(Instance, Lease)> {
        let NewPlace { instance_id, node_id, reservation_id, ref decision } = *place;
        transaction!(self, |tx| {
            lease::guard_in_tx(tx, lease).await?;
            let mut instance = instance::fetch_locked(tx, TenantScope::All, instance_id).await?;
            if instance.lifecycle != Lifecycle::Provisioning {
                instance.lifecycle.to(Lifecycle::Failed)?;
            }
            reservation::release_in_tx(tx, instance_id).await?;
            let shape = Shape::elsewhere(&instance);
            let taken = reservation::take_in_tx(tx, node_id, &shape).await?;
            still_suits(tx, &instance, node_id, &taken).await?;
            instance.spec.network = claim::network_in_tx(tx, node_id, instance_id, &taken.inventory).await?.spec;
            let (sequence, gpus) = (taken.sequence, taken.gpus.as_ref());
            let new = NewReservation { id: reservation_id, instance_id, node_id, shape: &shape, gpus, sequence };
            reservation::insert_in_tx(tx, &[new]).await?;
            instance.spec.gpus = taken.gpus;
            decision::keep_in_tx(tx, instance.order_id, &decision.reserved_on(node_id)).await?;
            instance.node_id = node_id;
            instance.generation = Generation(instance.generation.0 + 1);
            instance.observed = None;
            instance.rdp_certificate_sha256 = None;
            instance.updated_at = tx.now;
            instance::update_in_tx(tx, &instance).await?;
            tx.event(EventKind::InstancePlacedAgain, Subject::from(&instance), json!({})).await?;
            let mut lease = lease.clone();
            lease.instance = Some((instance_id, instance.pair()));
            Ok((instance, lease))
        })
    }
}
