//! Slots of dear plans: how many an order would take away, and when that is too dear.
//!
//! Littlewood's rule: a cheap order may take a slot unless the dear order that is expected to want it is worth more. Whether
//! one will want it is forecast from the dear orders of the recent past; where none came lately, nothing is held.

use crate::amounts::{Amounts, DIMENSIONS, GPU};
use crate::fleet::{Fleet, NodeIndex};
use crate::strategy::{Ended, Order};

/// Dear flavours that are kept in view.
const KEPT: usize = 16;
/// Below so many orders of a dear flavour nothing is forecast.
const ENOUGH: f64 = 8.0;
/// By how much the expected gain of holding must exceed the certain cost: what is held in vain is money lost.
const CAUTION: f64 = 2.0;

/// How long orders of a flavour live.
#[derive(Debug, Clone, Copy, Default)]
struct Life {
    ended: f64,
    lived: f64,
    running: f64,
    since: f64,
}

impl Life {
    /// The mean, seconds, as if lives were exponential: time lived, by those that still run too, over lives that ended.
    fn mean(&self, now: f64) -> Option<f64> {
        let lived = self.lived + self.running * now - self.since;
        (self.ended >= 1.0).then(|| lived / self.ended)
    }
}

/// A flavour that needs a GPU.
#[derive(Debug, Clone, Copy)]
struct Dear {
    amounts: Amounts,
    price: f64,
    flavour: Option<u32>,
    /// Orders that run now, on nodes or clouds.
    running: f64,
    came: f64,
    /// Orders that came, the older the less.
    recent: f64,
    first: f64,
    last: f64,
}

/// What is known of the demand for GPUs.
pub(super) struct Reserve {
    dear: Vec<Dear>,
    lives: Vec<Life>,
}

impl Reserve {
    pub(super) fn new(plans: &[(Amounts, f64)]) -> Self {
        let dear = plans.iter().filter(|(amounts, _)| amounts.0[GPU] > 0).take(KEPT);
        Self { dear: dear.map(|(amounts, price)| Dear::new(*amounts, *price)).collect(), lives: Vec::new() }
    }

    /// Slots of dear plans that a node loses with this change: whole ones, and a little for parts of one.
    pub(super) fn lost(&self, free: Amounts, after: Amounts) -> f64 {
        let lost = self.dear.iter().map(|dear| dear.whole_lost(free, after) + 0.1 * dear.part_lost(free, after));
        lost.fold(0.0, f64::max)
    }

    /// Whether the best node is too dear for this order.
    pub(super) fn forbids(&self, fleet: &Fleet, node: NodeIndex, order: &Order) -> bool {
        let free = fleet.node(node).free;
        if order.amounts.0[GPU] > 0 || free.0[GPU] == 0 {
            return false;
        }
        let after = free.minus(order.amounts);
        let life = self.life(order.flavour, order.now);
        let stays = if order.ends_at.is_finite() { Some(order.ends_at - order.now) } else { life };
        let Some(stays) = stays.filter(|stays| *stays > 0.0) else { return false };
        let own_cost = order.overflow_per_hour * stays;
        self.dear.iter().any(|dear| {
            let Some(life) = dear.flavour.and_then(|flavour| self.life(flavour, order.now)) else { return false };
            if dear.whole_lost(free, after) < 1.0 || dear.came < ENOUGH {
                return false;
            }
            let left: f64 = fleet.nodes().iter().filter(|node| node.up).map(|node| dear.whole(node.free)).sum();
            // One dear order after the other would have the slot as long as the cheap one keeps it.
            let cost = dear.price * stays * dear.share(order.amounts);
            dear.chance_of(left, stays, life, order.now) * cost > CAUTION * own_cost
        })
    }

    fn life(&self, flavour: u32, now: f64) -> Option<f64> {
        self.lives.get(usize::try_from(flavour).ok()?)?.mean(now)
    }

    /// Counts an order; true when it is the first of a dear flavour.
    pub(super) fn arrived(&mut self, order: &Order) -> bool {
        let life = self.life_mut(order.flavour);
        life.running += 1.0;
        life.since += order.now;
        if order.amounts.0[GPU] == 0 {
            return false;
        }
        let known = self.dear.iter().position(|dear| dear.amounts == order.amounts);
        let index = match known {
            Some(index) => index,
            None if self.dear.len() < KEPT => {
                self.dear.push(Dear::new(order.amounts, order.overflow_per_hour));
                self.dear.len() - 1
            }
            None => return false,
        };
        let life = self.life(order.flavour, order.now);
        self.dear[index].arrived(order, life);
        known.is_none()
    }

    fn life_mut(&mut self, flavour: u32) -> &mut Life {
        let index = usize::try_from(flavour).unwrap_or(0);
        if self.lives.len() <= index {
            self.lives.resize(index + 1, Life::default());
        }
        &mut self.lives[index]
    }

    pub(super) fn ended(&mut self, ended: &Ended) {
        let life = self.life_mut(ended.flavour);
        life.running -= 1.0;
        life.since -= ended.since;
        life.ended += 1.0;
        life.lived += ended.now - ended.since;
        if let Some(dear) = self.dear.iter_mut().find(|dear| dear.amounts == ended.amounts) {
            dear.running -= 1.0;
        }
    }
}

impl Dear {
    const fn new(amounts: Amounts, price: f64) -> Self {
        Self { amounts, price, flavour: None, running: 0.0, came: 0.0, recent: 0.0, first: 0.0, last: 0.0 }
    }

    fn arrived(&mut self, order: &Order, life: Option<f64>) {
        if self.came == 0.0 {
            self.first = order.now;
        }
        self.flavour = Some(order.flavour);
        self.price = self.price.max(order.overflow_per_hour);
        self.recent = self.recent * self.fading(order.now, life) + 1.0;
        self.last = order.now;
        self.came += 1.0;
        self.running += 1.0;
    }

    /// What is left of old counts: two lifetimes make them a third.
    fn fading(&self, now: f64, life: Option<f64>) -> f64 {
        life.map_or(1.0, |life| (-(now - self.last) / (2.0 * life).max(1.0)).exp())
    }

    fn whole(&self, free: Amounts) -> f64 {
        f64::from(self.amounts.slots(free).min(1 << 20))
    }

    fn whole_lost(&self, free: Amounts, after: Amounts) -> f64 {
        self.whole(free) - self.whole(after)
    }

    fn part_lost(&self, free: Amounts, after: Amounts) -> f64 {
        let part = |free: Amounts| {
            let ratio = |d: usize| f64::from(free.0[d]) / f64::from(self.amounts.0[d]);
            (0..DIMENSIONS).filter(|d| self.amounts.0[*d] > 0).map(ratio).fold(f64::INFINITY, f64::min)
        };
        part(free) - part(after)
    }

    /// How much of a slot the amounts take.
    fn share(&self, amounts: Amounts) -> f64 {
        let ratio = |d: usize| f64::from(amounts.0[d]) / f64::from(self.amounts.0[d]);
        (0..GPU).filter(|d| self.amounts.0[*d] > 0).map(ratio).fold(0.0, f64::max).min(1.0)
    }

    /// How likely more than `left` further orders of this kind run at the same time within a span: arrivals at the recent
    /// rate, lives of this mean, the sum taken as normally distributed.
    fn chance_of(&self, left: f64, span: f64, life: f64, now: f64) -> f64 {
        let seen = (now - self.first).max(1.0);
        let window = 2.0 * life * (1.0 - (-seen / (2.0 * life).max(1.0)).exp());
        let rate = self.recent * self.fading(now, Some(life)) / window.max(1.0);
        let gone = 1.0 - (-span / life.max(1.0)).exp();
        let come = rate * life * gone;
        let change = come - self.running * gone;
        let deviation = (come + self.running * gone * (1.0 - gone)).max(1e-9).sqrt();
        // The greatest of a span lies above its last.
        above((left - change.max(0.0)) / deviation)
    }
}

/// The share of a normal distribution above this many deviations (Abramowitz and Stegun 26.2.17).
fn above(x: f64) -> f64 {
    if x < 0.0 {
        return 1.0 - above(-x);
    }
    let t = 1.0 / (1.0 + 0.231_641_9 * x);
    let series =
        t * (0.319_381_530 + t * (-0.356_563_782 + t * (1.781_477_937 + t * (-1.821_255_978 + t * 1.330_274_429))));
    (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_tail_is_right() {
        for (x, tail) in [(0.0, 0.5), (1.0, 0.158_655), (2.0, 0.022_750), (-1.0, 0.841_345)] {
            assert!((above(x) - tail).abs() < 1e-5, "{x}");
        }
    }

    #[test]
    fn a_demand_that_never_came_holds_nothing() {
        let fleet = Fleet::new([Amounts([8, 16, 0, 1])]);
        let reserve = Reserve::new(&[(Amounts([8, 16, 0, 1]), 1.0)]);
        let order = Order {
            amounts: Amounts([2, 4, 0, 0]),
            flavour: 0,
            now: 0.0,
            ends_at: 3_600.0,
            overflow_per_hour: 0.01,
            tenant: None,
        };
        assert!(!reserve.forbids(&fleet, 0, &order));
    }

    #[test]
    fn the_last_slot_is_held_for_what_keeps_coming() {
        let dear = Amounts([8, 16, 0, 1]);
        let fleet = Fleet::new([dear]);
        let mut reserve = Reserve::new(&[(dear, 1.0)]);
        let gpu = |now: f64| Order {
            amounts: dear,
            flavour: 0,
            now,
            ends_at: f64::INFINITY,
            overflow_per_hour: 1.0,
            tenant: None,
        };
        for hour in 0..20u32 {
            let now = f64::from(hour) * 3_600.0;
            reserve.arrived(&gpu(now));
            reserve.ended(&Ended { amounts: dear, flavour: 0, since: now, now: now + 1_800.0 });
        }
        let now = 20.0 * 3_600.0;
        let cheap = |price| Order {
            amounts: Amounts([2, 4, 0, 0]),
            flavour: 1,
            now,
            ends_at: now + 36_000.0,
            overflow_per_hour: price,
            tenant: None,
        };
        assert!(reserve.forbids(&fleet, 0, &cheap(0.000_1)));
        assert!(!reserve.forbids(&fleet, 0, &cheap(5.0)));
    }
}
