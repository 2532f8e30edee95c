//! How well a request lies on a node: terms in millionths, the lowest sum wins.
//!
//! Integers throughout, so that two machines, and the explanation a month later, agree to the last digit.

use jiff::Timestamp;
use nemordp_types::Bytes;
use serde::{Deserialize, Serialize};

use super::fragment;
use super::proportion::Proportion;
use super::{Affinity, FleetSnapshot, NodeSnapshot, PlacementRequest, PoolRoom, Room};

pub(super) const MILLION: u64 = 1_000_000;
/// The template must be fetched first: as bad as a tenth of the node left empty.
const TEMPLATE_ABSENT: u64 = 100_000;
/// Each clone under way on the node slows the next one, those on the same storage more.
const CLONE: u64 = 20_000;
const CLONE_ON_POOL: u64 = 30_000;
/// Per percent of time that tasks wait (PSI), by what they wait for; stolen time is waited for like a processor.
const PRESSURE_CPU: f64 = 1_000.0;
const PRESSURE_MEMORY: f64 = 4_000.0;
const PRESSURE_IO: f64 = 2_000.0;
/// Per millisecond that the storage takes; a healthy NVMe drive needs a tenth of one.
const DISK_LATENCY: f64 = 2_000.0;
/// One of the group more, or none of it, where the order would rather have it otherwise: half a node left empty.
const GROUP: u64 = 500_000;
/// Per doubling of an hour by which the order's end misses the node's: 0.06 of the natural logarithm, as measured on traces
/// (`nemordp simulate`).
const LIFETIME_PER_DOUBLING: u64 = 41_589;
/// Best fit decides among nodes that are equal otherwise: a fifth of what is left, as measured.
const REMAINDER_PART: u64 = 5;

/// What the score of a node is made of, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Terms {
    /// How much of what is free the expected plans could no longer use (fragmentation gradient), around two million.
    pub fragmentation: u64,
    /// What would be left of each amount: large holes are kept for large plans.
    pub remainder: u64,
    /// How unevenly the amounts would be used up.
    pub imbalance: u64,
    /// How much more the room would lie askew to the region's, where orders are small beside the node; around two million.
    #[serde(default)]
    pub proportion: u64,
    /// How far the order's end lies from the node's: orders that end together free whole nodes together. Nothing on nodes
    /// with GPUs.
    pub lifetime: u64,
    /// The template must be fetched first.
    pub template: u64,
    /// Clones that are being made there.
    pub clones: u64,
    /// Tasks there wait for processor, memory or storage.
    pub pressure: u64,
    /// Others of the group are there, or are not.
    pub group: u64,
}

impl Terms {
    /// The score.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.fragmentation
            .saturating_add(self.remainder)
            .saturating_add(self.imbalance)
            .saturating_add(self.proportion)
            .saturating_add(self.lifetime)
            .saturating_add(self.template)
            .saturating_add(self.clones)
            .saturating_add(self.pressure)
            .saturating_add(self.group)
    }

    /// Each term with its word.
    #[must_use]
    pub const fn parts(self) -> [(&'static str, u64); 9] {
        [
            ("fragmentation", self.fragmentation),
            ("remainder", self.remainder),
            ("imbalance", self.imbalance),
            ("proportion", self.proportion),
            ("lifetime", self.lifetime),
            ("template", self.template),
            ("clones", self.clones),
            ("pressure", self.pressure),
            ("group", self.group),
        ]
    }
}

pub(super) fn terms(
    request: &PlacementRequest,
    snapshot: &FleetSnapshot,
    proportion: &Proportion<'_>,
    (node, pool): (&NodeSnapshot, &PoolRoom),
) -> Terms {
    let left = [
        left(node.vcpu_room(), u64::from(request.vcpu.0)),
        left(node.memory_room(), request.memory.0),
        left(node.pool_room(pool), Bytes::from(request.disk).0),
    ];
    let (least, most) = (left.iter().min().copied().unwrap_or(0), left.iter().max().copied().unwrap_or(0));
    Terms {
        fragmentation: fragment::gradient(request, snapshot, node),
        remainder: left.iter().sum::<u64>() / REMAINDER_PART,
        imbalance: (most - least) / 10,
        proportion: proportion.gradient(request, node),
        // What must be kept together on a node with GPUs is a slot of a dear plan, not a whole node.
        lifetime: if node.gpus.is_empty() { lifetime(request.ends_at, node, snapshot.taken_at) } else { 0 },
        template: if node.templates.contains(&request.template) { 0 } else { TEMPLATE_ABSENT },
        clones: CLONE * u64::from(node.load.clones.min(100)) + CLONE_ON_POOL * u64::from(pool.clones.min(100)),
        pressure: pressure(node),
        group: group(request, node),
    }
}

/// What is left of the capacity after the request, in millionths.
fn left(room: Room, wanted: u64) -> u64 {
    share(room.free().saturating_sub(wanted), room.capacity)
}

/// A share in millionths; of nothing, nothing.
pub(super) fn share(part: u64, whole: u64) -> u64 {
    let share = (u128::from(part) * u128::from(MILLION)).checked_div(u128::from(whole)).unwrap_or(0);
    u64::try_from(share).unwrap_or(u64::MAX)
}

fn lifetime(ends_at: Option<Timestamp>, node: &NodeSnapshot, now: Timestamp) -> u64 {
    let Some(ends_at) = ends_at.map(|ends_at| ends_at.max(now)) else { return 0 };
    let busy_until = node.busy_until.unwrap_or(now).max(now);
    let seconds = ends_at.as_second().abs_diff(busy_until.as_second());
    // log2 of 1 + hours in 1/1024, straight between powers of two.
    let hours = 1_024 + seconds.saturating_mul(1_024) / 3_600;
    let whole = u64::from(hours.ilog2());
    let log2 = whole * 1_024 + (hours - (1 << whole)) * 1_024 / (1 << whole) - 10 * 1_024;
    log2 * LIFETIME_PER_DOUBLING / 1_024
}

fn pressure(node: &NodeSnapshot) -> u64 {
    let percent = |value: f64| if value.is_finite() { value.clamp(0.0, 100.0) } else { 0.0 };
    let waits = PRESSURE_CPU * (percent(node.load.cpu_pressure) + percent(node.strain.steal))
        + PRESSURE_MEMORY * percent(node.load.memory_pressure)
        + PRESSURE_IO * percent(node.load.io_pressure)
        + DISK_LATENCY * percent(node.strain.disk_latency_ms);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most a million, never negative")]
    let rounded = waits.round() as u64;
    rounded
}

fn group(request: &PlacementRequest, node: &NodeSnapshot) -> u64 {
    let Some(group) = request.group_key() else { return 0 };
    let there = u64::from(node.groups.get(&group).map_or(0, |members| members.count));
    match request.affinity {
        Affinity::Any | Affinity::Apart => 0,
        Affinity::PreferApart => GROUP * there.min(4),
        Affinity::PreferTogether => GROUP * u64::from(there == 0),
    }
}
