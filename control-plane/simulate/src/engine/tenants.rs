//! Whose orders lie on each node, so that strangers do not share one that could be emptied at once.
//!
//! What one customer orders together ends together: on the Azure trace of 2017 (Cortez et al., SOSP'17) the logarithm of a life
//! varies by 0.46 among orders that came in one batch and by 2.8 among all, and of two such orders 45 % end within the same
//! five minutes. Where the largest flavour needs most of a node, it finds room only on a node that has been emptied; one that
//! belongs to one customer empties at once, and a single stranger on it spoils that.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::waste::{Quick, share};
use crate::amounts::Amounts;
use crate::fleet::{Fleet, NodeIndex, Placed, Tenant};
use crate::strategy::Order;

/// What it counts to be the first stranger on a node, in mean orders of useless room.
const STRANGER: f64 = 3.0;
/// The largest flavour needs most of a node when it takes more than this share of it.
const MOST: f64 = 0.5;
/// A flavour that comes less often than this is none to keep nodes for.
const FREQUENT: f64 = 0.001;

/// The orders of one customer on one node.
#[derive(Default)]
struct Stay {
    orders: u32,
    /// What they take of the node.
    share: f64,
}

/// One node.
#[derive(Default)]
struct Guests {
    stays: HashMap<Tenant, Stay, BuildHasherDefault<Quick>>,
    /// What all of them take of the node.
    share: f64,
}

/// Whose orders lie where.
pub(super) struct Tenants {
    nodes: Vec<Guests>,
    /// For each of the distinct capacities, whether strangers are kept apart.
    counts: Vec<bool>,
}

impl Tenants {
    pub(super) fn new(fleet: &Fleet) -> Self {
        let nodes = fleet.nodes().iter().map(|_| Guests::default()).collect();
        Self { nodes, counts: Vec::new() }
    }

    /// Takes another mix.
    pub(super) fn expect<'m>(&mut self, shapes: impl Iterator<Item = (Amounts, f64, &'m [(Amounts, f64)])>) {
        let large = |capacity: Amounts, mix: &[(Amounts, f64)]| {
            mix.iter().any(|(amounts, weight)| *weight >= FREQUENT && share(capacity, *amounts) > MOST)
        };
        self.counts = shapes.map(|(capacity, _, mix)| large(capacity, mix)).collect();
    }

    /// Whether it matters to an order who else lies on a node.
    pub(super) fn matter(&self, order: &Order) -> bool {
        order.tenant.is_some() && self.counts.contains(&true)
    }

    /// How bad it is for a node to take this order as a stranger; `mean` is the share of a node that a mean order takes.
    pub(super) fn strangeness(&self, index: NodeIndex, shape: usize, order: &Order, mean: f64) -> f64 {
        let Some(tenant) = order.tenant.filter(|_| self.counts.get(shape).copied().unwrap_or(false)) else {
            return 0.0;
        };
        let node = &self.nodes[index];
        if node.stays.is_empty() || node.stays.contains_key(&tenant) || node.share <= 0.0 {
            return 0.0;
        }
        let most = node.stays.values().map(|stay| stay.share).fold(0.0, f64::max);
        STRANGER * mean * most / node.share
    }

    /// An order came to a node.
    pub(super) fn placed(&mut self, capacity: Amounts, placed: &Placed) {
        let Some(tenant) = placed.tenant else { return };
        let taken = share(capacity, placed.amounts);
        let node = &mut self.nodes[placed.node];
        let stay = node.stays.entry(tenant).or_default();
        stay.orders += 1;
        stay.share += taken;
        node.share += taken;
    }

    /// An order left a node.
    pub(super) fn removed(&mut self, capacity: Amounts, placed: &Placed) {
        let Some(tenant) = placed.tenant else { return };
        let taken = share(capacity, placed.amounts);
        let node = &mut self.nodes[placed.node];
        node.share = (node.share - taken).max(0.0);
        if let Some(stay) = node.stays.get_mut(&tenant) {
            stay.orders = stay.orders.saturating_sub(1);
            stay.share -= taken;
            if stay.orders == 0 {
                node.stays.remove(&tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: Amounts = Amounts([24, 64 * 1_024, 0, 0]);
    const SMALL: Amounts = Amounts([1, 2 * 1_024, 0, 0]);
    const LARGE: Amounts = Amounts([8, 56 * 1_024, 0, 0]);

    fn order(tenant: Option<Tenant>) -> Order {
        Order { amounts: SMALL, flavour: 0, now: 0.0, ends_at: f64::INFINITY, overflow_per_hour: 0.0, tenant }
    }

    fn tenants(mix: &[(Amounts, f64)]) -> (Fleet, Tenants) {
        let mut fleet = Fleet::new([NODE, NODE]);
        let mut tenants = Tenants::new(&fleet);
        tenants.expect([(NODE, 0.1, mix)].into_iter());
        for tenant in [1, 1, 1, 2] {
            let slot = fleet.place(0, &order(Some(tenant)), 0.0);
            tenants.placed(NODE, fleet.placed(slot));
        }
        (fleet, tenants)
    }

    #[test]
    fn strangers_count_the_more_the_more_of_a_node_is_one_customers() {
        let (mut fleet, mut tenants) = tenants(&[(SMALL, 0.9), (LARGE, 0.1)]);
        let of = |tenants: &Tenants, node, tenant| tenants.strangeness(node, 0, &order(tenant), 0.1);
        assert!((of(&tenants, 0, Some(3)) - STRANGER * 0.1 * 0.75).abs() < 1e-9);
        assert!(of(&tenants, 0, Some(1)).abs() < 1e-9 && of(&tenants, 0, Some(2)).abs() < 1e-9);
        assert!(of(&tenants, 0, None).abs() < 1e-9 && of(&tenants, 1, Some(3)).abs() < 1e-9);
        let gone = fleet.remove(3);
        tenants.removed(NODE, &gone);
        assert!((of(&tenants, 0, Some(2)) - STRANGER * 0.1).abs() < 1e-9);
    }

    #[test]
    fn nobody_is_a_stranger_where_every_flavour_is_small() {
        let (_, tenants) = tenants(&[(SMALL, 1.0)]);
        assert!(!tenants.matter(&order(Some(3))));
        assert!(tenants.strangeness(0, 0, &order(Some(3)), 0.1).abs() < 1e-9);
    }
}
