//! A fleet file and events, by the ids that people gave them.

use std::collections::HashMap;

use crate::amounts::Amounts;
use crate::engine::Lifetimes;
use crate::fleet::{Fleet, NodeIndex, Slot, Tenant};
use crate::message::{ArriveMessage, FleetMessage};
use crate::strategy::{Cause, Order, Strategy};
use crate::world::{Budget, Outcome, World};

/// Makes a strategy for a fleet, its plans with their prices, and what is known of lifetimes.
pub type Choose<'c> = &'c dyn Fn(&Fleet, &[(Amounts, f64)], Lifetimes) -> Box<dyn Strategy>;

/// Where an order is.
enum Place {
    Node(Slot),
    Cloud(Order),
}

/// An order that came and has not left.
struct Known {
    place: Place,
    price: f64,
}

/// What became of an order.
#[derive(Debug, Clone, PartialEq)]
pub enum Arrived {
    /// It lies on a node.
    Placed {
        /// Where.
        node: NodeIndex,
        /// Who moved where first.
        moves: Vec<(String, NodeIndex)>,
    },
    /// It went to a cloud.
    Overflowed(Cause),
}

/// A fleet in motion.
pub struct Game {
    world: World,
    node_ids: Vec<String>,
    nodes: HashMap<String, NodeIndex>,
    plans: HashMap<String, (Amounts, f64)>,
    flavours: HashMap<(Amounts, u64), u32>,
    tenants: HashMap<String, Tenant>,
    orders: HashMap<String, Known>,
    /// The id of what lies in each slot.
    owners: Vec<String>,
    lifetimes: Lifetimes,
    now: f64,
}

impl Game {
    /// An empty fleet.
    ///
    /// # Errors
    /// What is wrong with the fleet: a double or missing id, an impossible amount.
    pub fn new(message: &FleetMessage, choose: Choose<'_>) -> Result<Self, String> {
        let (mut nodes, mut node_ids, mut capacities) = (HashMap::new(), Vec::new(), Vec::new());
        for node in message.nodes.iter().flatten() {
            let id = node.id.clone().ok_or("a node has no id")?;
            if nodes.insert(id.clone(), node_ids.len()).is_some() {
                return Err(format!("two nodes have the id `{id}`: give each its own"));
            }
            node_ids.push(id);
            capacities.push(node.amounts.capacity(node.overcommit.unwrap_or(1.0)));
        }
        let (plans, listed) = read_plans(message)?;
        let budget = message.migration_budget.as_ref().map_or_else(Budget::default, |budget| Budget {
            per_order: whole(budget.per_order.unwrap_or(0.0)),
            per_thousand: budget.per_1000_orders.unwrap_or(0.0).max(0.0),
        });
        let lifetimes = match message.lifetimes.as_deref() {
            Some("exact") => Lifetimes::Exact,
            Some("noisy") => Lifetimes::Noisy,
            _ => Lifetimes::None,
        };
        let fleet = Fleet::new(capacities);
        let strategy = choose(&fleet, &listed, lifetimes);
        Ok(Self {
            world: World::new(fleet, strategy, budget),
            node_ids,
            nodes,
            plans,
            flavours: HashMap::new(),
            tenants: HashMap::new(),
            orders: HashMap::new(),
            owners: Vec::new(),
            lifetimes,
            now: 0.0,
        })
    }

    /// The fleet and its referee.
    #[must_use]
    pub const fn world(&self) -> &World {
        &self.world
    }

    /// The id of a node.
    #[must_use]
    pub fn node_id(&self, node: NodeIndex) -> &str {
        &self.node_ids[node]
    }

    /// Now, seconds.
    #[must_use]
    pub const fn now(&self) -> f64 {
        self.now
    }

    /// Lets time pass. A clock that goes backwards stands still.
    pub const fn pass(&mut self, t: f64) {
        self.now = self.now.max(t);
    }

    /// Whether an order of this id lies on a node.
    #[must_use]
    pub fn lies(&self, id: &str) -> bool {
        matches!(self.orders.get(id), Some(Known { place: Place::Node(_), .. }))
    }

    /// An order comes. One that names no plan and no amounts, or an id that lies somewhere already, finds no room.
    pub fn arrive(&mut self, message: &ArriveMessage) -> Arrived {
        let Some((amounts, price)) = self.wanted(message) else { return Arrived::Overflowed(Cause::Capacity) };
        let id = message.order.clone().unwrap_or_default();
        if self.lies(&id) {
            return Arrived::Overflowed(Cause::Capacity);
        }
        let next = u32::try_from(self.flavours.len()).unwrap_or(u32::MAX);
        let flavour = *self.flavours.entry((amounts, price.to_bits())).or_insert(next);
        let known = if self.lifetimes == Lifetimes::None { None } else { message.ends_at };
        let ends_at = known.unwrap_or(f64::INFINITY);
        let tenant = message.tenant.as_ref().map(|tenant| self.tenant(tenant));
        let order = Order { amounts, flavour, now: self.now, ends_at, overflow_per_hour: price, tenant };
        match self.world.arrive(&order) {
            Outcome::Overflowed(cause) => {
                self.orders.insert(id, Known { place: Place::Cloud(order), price });
                Arrived::Overflowed(cause)
            }
            Outcome::Placed { slot, moves } => {
                let node = self.world.fleet().placed(slot).node;
                let moves = moves.iter().map(|(moved, to)| (self.owners[*moved].clone(), *to)).collect();
                self.own(slot, &id);
                self.orders.insert(id, Known { place: Place::Node(slot), price });
                Arrived::Placed { node, moves }
            }
        }
    }

    /// Amounts and price per hour of an order; nothing when it names no plan that exists and no amounts that are possible.
    #[must_use]
    pub fn wanted(&self, message: &ArriveMessage) -> Option<(Amounts, f64)> {
        let plan = message.plan.as_ref().and_then(|plan| self.plans.get(plan)).copied();
        let price = message.overflow_per_hour;
        match plan {
            Some((amounts, listed)) => Some((amounts, price.unwrap_or(listed))),
            None if message.amounts.is_given() => Some((message.amounts.demand()?, price.unwrap_or(0.0))),
            None => None,
        }
    }

    fn tenant(&mut self, id: &str) -> Tenant {
        if let Some(known) = self.tenants.get(id) {
            return *known;
        }
        let next = Tenant::try_from(self.tenants.len()).unwrap_or(Tenant::MAX);
        self.tenants.insert(id.to_owned(), next);
        next
    }

    fn own(&mut self, slot: Slot, id: &str) {
        if self.owners.len() <= slot {
            self.owners.resize(slot + 1, String::new());
        }
        id.clone_into(&mut self.owners[slot]);
    }

    /// An order ends; one that is not known is none of ours.
    pub fn depart(&mut self, id: &str) {
        match self.orders.remove(id).map(|known| known.place) {
            Some(Place::Node(slot)) => self.world.depart(slot, self.now),
            Some(Place::Cloud(order)) => self.world.ended_elsewhere(&order, self.now),
            None => {}
        }
    }

    /// A node goes down: each of its orders with where it lies now.
    pub fn node_down(&mut self, id: &str) -> Vec<(String, Result<NodeIndex, Cause>)> {
        let Some(&node) = self.nodes.get(id) else { return Vec::new() };
        let (orders, owners) = (&self.orders, &self.owners);
        let price = |slot: Slot| owners.get(slot).and_then(|id| orders.get(id)).map_or(0.0, |known| known.price);
        let replaced = self.world.node_down(node, self.now, price);
        // Old slots may be given to others from now on, so ids are read before any is written.
        let ids: Vec<String> = replaced.iter().map(|one| self.owners[one.was].clone()).collect();
        let mut answer = Vec::with_capacity(ids.len());
        for (one, order) in replaced.iter().zip(ids) {
            let place = one.now.map(|slot| {
                self.own(slot, &order);
                if let Some(known) = self.orders.get_mut(&order) {
                    known.place = Place::Node(slot);
                }
                self.world.fleet().placed(slot).node
            });
            if place.is_err() {
                self.orders.remove(&order);
            }
            answer.push((order, place));
        }
        answer
    }

    /// A node comes back, empty.
    pub fn node_up(&mut self, id: &str) {
        if let Some(&node) = self.nodes.get(id)
            && !self.world.fleet().node(node).up
        {
            self.world.node_up(node);
        }
    }
}

type Plans = (HashMap<String, (Amounts, f64)>, Vec<(Amounts, f64)>);

fn read_plans(message: &FleetMessage) -> Result<Plans, String> {
    let (mut plans, mut listed) = (HashMap::new(), Vec::new());
    for plan in message.plans.iter().flatten() {
        let id = plan.id.clone().ok_or("a plan has no id")?;
        let amounts = plan.amounts.demand().ok_or_else(|| format!("plan `{id}` has an impossible amount"))?;
        let price = plan.overflow_per_hour.unwrap_or(0.0);
        listed.push((amounts, price));
        if plans.insert(id.clone(), (amounts, price)).is_some() {
            return Err(format!("two plans have the id `{id}`: give each its own"));
        }
    }
    Ok((plans, listed))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates, as a float cast does")]
fn whole(value: f64) -> u64 {
    value as u64
}
