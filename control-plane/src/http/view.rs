//! The model as the API shows it. Each match is complete, so that a new word of the model cannot be forgotten here.

pub(super) mod placement;

use std::collections::BTreeSet;

use nemordp_api as api;
use nemordp_model as model;
use nemordp_store::{Paged, PlanReserve, RegisteredTemplate};
use nemordp_types::instance::{DesiredPower, ObservedPower};
use nemordp_types::node::{Acceleration, NodeAvailability, NodePolicy};
use nemordp_types::template::{Personalisation, RdpSecurity, TemplatePresence, TemplateState};

use super::request::cursor;

macro_rules! mirror {
    ($(#[$doc:meta])* $function:ident: $from:ty => $to:ident { $($variant:ident),* $(,)? }) => {
        $(#[$doc])*
        pub(crate) const fn $function(value: $from) -> api::$to {
            match value { $(<$from>::$variant => api::$to::$variant,)* }
        }
    };
}

mirror!(order_state: model::OrderState => OrderState {
    Accepted, Provisioning, Active, Cancelling, Refused, Failed, Cancelled,
});
mirror!(lifecycle: model::Lifecycle => InstanceLifecycle { Provisioning, Active, Deleting, Deleted, Failed });
mirror!(power: ObservedPower => InstancePower { Absent, Off, Running, Paused, Failed });
mirror!(freeze: model::Freeze => InstanceFreeze { Unverified, StoreBehind, Undecided, Missing });
mirror!(saga_kind: model::SagaKind => OperationKind {
    Provision, Start, Stop, Restart, Reset, PasswordReset, Reinstall, Resize, Rename, Suspend, Unsuspend, Rescue,
    Unrescue, DeleteLater, Restore, Realign, Delete,
});
mirror!(saga_status: model::SagaStatus => OperationStatus { Running, Unwinding, Done, Unwound, Cancelled, Stuck });
mirror!(step_state: model::StepState => StepState { Pending, Running, Done, Failed, Undoing, Undone, Skipped });
mirror!(suspension_state: model::SuspensionState => SuspensionState { Wanted, Placed, Cancelling });
mirror!(affinity: model::Affinity => Affinity { Any, PreferApart, Apart, PreferTogether });
mirror!(node_policy: NodePolicy => NodePolicy { Active, Cordoned, Draining, Decommissioned });
mirror!(
    /// What is known of a node's life.
    node_availability: NodeAvailability => NodeAvailability { Unknown, Available, Suspect, Lost, Fenced }
);
mirror!(rdp_security: RdpSecurity => RdpSecurity { Nla, Tls });
mirror!(personalisation: Personalisation => Personalisation { GuestAgent, CloudInit });
mirror!(scope: model::ApiScope => ApiScope { Orders, Read, Operate, Admin });

pub(super) const fn scope_of(value: api::ApiScope) -> model::ApiScope {
    match value {
        api::ApiScope::Orders => model::ApiScope::Orders,
        api::ApiScope::Read => model::ApiScope::Read,
        api::ApiScope::Operate => model::ApiScope::Operate,
        api::ApiScope::Admin => model::ApiScope::Admin,
    }
}

pub(super) const fn adoption_of(value: api::AdoptionHow) -> model::Adoption {
    match value {
        api::AdoptionHow::Keep => model::Adoption::Keep,
        api::AdoptionHow::Delivered => model::Adoption::Delivered,
        api::AdoptionHow::Resume => model::Adoption::Resume,
        api::AdoptionHow::Gone => model::Adoption::Gone,
    }
}

const fn acceleration(value: Acceleration) -> &'static str {
    match value {
        Acceleration::Kvm => "kvm",
        Acceleration::Tcg => "tcg",
        Acceleration::Simulated => "simulated",
    }
}

pub(super) fn template_of(new: &api::NewTemplate) -> nemordp_types::Template {
    nemordp_types::Template {
        name: new.name.clone(),
        digest: new.digest,
        file_size: new.file_size_bytes,
        virtual_size: new.virtual_size_bytes,
        rdp_security: match new.rdp_security {
            api::RdpSecurity::Nla => RdpSecurity::Nla,
            api::RdpSecurity::Tls => RdpSecurity::Tls,
        },
        personalisation: match new.personalisation {
            api::Personalisation::GuestAgent => Personalisation::GuestAgent,
            api::Personalisation::CloudInit => Personalisation::CloudInit,
        },
        login_name: new.login_name.clone(),
    }
}

fn texts(labels: &BTreeSet<model::Label>) -> Vec<String> {
    labels.iter().map(|label| label.as_str().to_owned()).collect()
}

pub(super) fn gpus_of(gpus: api::Gpus) -> model::GpuDemand {
    model::GpuDemand { count: gpus.count, model: gpus.model }
}

fn gpus(gpus: &model::GpuDemand) -> api::Gpus {
    api::Gpus { count: gpus.count, model: gpus.model.clone() }
}

pub(super) fn plan(plan: &model::Plan) -> api::Plan {
    api::Plan {
        name: plan.name.clone(),
        vcpu: plan.vcpu,
        memory_mib: plan.memory,
        disk_gib: plan.disk,
        storage_class: plan.storage_class.clone(),
        gpus: plan.gpus.as_ref().map(gpus),
        labels: texts(&plan.labels),
        on_sale: plan.on_sale,
        created_at: plan.created_at,
        updated_at: plan.updated_at,
    }
}

pub(super) fn template(registered: &RegisteredTemplate) -> api::Template {
    let template = &registered.template;
    api::Template {
        name: template.name.clone(),
        digest: template.digest,
        file_size_bytes: template.file_size,
        virtual_size_bytes: template.virtual_size,
        rdp_security: rdp_security(template.rdp_security),
        personalisation: personalisation(template.personalisation),
        login_name: template.login_name.clone(),
        registered_at: registered.registered_at,
    }
}

pub(super) fn order(order: &model::Order) -> api::Order {
    api::Order {
        id: order.id,
        state: order_state(order.state),
        failure: order.failure.as_ref().map(api::Fault::from),
        plan: order.plan.clone(),
        template: order.template.clone(),
        region: order.region.clone(),
        host_name: order.host_name.clone(),
        time_zone: order.time_zone.clone(),
        keyboard: order.keyboard.clone(),
        external_reference: order.external_reference.as_ref().map(|label| label.as_str().to_owned()),
        instance_id: order.instance_id,
        operation_id: order.saga_id,
        created_at: order.created_at,
        updated_at: order.updated_at,
    }
}

/// `operator`: nodes are the operator's affair.
pub(super) fn instance(instance: &model::Instance, operator: bool) -> api::Instance {
    let (spec, observed) = (&instance.spec, instance.observed.as_ref());
    api::Instance {
        id: instance.id,
        order_id: instance.order_id,
        lifecycle: lifecycle(instance.lifecycle),
        // What a node saw last of an instance that is gone says nothing.
        power: match observed {
            _ if !instance.lifecycle.is_live() => api::InstancePower::Absent,
            Some(observed) => power(observed.power),
            None => api::InstancePower::Unknown,
        },
        wanted_on: spec.power == DesiredPower::On,
        suspended_at: instance.suspended_at,
        delete_after: instance.delete_after,
        paid_until: instance.paid_until,
        rescued: spec.disks.rescue.is_some(),
        endpoint_address: spec.network.endpoint.address.to_string(),
        endpoint_port: spec.network.endpoint.port,
        login_name: spec.guest.login_name.clone(),
        host_name: spec.guest.host_name.clone(),
        vcpu: spec.vcpu,
        memory_mib: spec.memory,
        disk_gib: spec.disk,
        gpus: spec.gpus.as_ref().map(|gpus| api::Gpus { count: gpus.count, model: Some(gpus.model.clone()) }),
        template: spec.template.name.clone(),
        node_id: operator.then_some(instance.node_id),
        placement_group: instance.siting.group.as_ref().map(|group| group.as_str().to_owned()),
        affinity: instance.siting.group.is_some().then_some(affinity(instance.siting.affinity)),
        rdp_certificate_sha256: instance.rdp_certificate_sha256.map(hex::encode),
        frozen: instance.frozen.map(freeze),
        frozen_at: instance.frozen_at,
        started_at: observed.and_then(|observed| observed.started_at),
        observed_at: instance.observed_at,
        created_at: instance.created_at,
        updated_at: instance.updated_at,
    }
}

pub(super) fn operation(saga: &model::Saga) -> api::Operation {
    api::Operation {
        id: saga.id,
        kind: saga_kind(saga.kind),
        status: saga_status(saga.status),
        failure: saga.failure.as_ref().map(api::Fault::from),
        order_id: saga.order_id,
        instance_id: saga.instance_id,
        steps: saga.steps.iter().map(step).collect(),
        created_at: saga.created_at,
        updated_at: saga.updated_at,
        finished_at: saga.finished_at,
    }
}

pub(super) fn saga(saga: &model::Saga) -> api::Saga {
    api::Saga {
        operation: operation(saga),
        step: saga.step,
        leases: saga.attempt,
        fence: saga.fence.0,
        lease_owner: saga.lease_owner.clone(),
        lease_until: saga.lease_until,
        next_run_at: saga.next_run_at,
        cancel_requested_at: saga.cancel_requested_at,
    }
}

fn step(step: &model::SagaStep) -> api::OperationStep {
    api::OperationStep {
        name: step.name.clone(),
        state: step_state(step.state),
        attempts: step.attempts,
        percent: step.percent,
        detail: step.detail.clone(),
        failure: step.failure.as_ref().map(api::Fault::from),
        started_at: step.started_at,
        finished_at: step.finished_at,
    }
}

pub(super) fn node(node: &model::Node) -> api::Node {
    let inventory = &node.inventory;
    api::Node {
        id: node.id,
        name: node.name.as_str().to_owned(),
        region: node.region.clone(),
        agent_address: node.agent_address.to_string(),
        policy: node_policy(node.policy),
        policy_reason: node.policy_reason.clone(),
        labels: texts(&node.labels),
        pinned_to: node
            .pinned_to
            .as_ref()
            .map(|pin| api::NodePin { tenant_id: pin.tenant_id, tenant: pin.tenant.as_str().to_owned() }),
        availability: node_availability(node.availability),
        overcommit: api::Overcommit {
            vcpu_percent: node.overcommit.vcpu_percent,
            memory_percent: node.overcommit.memory_percent,
        },
        agent_version: inventory.agent_version.clone(),
        hypervisor: inventory.hypervisor.clone(),
        acceleration: acceleration(inventory.acceleration).to_owned(),
        vcpu: inventory.vcpu,
        vcpu_reserved: node.reserved.vcpu,
        memory_mib: inventory.memory_for_instances,
        memory_reserved_mib: node.reserved.memory,
        disk_reserved_bytes: node.reserved.disk,
        pools: inventory
            .pools
            .iter()
            .map(|pool| api::NodePool {
                storage_class: pool.storage_class.clone(),
                physical_bytes: pool.physical,
                free_bytes: pool.free,
            })
            .collect(),
        gpus: node.gpus.iter().map(node_gpus).collect(),
        held_back: held_back(&node.held_back),
        endpoint_address: inventory.endpoints.address.to_string(),
        endpoint_first_port: inventory.endpoints.first_port,
        endpoint_last_port: inventory.endpoints.last_port,
        load: node.load.map(|load| api::NodeLoad {
            cpu_pressure_percent: load.cpu_pressure,
            memory_pressure_percent: load.memory_pressure,
            io_pressure_percent: load.io_pressure,
            clones: load.clones,
            steal_percent: load.steal,
            disk_latency_ms: load.disk_latency_ms,
        }),
        templates: node.template_presence.iter().map(node_template).collect(),
        clock_skew_seconds: node.clock_skew.map(|skew| skew.as_secs_f64()),
        doubled_at: node.doubled_at,
        last_heartbeat_at: node.last_heartbeat_at,
        enrolled_at: node.enrolled_at,
        updated_at: node.updated_at,
    }
}

/// None when nothing is.
fn held_back(amounts: &model::Amounts) -> Option<api::HeldBack> {
    let model::Amounts { vcpu, memory, disk } = *amounts;
    (*amounts != model::Amounts::default()).then(|| api::HeldBack {
        vcpu,
        memory_mib: memory,
        disk_gib: disk.to_gib_ceil(),
    })
}

pub(super) fn reserve(reserve: &PlanReserve) -> api::Reserve {
    let PlanReserve { region, plan, slots, updated_at } = reserve.clone();
    api::Reserve { region, plan, slots, updated_at }
}

fn node_gpus(gpus: &model::GpuRoom) -> api::NodeGpus {
    api::NodeGpus { model: gpus.model.clone(), count: gpus.room.capacity, reserved: gpus.room.used }
}

fn node_template(presence: &TemplatePresence) -> api::NodeTemplate {
    let (state, failure) = match &presence.state {
        TemplateState::Fetching => (api::NodeTemplateState::Fetching, None),
        TemplateState::Ready => (api::NodeTemplateState::Ready, None),
        TemplateState::Failed(failure) => (api::NodeTemplateState::Failed, Some(api::Fault::from(failure))),
    };
    api::NodeTemplate { digest: presence.digest, state, fetched_bytes: presence.fetched, failure }
}

pub(super) fn suspension(suspension: &model::Suspension) -> api::Suspension {
    api::Suspension {
        instance_id: suspension.instance_id,
        at: suspension.at,
        state: suspension_state(suspension.state),
    }
}

pub(super) fn ticket(ticket: &model::Ticket) -> api::Ticket {
    api::Ticket {
        id: ticket.id,
        region: ticket.region.clone(),
        node_id: ticket.bound_node_id,
        expires_at: ticket.expires_at,
        used_at: ticket.used_at,
        used_by: ticket.used_by,
        created_at: ticket.created_at,
    }
}

pub(super) fn key(key: &model::ApiKey) -> api::ApiKey {
    api::ApiKey {
        id: key.id,
        tenant_id: key.tenant_id,
        name: key.label.as_str().to_owned(),
        scopes: key.scopes.iter().map(scope).collect(),
        created_at: key.created_at,
        last_used_at: key.last_used_at,
        revoked_at: key.revoked_at,
    }
}

pub(super) fn tenant(tenant: &model::Tenant) -> api::Tenant {
    api::Tenant {
        id: tenant.id,
        name: tenant.name.as_str().to_owned(),
        pinned: tenant.pinned,
        created_at: tenant.created_at,
        disabled_at: tenant.disabled_at,
    }
}

pub(super) fn event(event: &model::Event) -> api::Event {
    api::Event {
        number: event.number,
        id: event.id,
        kind: event.kind.word().to_owned(),
        tenant_id: event.tenant_id,
        order_id: event.order_id,
        instance_id: event.instance_id,
        node_id: event.node_id,
        body: event.body.clone(),
        created_at: event.created_at,
    }
}

macro_rules! pages {
    ($($function:ident: $item:ty, $key:ty => $page:ident by $view:expr;)*) => {$(
        pub(super) fn $function(paged: &Paged<$item, $key>) -> api::$page {
            api::$page { items: paged.items.iter().map($view).collect(), next_cursor: cursor(paged) }
        }
    )*};
}

pages! {
    plans: model::Plan, nemordp_types::PlanName => PlanPage by plan;
    templates: RegisteredTemplate, nemordp_types::TemplateName => TemplatePage by template;
    orders: model::Order, nemordp_types::OrderId => OrderPage by order;
    operations: model::Saga, nemordp_types::SagaId => OperationPage by operation;
    nodes: model::Node, nemordp_types::NodeId => NodePage by node;
    tickets: model::Ticket, nemordp_types::TicketId => TicketPage by ticket;
    keys: model::ApiKey, nemordp_types::ApiKeyId => ApiKeyPage by key;
    tenants: model::Tenant, nemordp_types::TenantId => TenantPage by tenant;
    sagas: model::Saga, nemordp_types::SagaId => SagaPage by saga;
    events: model::Event, u64 => EventPage by event;
}
