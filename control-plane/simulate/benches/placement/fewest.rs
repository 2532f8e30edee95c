//! The fewest identical nodes that host a trace, against the bound.

use nemordp_simulate::amounts::Amounts;
use nemordp_simulate::bound::volume;
use nemordp_simulate::engine::{Engine, Lifetimes};
use nemordp_simulate::fleet::{Fleet, Slot};
use nemordp_simulate::strategy::peers::{Peer, Rule};
use nemordp_simulate::strategy::{Order, Strategy};
use nemordp_simulate::trace::{Arrival, Trace};
use nemordp_simulate::world::{Budget, Outcome, World};

use crate::dice::Dice;

/// Processors and GiB of a node.
const SHAPES: [(u32, u32); 6] = [(96, 256), (32, 128), (384, 256), (48, 60), (128, 124), (24, 64)];
const MOVES: Budget = Budget { per_order: 3, per_thousand: 5.0 };
const NO_MOVES: Budget = Budget { per_order: 0, per_thousand: 0.0 };
/// An order that outlives the trace ends then.
const END: f64 = 4.0 * 86_400.0;

#[derive(Clone, Copy)]
enum Who {
    Ours(Lifetimes, Budget),
    Peer(Rule),
}

fn contestants() -> Vec<(String, Who)> {
    let mut all: Vec<(String, Who)> = Vec::new();
    for (word, lifetimes) in [("hidden", Lifetimes::None), ("noisy", Lifetimes::Noisy), ("exact", Lifetimes::Exact)] {
        all.push((format!("nemordp, {word}"), Who::Ours(lifetimes, NO_MOVES)));
        all.push((format!("nemordp, {word}, 5/1000 moves"), Who::Ours(lifetimes, MOVES)));
    }
    for rule in Rule::ALL.into_iter().filter(|rule| *rule != Rule::WorstFit) {
        all.push((Peer::new(rule).name().to_owned(), Who::Peer(rule)));
    }
    all
}

fn told(arrival: &Arrival, lifetimes: Lifetimes, index: usize) -> f64 {
    let until = arrival.until.min(END);
    match lifetimes {
        Lifetimes::None => f64::INFINITY,
        Lifetimes::Exact => until,
        Lifetimes::Noisy => {
            let mut dice = Dice(u64::try_from(index).unwrap());
            arrival.at + (until - arrival.at) * dice.normal().exp()
        }
    }
}

/// Whether so many nodes host all of it.
fn hosts(trace: &Trace, moments: &[(f64, bool, usize)], capacity: Amounts, nodes: u32, who: Who) -> bool {
    let fleet = Fleet::new((0..nodes).map(|_| capacity));
    let (strategy, lifetimes, budget): (Box<dyn Strategy>, _, _) = match who {
        Who::Ours(lifetimes, budget) => (Box::new(Engine::new(&fleet, &[], lifetimes)), lifetimes, budget),
        Who::Peer(rule) => (Box::new(Peer::new(rule)), Lifetimes::Exact, NO_MOVES),
    };
    let mut world = World::new(fleet, strategy, budget);
    let mut slots: Vec<Slot> = vec![0; trace.arrivals.len()];
    for &(now, arrives, index) in moments {
        let arrival = &trace.arrivals[index];
        if !arrives {
            world.depart(slots[index], now);
            continue;
        }
        let order = Order {
            amounts: arrival.amounts,
            flavour: arrival.flavour,
            now,
            ends_at: told(arrival, lifetimes, index),
            overflow_per_hour: 0.0,
            tenant: Some(arrival.batch),
        };
        match world.arrive(&order) {
            Outcome::Placed { slot, .. } => slots[index] = slot,
            Outcome::Overflowed(_) => return false,
        }
    }
    true
}

fn fewest(trace: &Trace, moments: &[(f64, bool, usize)], capacity: Amounts, bound: u32, who: Who) -> u32 {
    let (mut fails, mut step) = (bound.saturating_sub(1), (bound / 100).max(1));
    let mut enough = loop {
        if hosts(trace, moments, capacity, fails + step, who) {
            break fails + step;
        }
        fails += step;
        step *= 2;
    };
    while enough - fails > 1 {
        let middle = (enough + fails) / 2;
        if hosts(trace, moments, capacity, middle, who) { enough = middle } else { fails = middle }
    }
    enough
}

/// Prints the gap of each strategy over the bound, in percent, by split and shape.
pub(crate) fn table(text: &str, one_in: u64) {
    let whole = Trace::parse(text).unwrap();
    let hash = |arrival: &Arrival, salt: u64| Dice(u64::from(arrival.batch) ^ salt).next();
    let kept = whole.filter(|arrival| hash(arrival, 1) % one_in == 0);
    let half = 151_200.0;
    let splits: [(&str, Trace); 4] = [
        ("customers a", kept.filter(|arrival| hash(arrival, 2) % 2 == 0)),
        ("customers b", kept.filter(|arrival| hash(arrival, 2) % 2 == 1)),
        ("first half", kept.filter(|arrival| arrival.at < half)),
        ("second half", kept.filter(|arrival| arrival.at >= half)),
    ];
    let who = contestants();
    let names: Vec<&str> = who.iter().map(|(name, _)| name.as_str()).collect();
    println!("\nfewest nodes over the bound, percent; one customer in {one_in}");
    println!("| split | node | bound | {} |", names.join(" | "));
    println!("|{}", "---|".repeat(names.len() + 3));
    let mut sums = vec![0.0; who.len()];
    let only = std::env::var("SPLITS").ok();
    let chosen = splits.iter().filter(|(split, _)| only.as_ref().is_none_or(|only| only.contains(split)));
    let mut cells = 0.0;
    for (split, trace) in chosen {
        for (vcpu, memory) in SHAPES {
            let capacity = Amounts([vcpu, memory * 1_024, 0, 0]);
            let trace = trace.filter(|arrival| arrival.amounts.fits(capacity));
            let bound = volume::nodes_at_least(&trace, capacity);
            let moments = moments(&trace);
            let mut row = format!("| {split} | {vcpu}/{memory} | {bound} |");
            for (sum, (_, who)) in sums.iter_mut().zip(&who) {
                let nodes = fewest(&trace, &moments, capacity, bound, *who);
                let gap = (f64::from(nodes) / f64::from(bound) - 1.0) * 100.0;
                *sum += gap;
                row += &format!(" {gap:.2} |");
            }
            cells += 1.0;
            println!("{row}");
        }
    }
    let means: Vec<String> = sums.iter().map(|sum| format!("{:.2}", sum / cells)).collect();
    println!("| mean | | | {} |", means.join(" | "));
}

fn moments(trace: &Trace) -> Vec<(f64, bool, usize)> {
    let mut moments = Vec::with_capacity(trace.arrivals.len() * 2);
    for (index, arrival) in trace.arrivals.iter().enumerate() {
        moments.push((arrival.at, true, index));
        if arrival.until.is_finite() {
            moments.push((arrival.until, false, index));
        }
    }
    moments.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    moments
}
