//! Whose orders lie on each node, so that strangers do not share one that could be emptied at once.
//!
//! What one customer orders together ends together: on the Azure trace of 2017 (Cortez et al., SOSP'17) the logarithm of a life
//! varies by 0.46 among orders that came in one batch and by 2.8 among all, and of two such orders 45 % end within the same
//! five minutes. Where the largest flavour needs most of a node, it finds room only on a node that has been emptied; one that
//! belongs to one customer empties at once, and a single stranger on it spoils that. What has stayed long stays long, so a node
//! of old orders is none to keep free of strangers. Where nothing is said of customers, orders of one flavour that came in the
//! same five minutes are taken for one customer's.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;

use super::waste::{Quick, share};
use crate::amounts::Amounts;
use crate::fleet::{Fleet, NodeIndex, Placed, Tenant};
use crate::strategy::Order;

/// The largest flavour needs most of a node when it takes more than this share of it.
const MOST: f64 = 0.5;
/// A flavour that comes less often than this is none to keep nodes for.
const FREQUENT: f64 = 0.001;
/// A stay of this age, seconds, counts half: how likely it is to end soon falls about with its age.
const OLD: f64 = 4.0 * 3_600.0;
/// Orders without a name that came within so many seconds may be one customer's.
const TOGETHER: f64 = 300.0;

/// Who has orders on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Guest {
    Named(Tenant),
    /// Somebody, by flavour and by the number of the span of time in which the orders came (its bits).
    Unnamed(u32, u64),
}

impl Guest {
    fn new(tenant: Option<Tenant>, flavour: u32, since: f64) -> Self {
        tenant.map_or_else(|| Self::Unnamed(flavour, (since / TOGETHER).floor().to_bits()), Self::Named)
    }
}

/// The orders of one customer on one node.
struct Stay {
    orders: u32,
    /// What they take of the node.
    share: f64,
    /// When the first of them came, seconds.
    since: f64,
}

impl Stay {
    /// What counts of it at this instant.
    fn counts(&self, now: f64) -> f64 {
        self.share / (1.0 + (now - self.since).max(0.0) / OLD)
    }
}

/// One node.
#[derive(Default)]
struct Guests {
    stays: HashMap<Guest, Stay, BuildHasherDefault<Quick>>,
    /// What all of them take of the node.
    share: f64,
}

/// Whose orders lie where.
pub(super) struct Tenants {
    /// Empty where it is not kept in view.
    nodes: Vec<Guests>,
    /// For each of the distinct capacities, whether strangers are kept apart.
    counts: Vec<bool>,
}

impl Tenants {
    /// For a fleet of at most `most` nodes; on a larger one nothing matters, and nothing is kept in view.
    pub(super) fn new(fleet: &Fleet, most: usize) -> Self {
        let kept = if fleet.nodes().len() <= most { fleet.nodes() } else { &[] };
        let nodes = kept.iter().map(|_| Guests::default()).collect();
        Self { nodes, counts: Vec::new() }
    }

    /// Takes another mix.
    pub(super) fn expect<'m>(&mut self, shapes: impl Iterator<Item = (Amounts, f64, &'m [(Amounts, f64)])>) {
        let large = |capacity: Amounts, mix: &[(Amounts, f64)]| {
            !self.nodes.is_empty()
                && mix.iter().any(|(amounts, weight)| *weight >= FREQUENT && share(capacity, *amounts) > MOST)
        };
        self.counts = shapes.map(|(capacity, _, mix)| large(capacity, mix)).collect();
    }

    /// Whether it matters anywhere who else lies on a node.
    pub(super) fn matter(&self) -> bool {
        self.counts.contains(&true)
    }

    /// How much a node would lose by taking this order as a stranger, from 0 to 1: the share of its largest stay, the less the
    /// longer that one has lasted.
    pub(super) fn strangeness(&self, index: NodeIndex, shape: usize, order: &Order) -> f64 {
        let Some(node) = self.nodes.get(index) else { return 0.0 };
        let guest = Guest::new(order.tenant, order.flavour, order.now);
        if !self.counts.get(shape).copied().unwrap_or(false) || node.share <= 0.0 || node.stays.contains_key(&guest) {
            return 0.0;
        }
        let most = node.stays.values().map(|stay| stay.counts(order.now)).fold(0.0, f64::max);
        most / node.share
    }

    /// An order came to a node.
    pub(super) fn placed(&mut self, capacity: Amounts, placed: &Placed) {
        let Some(node) = self.nodes.get_mut(placed.node) else { return };
        let taken = share(capacity, placed.amounts);
        let guest = Guest::new(placed.tenant, placed.flavour, placed.since);
        let stay = node.stays.entry(guest).or_insert(Stay { orders: 0, share: 0.0, since: placed.since });
        stay.orders += 1;
        stay.share += taken;
        stay.since = stay.since.min(placed.since);
        node.share += taken;
    }

    /// An order left a node.
    pub(super) fn removed(&mut self, capacity: Amounts, placed: &Placed) {
        let Some(node) = self.nodes.get_mut(placed.node) else { return };
        let taken = share(capacity, placed.amounts);
        node.share = (node.share - taken).max(0.0);
        let guest = Guest::new(placed.tenant, placed.flavour, placed.since);
        if let Some(stay) = node.stays.get_mut(&guest) {
            stay.orders = stay.orders.saturating_sub(1);
            stay.share -= taken;
            if stay.orders == 0 {
                node.stays.remove(&guest);
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

    fn order(tenant: Option<Tenant>, now: f64) -> Order {
        Order { amounts: SMALL, flavour: 0, now, ends_at: f64::INFINITY, overflow_per_hour: 0.0, tenant }
    }

    fn tenants(mix: &[(Amounts, f64)], guests: [(Option<Tenant>, f64); 4]) -> (Fleet, Tenants) {
        let mut fleet = Fleet::new([NODE, NODE]);
        let mut tenants = Tenants::new(&fleet, 2);
        tenants.expect([(NODE, 0.1, mix)].into_iter());
        for (tenant, now) in guests {
            let slot = fleet.place(0, &order(tenant, now), now);
            tenants.placed(NODE, fleet.placed(slot));
        }
        (fleet, tenants)
    }

    const NAMED: [(Option<Tenant>, f64); 4] = [(Some(1), 0.0), (Some(1), 0.0), (Some(1), 0.0), (Some(2), 0.0)];
    const MIX: [(Amounts, f64); 2] = [(SMALL, 0.9), (LARGE, 0.1)];

    #[test]
    fn strangers_count_the_more_the_more_of_a_node_is_one_customers() {
        let (mut fleet, mut tenants) = tenants(&MIX, NAMED);
        let of = |tenants: &Tenants, node, tenant| tenants.strangeness(node, 0, &order(tenant, 0.0));
        assert!((of(&tenants, 0, Some(3)) - 0.75).abs() < 1e-9);
        assert!((of(&tenants, 0, None) - 0.75).abs() < 1e-9);
        assert!(of(&tenants, 0, Some(1)).abs() < 1e-9 && of(&tenants, 0, Some(2)).abs() < 1e-9);
        assert!(of(&tenants, 1, Some(3)).abs() < 1e-9);
        let gone = fleet.remove(3);
        tenants.removed(NODE, &gone);
        assert!((of(&tenants, 0, Some(2)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn what_has_stayed_long_is_not_waited_for() {
        let (_, tenants) = tenants(&MIX, NAMED);
        assert!((tenants.strangeness(0, 0, &order(Some(3), OLD)) - 0.75 / 2.0).abs() < 1e-9);
        assert!((tenants.strangeness(0, 0, &order(Some(3), 3.0 * OLD)) - 0.75 / 4.0).abs() < 1e-9);
    }

    #[test]
    fn without_names_what_comes_together_is_one_customers() {
        let (mut fleet, mut tenants) = tenants(&MIX, [(None, 0.0), (None, 10.0), (None, 290.0), (None, 300.0)]);
        let of = |tenants: &Tenants, now| tenants.strangeness(0, 0, &order(None, now));
        assert!(of(&tenants, 299.0).abs() < 1e-9 && of(&tenants, 310.0).abs() < 1e-9);
        assert!((of(&tenants, 600.0) - 0.75 / (1.0 + 600.0 / OLD)).abs() < 1e-9);
        for slot in 0..3 {
            let gone = fleet.remove(slot);
            tenants.removed(NODE, &gone);
        }
        assert!((of(&tenants, 600.0) - 1.0 / (1.0 + 300.0 / OLD)).abs() < 1e-9);
    }

    #[test]
    fn on_a_fleet_too_large_to_look_at_nobody_is_a_stranger() {
        let fleet = Fleet::new([NODE; 3]);
        let mut tenants = Tenants::new(&fleet, 2);
        tenants.expect([(NODE, 0.1, &MIX[..])].into_iter());
        assert!(!tenants.matter());
    }

    #[test]
    fn nobody_is_a_stranger_where_every_flavour_is_small() {
        let (_, tenants) = tenants(&[(SMALL, 1.0)], NAMED);
        assert!(!tenants.matter());
        assert!(tenants.strangeness(0, 0, &order(Some(3), 0.0)).abs() < 1e-9);
    }
}
