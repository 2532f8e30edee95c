//! Why an order went where it went, and where it would go if the fleet were another one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use nemordp_model::{
    Capacity, Change, Demand, Explained, GpuDemand, GpuRoom, Lodger, MOVES_MAX, MovePlan, NodeSnapshot,
    PlacementRequest, Plan, PlanShare, PoolRoom, Room, explain, make_room, what_if,
};
use nemordp_store::{Decision, TenantScope};
use nemordp_types::{Bytes, Failure, NodeId, OrderId, PlanName, RegionName, TemplateName};

use super::App;
use super::capacity::report;

/// Instances that a search for moves looks at.
const LODGERS_MAX: u32 = 20_000;
/// Nodes that one question may suppose.
const SUPPOSED_MAX: u32 = 1_000;
/// Ports and private addresses of a supposed node: more than a machine has room for.
const SUPPOSED_NUMBERS: u32 = 10_000;

/// An order's placement: the decision that was kept, and what the same request would be told now.
#[derive(Debug, Clone)]
pub struct OrderPlacement {
    /// Which order.
    pub order_id: OrderId,
    /// Where its instance lies now.
    pub node_id: NodeId,
    /// The decision; none with orders from before decisions were kept.
    pub decided: Option<Decision>,
    /// Every node's verdict on the same request now; what the order holds is not taken off.
    pub now: Explained,
    /// The nodes' names.
    pub names: BTreeMap<NodeId, String>,
}

/// A machine that could be bought.
#[derive(Debug, Clone)]
pub struct SupposedNode {
    /// Where it would stand; the region of the question when absent.
    pub region: Option<RegionName>,
    /// What it would have to sell.
    pub demand: Demand,
    /// How many of them.
    pub count: u32,
}

/// Machines that could be bought: given by their amounts, or as a copy of one that is there.
#[derive(Debug, Clone)]
pub enum Addition {
    /// By its amounts.
    Of(SupposedNode),
    /// Like this node, but empty.
    Like(NodeId, u32),
}

/// A question about another fleet.
#[derive(Debug, Clone)]
pub struct Supposition {
    /// Where the order would be placed.
    pub region: RegionName,
    /// What would be ordered: a plan on sale, or one of the supposed.
    pub plan: PlanName,
    /// What it would be made from; none has to be fetched when absent.
    pub template: Option<TemplateName>,
    /// Until when it would be paid for.
    pub paid_until: Option<Timestamp>,
    /// Machines more.
    pub add: Vec<Addition>,
    /// Machines less.
    pub remove: BTreeSet<NodeId>,
    /// Plans more, with the orders that are expected of each.
    pub add_plans: Vec<(Plan, u64)>,
    /// Plans less.
    pub remove_plans: BTreeSet<PlanName>,
}

/// The answer to a [`Supposition`].
#[derive(Debug, Clone)]
pub struct Foresight {
    /// The decision on the fleet as it is.
    pub now: Explained,
    /// The decision on the supposed fleet.
    pub then: Explained,
    /// How many more of each plan fit now.
    pub capacity_now: Vec<Capacity>,
    /// How many more of each plan would fit.
    pub capacity_then: Vec<Capacity>,
    /// The fewest moves that would make room on the fleet as it is, when no node takes the order.
    pub room_by_moving: Option<MovePlan>,
    /// The nodes' names, the supposed ones included.
    pub names: BTreeMap<NodeId, String>,
}

impl App {
    /// Explains an order's placement.
    ///
    /// # Errors
    /// `not_found`, another tenant's included.
    pub async fn order_placement(&self, scope: TenantScope, id: OrderId) -> Result<OrderPlacement, Failure> {
        let order = self.store.order_fetch(scope, id).await?;
        let instance = self.store.instance_fetch(scope, order.instance_id).await?;
        let decided = self.store.order_decision(scope, id).await?;
        let request = PlacementRequest::again(order.region.clone(), &instance);
        let groups = request.group_key().into_iter().collect();
        let snapshot = self.fleet.snapshot_for(Some(&order.region), &groups).await?;
        let explained = tokio::task::spawn_blocking(move || explain(&request, &snapshot)).await;
        let now = explained.map_err(Failure::internal)?;
        let names = self.fleet.names().await?;
        Ok(OrderPlacement { order_id: id, node_id: instance.node_id, decided, now, names })
    }

    /// Decides on the fleet as it is and as it would be; changes nothing.
    ///
    /// # Errors
    /// `unknown_region`, `unknown_plan`, `not_found` (template, node), `invalid_argument` name the field.
    pub async fn what_if(&self, supposed: &Supposition) -> Result<Foresight, Failure> {
        let added = supposed.add_plans.iter().map(|(plan, _)| plan).find(|plan| plan.name == supposed.plan);
        let plan = match added {
            Some(plan) => plan.clone(),
            None => self.plan_on_sale(&supposed.plan).await?,
        };
        let template = match &supposed.template {
            Some(name) => Some(self.template(name).await?.template),
            None => None,
        };
        let before = self.fleet.snapshot(None).await?;
        let mut names = self.fleet.names().await?;
        let mut changes = Vec::new();
        for id in &supposed.remove {
            if !names.contains_key(id) {
                return Err(Failure::field(
                    "remove_nodes",
                    format!("there is no node {id}: use an id of GET /v1/nodes"),
                ));
            }
            changes.push(Change::RemoveNode(*id));
        }
        for node in self.additions(supposed, &before.nodes)? {
            names.insert(node.id, format!("supposed-{}", changes.len() + 1));
            changes.push(Change::AddNode(Box::new(node)));
        }
        for (plan, orders) in &supposed.add_plans {
            plan.check().map_err(|failure| failure.within("add_plans"))?;
            let share = PlanShare { plan: plan.name.clone(), demand: plan.demand(), orders: *orders };
            changes.push(Change::AddPlan(share));
        }
        changes.extend(supposed.remove_plans.iter().cloned().map(Change::RemovePlan));
        let mut regions = self.regions().await?;
        regions.extend(supposed.add.iter().filter_map(|addition| match addition {
            Addition::Of(node) => node.region.clone(),
            Addition::Like(..) => None,
        }));
        if !regions.contains(&supposed.region) {
            self.check_region(&supposed.region).await?;
        }
        let request = super::availability::request(&supposed.region, &plan, template.as_ref());
        let request = PlacementRequest { ends_at: supposed.paid_until, ..request };
        let (plans_now, mut plans_then) = (self.plans_on_sale().await?, self.plans_on_sale().await?);
        plans_then.retain(|plan| {
            let replaced = supposed.add_plans.iter().any(|(added, _)| added.name == plan.name);
            !replaced && !supposed.remove_plans.contains(&plan.name)
        });
        plans_then.extend(supposed.add_plans.iter().map(|(plan, _)| plan.clone()));
        let after = nemordp_model::placement::changed(&before, &changes);
        let capacity_now = report(regions.clone(), plans_now, before.clone()).await?;
        let capacity_then = report(regions, plans_then, after).await?;
        let lodgers = self.lodgers(&supposed.region).await?;
        let decided = tokio::task::spawn_blocking(move || {
            let decided = what_if(&request, &before, &changes);
            let moves = decided.now.choice.is_none().then(|| make_room(&request, &before, &lodgers, MOVES_MAX));
            (decided, moves.flatten())
        });
        let (decided, room_by_moving) = decided.await.map_err(Failure::internal)?;
        Ok(Foresight { now: decided.now, then: decided.then, capacity_now, capacity_then, room_by_moving, names })
    }

    /// The instances of a region that could be moved: delivered, and nothing is being done to them.
    async fn lodgers(&self, region: &RegionName) -> Result<Vec<Lodger>, Failure> {
        let movable = self.store.instance_list_movable(region, LODGERS_MAX).await?;
        // GPUs of the model that it has, even where any would do: so it is known which ones its node gets back.
        let lodger = |instance: nemordp_model::Instance| Lodger {
            instance_id: instance.id,
            node_id: instance.node_id,
            request: PlacementRequest {
                gpus: instance.spec.gpus.clone().map(GpuDemand::from),
                ..PlacementRequest::again(region.clone(), &instance)
            },
        };
        Ok(movable.into_iter().map(lodger).collect())
    }

    /// The supposed machines, each with an id of its own.
    fn additions(&self, supposed: &Supposition, fleet: &[NodeSnapshot]) -> Result<Vec<NodeSnapshot>, Failure> {
        let mut nodes = Vec::new();
        for addition in &supposed.add {
            let (model, count) = match addition {
                Addition::Like(id, count) => {
                    let like = fleet.iter().find(|node| node.id == *id).ok_or_else(|| {
                        Failure::field("add_nodes.like", format!("there is no node {id}: use an id of GET /v1/nodes"))
                    })?;
                    (empty_copy(like), *count)
                }
                Addition::Of(node) => (new_machine(node, &supposed.region, fleet)?, node.count),
            };
            let so_far = u32::try_from(nodes.len()).unwrap_or(u32::MAX);
            if count == 0 || so_far.saturating_add(count) > SUPPOSED_MAX {
                let message = format!("use 1 to {SUPPOSED_MAX} machines in all");
                return Err(Failure::field("add_nodes.count", message));
            }
            for _ in 0..count {
                let id = NodeId::new(self.clock.as_ref(), self.entropy.as_ref());
                nodes.push(NodeSnapshot { id, ..model.clone() });
            }
        }
        Ok(nodes)
    }
}

/// The same machine as if it had just been enrolled.
fn empty_copy(like: &NodeSnapshot) -> NodeSnapshot {
    let whole = |room: Room| Room { capacity: room.capacity, used: 0 };
    let pools = like.pools.iter().map(|pool| PoolRoom {
        room: whole(pool.room),
        physical_free: Bytes(pool.room.capacity.max(pool.physical_free.0)),
        clones: 0,
        ..pool.clone()
    });
    NodeSnapshot {
        vcpu: whole(like.vcpu),
        memory: whole(like.memory),
        pools: pools.collect(),
        free_ports: SUPPOSED_NUMBERS,
        free_addresses: SUPPOSED_NUMBERS,
        templates: like.templates.clone(),
        gpus: like.gpus.iter().map(|gpus| GpuRoom { room: whole(gpus.room), ..gpus.clone() }).collect(),
        held_back: like.held_back,
        labels: like.labels.clone(),
        pinned_to: like.pinned_to,
        ..NodeSnapshot::new(like.id, like.region.clone())
    }
}

/// A machine with these amounts to sell, and every template that the fleet has.
///
/// # Errors
/// GPUs without their model.
fn new_machine(node: &SupposedNode, region: &RegionName, fleet: &[NodeSnapshot]) -> Result<NodeSnapshot, Failure> {
    let disk = Bytes::from(node.demand.disk);
    let room = |capacity: u64| Room { capacity, used: 0 };
    let pool = PoolRoom {
        storage_class: node.demand.storage_class.clone(),
        room: room(disk.0),
        physical_free: disk,
        clones: 0,
    };
    let gpus = node.demand.gpus.iter().map(|gpus| {
        let unnamed = || Failure::field("add_nodes.gpus.model", "say which model the machine has, like rtx4000");
        Ok(GpuRoom { model: gpus.model.clone().ok_or_else(unnamed)?, room: room(u64::from(gpus.count)) })
    });
    let id = NodeId::from_uuid(uuid::Uuid::nil());
    Ok(NodeSnapshot {
        vcpu: room(u64::from(node.demand.vcpu.0)),
        memory: room(node.demand.memory.0),
        pools: vec![pool],
        gpus: gpus.collect::<Result<_, Failure>>()?,
        free_ports: SUPPOSED_NUMBERS,
        free_addresses: SUPPOSED_NUMBERS,
        templates: fleet.iter().flat_map(|node| node.templates.iter().copied()).collect(),
        ..NodeSnapshot::new(id, node.region.clone().unwrap_or_else(|| region.clone()))
    })
}

/// A plan that is only supposed.
#[must_use]
pub fn supposed_plan(name: PlanName, demand: Demand) -> Plan {
    Plan {
        name,
        vcpu: demand.vcpu,
        memory: demand.memory,
        disk: demand.disk,
        storage_class: demand.storage_class,
        gpus: demand.gpus,
        labels: BTreeSet::new(),
        on_sale: true,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}
