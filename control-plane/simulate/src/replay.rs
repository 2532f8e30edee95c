//! A file of events replayed against a fleet file, with what came of it.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use serde::Serialize;

use crate::amounts::{Amounts, DIMENSIONS};
use crate::fleet::NodeIndex;
use crate::game::{Arrived, Choose, Game};
use crate::hindsight::{Hindsight, Stay};
use crate::message::{ArriveMessage, FleetMessage, Message};
use crate::strategy::Cause;

/// What came of a replay.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Orders that came.
    pub orders: u64,
    /// Nodes that ever had an order.
    pub nodes_used: usize,
    /// Most nodes that had an order at the same time.
    pub nodes_used_at_peak: usize,
    /// Orders that went to a cloud.
    pub rejected: u64,
    /// Those of them for which room was held back.
    pub rejected_by_reserve: u64,
    /// What the clouds cost until the orders' true end.
    pub overflow_money: f64,
    /// The part of it that a better placement of the same orders on the same nodes would not have spent.
    pub avoidable_money: f64,
    /// Moves that were made.
    pub migrations: u64,
    /// Share of processors, memory, disk and GPUs that lay idle on nodes in use, averaged over time.
    pub stranded: [f64; DIMENSIONS],
    /// Half of the decisions took no longer, nanoseconds.
    pub decision_p50_ns: u64,
    /// 99 of 100 decisions took no longer, nanoseconds.
    pub decision_p99_ns: u64,
    /// Load over time.
    #[serde(skip)]
    pub curve: Vec<Moment>,
}

/// The fleet at one time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Moment {
    /// When, seconds.
    pub t: f64,
    /// The fullest dimension's share of the capacity that is up.
    pub load: f64,
    /// Cost per hour of what runs on clouds.
    pub overflow_per_hour: f64,
}

/// Why a file cannot be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The fleet file.
    #[error("fleet file: {0}")]
    Fleet(String),
    /// A line of the events file.
    #[error("events, line {line}: {why}")]
    Event {
        /// Which, from 1.
        line: usize,
        /// What is wrong and how to mend it.
        why: String,
    },
}

/// Reads a fleet file: the object of the protocol, with or without `fleet` around it.
///
/// # Errors
/// When it is no such JSON.
pub fn read_fleet(text: &str) -> Result<FleetMessage, ReplayError> {
    let bad = |error: serde_json::Error| ReplayError::Fleet(error.to_string());
    let message: Message = serde_json::from_str(text).map_err(bad)?;
    match message.fleet {
        Some(fleet) => Ok(fleet),
        None => serde_json::from_str(text).map_err(bad),
    }
}

/// Replays events, one JSON object a line, as in the protocol; times must not fall.
///
/// # Errors
/// The first line that cannot be used: no JSON, a clock that goes backwards, an id that is in use, amounts of zero or less.
pub fn replay(fleet: &FleetMessage, events: &str, choose: Choose<'_>) -> Result<Report, ReplayError> {
    let game = Game::new(fleet, choose).map_err(ReplayError::Fleet)?;
    if game.world().fleet().nodes().is_empty() {
        return Err(ReplayError::Fleet("it has no nodes: give at least one".to_owned()));
    }
    let mut replay = Replay::new(game);
    for (index, line) in events.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let bad = |why: String| ReplayError::Event { line: index + 1, why };
        let message: Message = serde_json::from_str(line).map_err(|error| bad(error.to_string()))?;
        replay.event(&message).map_err(bad)?;
    }
    Ok(replay.finish())
}

/// An order that runs on a cloud.
struct Elsewhere {
    since: f64,
    price: f64,
    amounts: Amounts,
    cause: Cause,
    /// Nodes that had room for it.
    room: Vec<NodeIndex>,
}

struct Replay {
    game: Game,
    report: Report,
    hindsight: Hindsight,
    elsewhere: HashMap<String, Elsewhere>,
    /// The stays of orders that lie on nodes.
    stays: HashMap<String, usize>,
    over: Vec<Elsewhere>,
    ends: Vec<f64>,
    used: BTreeSet<NodeIndex>,
    durations: Vec<u64>,
    /// Idle shares times seconds, and seconds.
    idle: ([f64; DIMENSIONS], f64),
    last: f64,
}

impl Replay {
    fn new(game: Game) -> Self {
        let hindsight = Hindsight::new(game.world().fleet());
        Self {
            game,
            report: Report::default(),
            hindsight,
            elsewhere: HashMap::new(),
            stays: HashMap::new(),
            over: Vec::new(),
            ends: Vec::new(),
            used: BTreeSet::new(),
            durations: Vec::new(),
            idle: ([0.0; DIMENSIONS], 0.0),
            last: f64::NEG_INFINITY,
        }
    }

    fn event(&mut self, message: &Message) -> Result<(), String> {
        let t = message.t.ok_or("`t` is missing: give the time in seconds")?;
        if t < self.last {
            return Err(format!("the clock goes backwards, from {} to {t}: sort the events by `t`", self.last));
        }
        self.look(t);
        self.game.pass(t);
        if let Some(arrive) = &message.arrive {
            self.arrive(arrive)?;
        } else if let Some(id) = message.depart.as_ref().and_then(|depart| depart.order.as_ref()) {
            self.depart(id);
        } else if let Some(node) = &message.node_down {
            let before = self.game.now();
            for (order, place) in self.game.node_down(node) {
                self.leave(&order, before);
                match place {
                    Ok(node) => self.stay(&order, node, true),
                    Err(_) => self.report.rejected += 1,
                }
            }
        } else if let Some(node) = &message.node_up {
            self.game.node_up(node);
        }
        Ok(())
    }

    fn arrive(&mut self, arrive: &ArriveMessage) -> Result<(), String> {
        let id = arrive.order.clone().ok_or("the order has no id: give `order`")?;
        if self.game.lies(&id) || self.elsewhere.contains_key(&id) {
            return Err(format!("order `{id}` is here already: give each order its own id"));
        }
        let (amounts, price) =
            self.game.wanted(arrive).ok_or("`plan` is in no list of plans, or an amount is negative")?;
        if amounts.is_zero() {
            return Err("all amounts are zero: an order takes at least something".to_owned());
        }
        self.report.orders += 1;
        let fleet = self.game.world().fleet();
        let room: Vec<NodeIndex> = (0..fleet.nodes().len()).filter(|node| fleet.takes(*node, amounts)).collect();
        let began = Instant::now();
        let arrived = self.game.arrive(arrive);
        self.durations.push(u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        match arrived {
            Arrived::Placed { node, moves } => {
                let now = self.game.now();
                for (order, to) in moves {
                    self.leave(&order, now);
                    self.stay(&order, to, true);
                    self.report.migrations += 1;
                }
                self.enter(&id, node, amounts, price, room.len() > 1);
            }
            Arrived::Overflowed(cause) => {
                self.report.rejected += 1;
                self.report.rejected_by_reserve += u64::from(cause == Cause::Reserve);
                self.elsewhere.insert(id, Elsewhere { since: self.game.now(), price, amounts, cause, room });
            }
        }
        Ok(())
    }

    /// Notes that an order lies on a node from now on.
    fn enter(&mut self, id: &str, node: NodeIndex, amounts: Amounts, price: f64, had_choice: bool) {
        self.used.insert(node);
        let stay = Stay { node, since: self.game.now(), until: f64::INFINITY, amounts, price, had_choice };
        self.stays.insert(id.to_owned(), self.hindsight.note(stay));
    }

    fn stay(&mut self, id: &str, node: NodeIndex, had_choice: bool) {
        if let Some(before) = self.stays.get(id).map(|stay| *self.hindsight.stay(*stay)) {
            self.enter(id, node, before.amounts, before.price, had_choice);
        }
    }

    fn leave(&mut self, id: &str, now: f64) {
        if let Some(stay) = self.stays.get(id) {
            self.hindsight.end(*stay, now);
        }
    }

    fn depart(&mut self, id: &str) {
        let now = self.game.now();
        self.leave(id, now);
        self.stays.remove(id);
        if let Some(over) = self.elsewhere.remove(id) {
            self.over.push(over);
            self.ends.push(now);
        }
        self.game.depart(id);
    }

    /// What was the case from the last event until `t`.
    fn look(&mut self, t: f64) {
        let (nodes, span) = (self.game.world().fleet().nodes(), t - self.last);
        if span > 0.0 {
            let in_use = nodes.iter().filter(|node| !node.orders.is_empty());
            let (mut has, mut free) = ([0.0; DIMENSIONS], [0.0; DIMENSIONS]);
            for node in in_use.clone() {
                for d in 0..DIMENSIONS {
                    has[d] += f64::from(node.capacity.0[d]);
                    free[d] += f64::from(node.free.0[d]);
                }
            }
            self.report.nodes_used_at_peak = self.report.nodes_used_at_peak.max(in_use.count());
            let ratio = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
            if span.is_finite() {
                (0..DIMENSIONS).for_each(|d| self.idle.0[d] += span * ratio(free[d], has[d]));
                self.idle.1 += span;
            }
            let load = (0..DIMENSIONS).map(|d| {
                let up = nodes.iter().filter(|node| node.up);
                let (has, free) = up.fold((0.0, 0.0), |(has, free), node| {
                    (has + f64::from(node.capacity.0[d]), free + f64::from(node.free.0[d]))
                });
                ratio(has - free, has)
            });
            let overflow_per_hour = self.elsewhere.values().map(|over| over.price).sum();
            let at = if self.last.is_finite() { self.last } else { t };
            self.report.curve.push(Moment { t: at, load: load.fold(0.0, f64::max), overflow_per_hour });
        }
        self.last = t;
    }

    fn finish(mut self) -> Report {
        let end = self.last.max(0.0);
        self.look(end + 1.0);
        for (_, over) in self.elsewhere.drain() {
            self.over.push(over);
            self.ends.push(end);
        }
        self.hindsight.close(end);
        for (over, end) in self.over.iter().zip(&self.ends) {
            let cost = over.price * (end - over.since) / 3_600.0;
            self.report.overflow_money += cost;
            let justified = over.cause == Cause::Reserve
                && over.room.iter().all(|node| self.hindsight.displaced(*node, over.amounts, over.since, *end) > cost);
            if !over.room.is_empty() && !justified {
                self.report.avoidable_money += cost;
            }
        }
        self.report.nodes_used = self.used.len();
        self.report.stranded = self.idle.0.map(|idle| if self.idle.1 > 0.0 { idle / self.idle.1 } else { 0.0 });
        self.durations.sort_unstable();
        let at = |part: usize| self.durations.get(self.durations.len() * part / 100).copied().unwrap_or(0);
        (self.report.decision_p50_ns, self.report.decision_p99_ns) = (at(50), at(99));
        self.report
    }
}
