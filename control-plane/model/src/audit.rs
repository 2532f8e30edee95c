//! The money-leak check: what was bought, held, run and told, compared with each other. Facts in, findings out.
//!
//! Map: this file facts and findings · `ledger` orders, instances, sagas, events · `holding` capacity, ports, addresses ·
//! `place` what the nodes really run.

mod holding;
mod ledger;
mod place;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use jiff::Timestamp;
use nemordp_types::instance::{GpuSpec, InstanceStatus};
use nemordp_types::{Bytes, InstanceId, MiB, NodeId, OrderId, SagaId, StorageClass, Vcpu};

use crate::instance::Instance;
use crate::node::Node;
use crate::order::Order;
use crate::saga::Saga;
use crate::words;

words! {
    /// What is wrong.
    FindingKind {
        /// Nobody works on an order that is not at its end.
        OrderUnattended = "order_unattended",
        /// An order has no instance.
        OrderWithoutInstance = "order_without_instance",
        /// An order and its instance contradict each other.
        OrderAndInstanceDisagree = "order_and_instance_disagree",
        /// Nobody works on an instance that is being built or removed.
        InstanceUnattended = "instance_unattended",
        /// An instance waits for the operator after a restore.
        InstanceFrozen = "instance_frozen",
        /// An undo failed.
        SagaStuck = "saga_stuck",
        /// A change was never told in an event.
        EventMissing = "event_missing",
        /// Credentials of an instance that is gone.
        SecretWithoutInstance = "secret_without_instance",
        /// Capacity is held for an instance that is gone.
        ReservationWithoutInstance = "reservation_without_instance",
        /// Capacity is held twice for one instance.
        ReservationTwice = "reservation_twice",
        /// Capacity is held elsewhere, or as much as another size needs.
        ReservationDiffers = "reservation_differs",
        /// An instance runs on capacity that anybody can buy.
        InstanceWithoutReservation = "instance_without_reservation",
        /// What a node counts as reserved is not the sum of its reservations.
        NodeSumsDiffer = "node_sums_differ",
        /// A port or an address is held for an instance that is gone.
        NumberWithoutInstance = "number_without_instance",
        /// An instance uses a port or an address that it does not hold.
        InstanceWithoutNumber = "instance_without_number",
        /// Something else on the node uses the port at which an instance is reached.
        PortTaken = "port_taken",
        /// A node could not be asked.
        NodeSilent = "node_silent",
        /// A node runs an instance with our mark that no order owns.
        DomainUnknown = "domain_unknown",
        /// A node still has an instance that ended, or was moved elsewhere.
        DomainLeftover = "domain_leftover",
        /// Two nodes have the same instance.
        DomainTwice = "domain_twice",
        /// An instance that was handed over is not on its node.
        DomainMissing = "domain_missing",
        /// A node has seen higher numbers than the store.
        StoreBehind = "store_behind",
        /// An instance has another size than was bought.
        WrongSize = "wrong_size",
        /// An instance is on that should be off, or off that should be on.
        WrongPower = "wrong_power",
    }
}

impl FindingKind {
    /// What an operator does about it.
    #[must_use]
    pub const fn fix(self) -> &'static str {
        match self {
            Self::OrderUnattended | Self::InstanceUnattended => {
                "no saga is left for it: cancel the order or delete the instance, and report this as a defect"
            }
            Self::OrderWithoutInstance | Self::OrderAndInstanceDisagree => {
                "refund or order again, and report this as a defect"
            }
            Self::InstanceFrozen => "`nemordp instance adopt` settles it",
            Self::SagaStuck => "read its failure, then `nemordp saga retry` or `nemordp saga abandon`",
            Self::EventMissing => "tell the storefront by hand, and report this as a defect",
            Self::SecretWithoutInstance => "report this as a defect; the password opens nothing any more",
            Self::ReservationWithoutInstance | Self::NumberWithoutInstance => {
                "`nemordp reconciler run reservation_reaper` gives it back"
            }
            Self::ReservationTwice | Self::ReservationDiffers | Self::NodeSumsDiffer => {
                "cordon the node and report this as a defect: it may be oversold"
            }
            Self::InstanceWithoutReservation | Self::InstanceWithoutNumber => {
                "cordon the node: what the instance uses can be sold again; report this as a defect"
            }
            Self::PortTaken => {
                "end what listens there, or remove the rule that forwards it; nobody else is sold the port meanwhile"
            }
            Self::NodeSilent => "look at its agent and at the network between; ask again when it answers",
            Self::DomainUnknown => {
                "look whose it is: a restored store may have forgotten an order; nothing removes it by itself"
            }
            Self::DomainLeftover => "nothing of it is owned by anybody any more: remove it on its node",
            Self::DomainTwice => "keep the one on the node that the store names, after a look at both",
            Self::DomainMissing => "look at its node: somebody removed the domain; delete the instance and order again",
            Self::StoreBehind => "wait for the node's next heartbeat, which freezes it, then `nemordp instance adopt`",
            Self::WrongSize => "a resize ended half-way, or somebody changed the domain by hand",
            Self::WrongPower => "start or stop it: the guest or somebody on the node changed its power",
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// With which order.
    pub order_id: Option<OrderId>,
    /// With which instance.
    pub instance_id: Option<InstanceId>,
    /// On which node.
    pub node_id: Option<NodeId>,
    /// In which saga.
    pub saga_id: Option<SagaId>,
    /// The figures that do not fit.
    pub detail: String,
}

impl Finding {
    fn new(kind: FindingKind, detail: impl Into<String>) -> Self {
        Self { kind, order_id: None, instance_id: None, node_id: None, saga_id: None, detail: detail.into() }
    }

    fn of_order(kind: FindingKind, order: &Order, detail: impl Into<String>) -> Self {
        let mut finding = Self::new(kind, detail);
        (finding.order_id, finding.instance_id) = (Some(order.id), Some(order.instance_id));
        finding
    }

    fn of_instance(kind: FindingKind, instance: &Instance, detail: impl Into<String>) -> Self {
        let mut finding = Self::new(kind, detail);
        (finding.order_id, finding.instance_id) = (Some(instance.order_id), Some(instance.id));
        finding.node_id = Some(instance.node_id);
        finding
    }

    fn on_node(mut self, node: NodeId) -> Self {
        self.node_id = Some(node);
        self
    }

    fn about(mut self, instance: InstanceId) -> Self {
        self.instance_id = Some(instance);
        self
    }
}

/// Capacity that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldCapacity {
    /// For whom.
    pub instance_id: InstanceId,
    /// Where.
    pub node_id: NodeId,
    /// Processors.
    pub vcpu: Vcpu,
    /// Memory.
    pub memory: MiB,
    /// The pool of the disk.
    pub storage_class: StorageClass,
    /// Disk.
    pub disk: Bytes,
    /// GPUs.
    pub gpus: Option<GpuSpec>,
}

/// A port or a private address that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldNumber {
    /// `port` or `address`.
    pub kind: String,
    /// The public address of the port, or the node of the private address.
    pub scope: String,
    /// The port, or the address as a number.
    pub number: u32,
    /// For whom.
    pub instance_id: InstanceId,
}

/// What a node said of its instances.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeWord {
    /// When it was asked: what changed later may look otherwise.
    pub asked_at: Timestamp,
    /// Everything on it that carries our mark.
    pub instances: Vec<InstanceStatus>,
}

/// Everything that is compared; the store's part of one instant, which is later than every node's word.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Orders that are not over, and those whose instance is not.
    pub orders: Vec<Order>,
    /// Instances that are not over, and those that a node still has.
    pub instances: Vec<Instance>,
    /// Sagas that are open or stuck.
    pub sagas: Vec<Saga>,
    /// Capacity that is held.
    pub capacity: Vec<HeldCapacity>,
    /// Ports and addresses that are held.
    pub numbers: Vec<HeldNumber>,
    /// Instances that have credentials.
    pub secrets: Vec<InstanceId>,
    /// Orders and instances whose present state no event tells.
    pub untold: Vec<(OrderId, InstanceId)>,
    /// Nodes that were not decommissioned.
    pub nodes: Vec<Node>,
    /// What each of them said; those that did not answer are missing.
    pub words: BTreeMap<NodeId, NodeWord>,
}

impl Facts {
    fn instances_by_id(&self) -> BTreeMap<InstanceId, &Instance> {
        self.instances.iter().map(|instance| (instance.id, instance)).collect()
    }

    /// Whether a saga is open or stuck on an instance.
    fn attended(&self) -> std::collections::BTreeSet<InstanceId> {
        self.sagas.iter().filter_map(|saga| saga.instance_id).collect()
    }
}

/// Compares everything with everything.
#[must_use]
pub fn audit(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    ledger::check(facts, &mut findings);
    holding::check(facts, &mut findings);
    findings.extend(drift(facts));
    findings.sort_by_key(|finding| (finding.kind, finding.node_id, finding.instance_id));
    findings
}

/// Only what the nodes run with what the store wants of them.
#[must_use]
pub fn drift(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    place::check(facts, &mut findings);
    findings
}
