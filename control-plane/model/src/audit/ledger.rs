//! Orders, instances, sagas, credentials and events, against each other.

use super::{Facts, Finding, FindingKind};
use crate::instance::{Instance, Lifecycle};
use crate::order::{Order, OrderState};
use crate::saga::SagaStatus;

pub(super) fn check(facts: &Facts, findings: &mut Vec<Finding>) {
    let (instances, attended) = (facts.instances_by_id(), facts.attended());
    for order in &facts.orders {
        let Some(instance) = instances.get(&order.instance_id) else {
            if needs_instance(order.state) {
                let detail = format!("it is {}, and its instance does not exist", order.state);
                findings.push(Finding::of_order(FindingKind::OrderWithoutInstance, order, detail));
            }
            continue;
        };
        if disagree(order.state, instance.lifecycle) {
            let detail = format!("the order is {}, its instance {}", order.state, instance.lifecycle);
            let finding = Finding::of_order(FindingKind::OrderAndInstanceDisagree, order, detail);
            findings.push(finding.on_node(instance.node_id));
        }
        if is_under_way(order) && !attended.contains(&instance.id) {
            let detail = format!("it is {}, and no operation is open on it", order.state);
            findings.push(Finding::of_order(FindingKind::OrderUnattended, order, detail));
        }
    }
    for instance in &facts.instances {
        instance_alone(instance, attended.contains(&instance.id), findings);
    }
    for saga in facts.sagas.iter().filter(|saga| saga.status == SagaStatus::Stuck) {
        let why = saga.failure.as_ref().map_or_else(|| "no failure was noted".to_owned(), ToString::to_string);
        let mut finding = Finding::new(FindingKind::SagaStuck, format!("{}: {why}", saga.kind));
        (finding.saga_id, finding.order_id, finding.instance_id) = (Some(saga.id), saga.order_id, saga.instance_id);
        findings.push(finding);
    }
    for id in &facts.secrets {
        if !instances.get(id).is_some_and(|instance| instance.lifecycle.is_live()) {
            let detail = "its instance is gone, or was never there";
            findings.push(Finding::new(FindingKind::SecretWithoutInstance, detail).about(*id));
        }
    }
    for (order_id, instance_id) in &facts.untold {
        let mut finding = Finding::new(FindingKind::EventMissing, "no event tells its present state");
        (finding.order_id, finding.instance_id) = (Some(*order_id), Some(*instance_id));
        findings.push(finding);
    }
}

fn instance_alone(instance: &Instance, attended: bool, findings: &mut Vec<Finding>) {
    let moving = matches!(instance.lifecycle, Lifecycle::Provisioning | Lifecycle::Deleting);
    if moving && !attended {
        let detail = format!("it is {}, and no operation is open on it", instance.lifecycle);
        findings.push(Finding::of_instance(FindingKind::InstanceUnattended, instance, detail));
    }
    if let Some(why) = instance.frozen {
        let since = instance.frozen_at.map(|at| format!(" since {at}")).unwrap_or_default();
        findings.push(Finding::of_instance(FindingKind::InstanceFrozen, instance, format!("{why}{since}")));
    }
}

const fn needs_instance(state: OrderState) -> bool {
    match state {
        OrderState::Accepted | OrderState::Provisioning | OrderState::Active | OrderState::Cancelling => true,
        OrderState::Refused | OrderState::Failed | OrderState::Cancelled => false,
    }
}

fn is_under_way(order: &Order) -> bool {
    matches!(order.state, OrderState::Accepted | OrderState::Provisioning | OrderState::Cancelling)
}

/// An order stays active when its customer deletes the desktop later.
const fn disagree(order: OrderState, instance: Lifecycle) -> bool {
    match order {
        OrderState::Accepted | OrderState::Provisioning | OrderState::Cancelling => {
            !matches!(instance, Lifecycle::Provisioning)
        }
        OrderState::Active => matches!(instance, Lifecycle::Provisioning | Lifecycle::Failed),
        OrderState::Refused | OrderState::Failed | OrderState::Cancelled => instance.is_live(),
    }
}
