//! Room for a blocked order by a few moves.
//!
//! For every node the cheapest set of at most N orders whose leaving would suffice, by distinct amounts; each of them to the
//! best other node. The fewest moves win, then the least waste. Targets are ranked once for all nodes, so that the search is
//! bounded by nodes × sets and not by its square.

use crate::amounts::Amounts;
use crate::fleet::{Fleet, NodeIndex, Slot};
use crate::strategy::Order;

use super::waste::Waste;

/// Sets of orders that are tried on one node.
const SETS_MAX: usize = 1_000;
/// Sets that are tried in all.
const WORK_MAX: usize = 200_000;
/// Best targets that are remembered of each flavour; more than the moves of one answer.
const TARGETS: usize = 12;

/// Work space.
#[derive(Default)]
pub(super) struct Search {
    targets: Vec<(Amounts, Vec<(f64, NodeIndex)>)>,
}

struct Found {
    cost: f64,
    node: NodeIndex,
    moves: Vec<(Slot, NodeIndex)>,
}

impl Search {
    /// The moves and the node, or nothing when at most `most` moves do not suffice.
    pub(super) fn room_for(
        &mut self,
        fleet: &Fleet,
        order: &Order,
        most: usize,
        waste: &mut Waste,
    ) -> Option<(Vec<(Slot, NodeIndex)>, NodeIndex)> {
        self.targets.clear();
        let mut work = 0;
        for size in 1..=most.min(4) {
            let mut best: Option<Found> = None;
            for index in 0..fleet.nodes().len() {
                let node = fleet.node(index);
                if !node.up || !order.amounts.fits(node.capacity) || node.orders.len() < size || work > WORK_MAX {
                    continue;
                }
                let lack = order.amounts.minus(node.free);
                let groups = groups(fleet, &node.orders, size);
                let mut sets = Sets { groups: &groups, lack, tried: 0, chosen: Vec::with_capacity(size) };
                sets.each(0, size, Amounts::default(), &mut |chosen| {
                    if let Some(found) = self.relocate(fleet, index, chosen, order, waste)
                        && best.as_ref().is_none_or(|best| found.cost < best.cost)
                    {
                        best = Some(found);
                    }
                });
                work += sets.tried;
            }
            if let Some(found) = best {
                return Some((found.moves, found.node));
            }
        }
        None
    }

    /// Where each of these would go; nothing when one finds no place.
    fn relocate(
        &mut self,
        fleet: &Fleet,
        from: NodeIndex,
        chosen: &[Slot],
        order: &Order,
        waste: &mut Waste,
    ) -> Option<Found> {
        let mut moves: Vec<(Slot, NodeIndex)> = Vec::with_capacity(chosen.len());
        let (mut cost, mut left) = (0.0, fleet.node(from).free);
        // The largest first: it has the fewest places.
        let mut largest: Vec<Slot> = chosen.to_vec();
        largest.sort_by_key(|slot| std::cmp::Reverse(fleet.placed(*slot).amounts));
        for slot in largest {
            let amounts = fleet.placed(slot).amounts;
            let known = self.ranked(fleet, amounts, waste);
            let target = self.targets[known].1.iter().find(|(_, target)| {
                let taken = moves.iter().filter(|(_, to)| to == target);
                let taken = taken.fold(Amounts::default(), |sum, (slot, _)| sum.plus(fleet.placed(*slot).amounts));
                *target != from
                    && amounts.fits(fleet.node(*target).free.minus(taken))
                    && taken.fits(fleet.node(*target).free)
            });
            let &(worse, to) = target?;
            moves.push((slot, to));
            cost += worse;
            left = left.plus(amounts);
        }
        cost += waste.gradient(from, fleet.node(from).free, left.minus(order.amounts));
        Some(Found { cost, node: from, moves })
    }

    /// The index of the ranking for these amounts: the nodes where they fit best.
    fn ranked(&mut self, fleet: &Fleet, amounts: Amounts, waste: &mut Waste) -> usize {
        if let Some(known) = self.targets.iter().position(|(other, _)| *other == amounts) {
            return known;
        }
        let mut ranking: Vec<(f64, NodeIndex)> = Vec::new();
        for index in (0..fleet.nodes().len()).filter(|index| fleet.takes(*index, amounts)) {
            let free = fleet.node(index).free;
            ranking.push((waste.gradient(index, free, free.minus(amounts)), index));
        }
        ranking.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        ranking.truncate(TARGETS);
        self.targets.push((amounts, ranking));
        self.targets.len() - 1
    }
}

/// The orders of a node by distinct amounts, at most `most` of each, the smallest first.
fn groups(fleet: &Fleet, orders: &[Slot], most: usize) -> Vec<(Amounts, Vec<Slot>)> {
    let mut groups: Vec<(Amounts, Vec<Slot>)> = Vec::new();
    for &slot in orders {
        let amounts = fleet.placed(slot).amounts;
        match groups.iter_mut().find(|(other, _)| *other == amounts) {
            Some((_, slots)) if slots.len() < most => slots.push(slot),
            Some(_) => {}
            None => groups.push((amounts, vec![slot])),
        }
    }
    groups.sort();
    groups
}

/// Every choice of orders by amounts that leaves enough room.
struct Sets<'g> {
    groups: &'g [(Amounts, Vec<Slot>)],
    lack: Amounts,
    tried: usize,
    chosen: Vec<Slot>,
}

impl Sets<'_> {
    fn each(&mut self, first: usize, size: usize, sum: Amounts, take: &mut impl FnMut(&[Slot])) {
        if size == 0 {
            self.tried += 1;
            if self.lack.fits(sum) {
                take(&self.chosen);
            }
            return;
        }
        // Not even the largest of what is left would do.
        let most = self.groups[first..].iter().fold(Amounts::default(), |most, (amounts, _)| most.larger(*amounts));
        let reach = (0..size).fold(sum, |reach, _| reach.plus(most));
        if !self.lack.fits(reach) {
            return;
        }
        for group in first..self.groups.len() {
            if self.tried >= SETS_MAX {
                return;
            }
            let (amounts, slots) = &self.groups[group];
            // So many of this group are chosen already.
            let used = self.chosen.iter().filter(|slot| slots.contains(slot)).count();
            if let Some(slot) = slots.get(used) {
                self.chosen.push(*slot);
                self.each(group, size - 1, sum.plus(*amounts), take);
                self.chosen.pop();
            }
        }
    }
}
