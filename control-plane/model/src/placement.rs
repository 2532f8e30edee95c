//! Where an instance goes: filters with a closed list of refusals, then the best fit.
//!
//! A pure function over a snapshot. The reservation's transaction checks the room again; who loses that race takes a new
//! snapshot and places again.

mod refusal;
mod score;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use jiff::Timestamp;
use nemordp_types::node::{NodeAvailability, NodeLoad, NodePolicy};
use nemordp_types::{Bytes, GiB, MiB, NodeId, RegionName, StorageClass, TemplateDigest, Vcpu};
use serde::{Deserialize, Serialize};

pub use refusal::{Refusal, Refusals};

/// What is to be placed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacementRequest {
    /// Where.
    pub region: RegionName,
    /// Processors.
    pub vcpu: Vcpu,
    /// Memory.
    pub memory: MiB,
    /// Size of the disk.
    pub disk: GiB,
    /// On what the disk lies.
    pub storage_class: StorageClass,
    /// What it is cloned from.
    pub template: TemplateDigest,
    /// Length of the template's file, which a node without it must fetch first.
    pub template_size: Bytes,
    /// Nodes that were tried already.
    pub exclude: BTreeSet<NodeId>,
}

/// What may be sold of something, and what is reserved of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Room {
    /// What may be sold, overcommit included.
    pub capacity: u64,
    /// What is reserved.
    pub used: u64,
}

impl Room {
    /// What is left; nothing when more is reserved than may be sold.
    #[must_use]
    pub const fn free(self) -> u64 {
        self.capacity.saturating_sub(self.used)
    }
}

/// A storage pool in a snapshot; amounts in bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolRoom {
    /// What kind of storage.
    pub storage_class: StorageClass,
    /// What may be sold and what is reserved.
    pub room: Room,
    /// What the file system said was free.
    pub physical_free: Bytes,
}

/// A node in a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeSnapshot {
    /// Which.
    pub id: NodeId,
    /// Where.
    pub region: RegionName,
    /// What the operator wants of it.
    pub policy: NodePolicy,
    /// What is known of its life.
    pub availability: NodeAvailability,
    /// Processors.
    pub vcpu: Room,
    /// Memory in MiB.
    pub memory: Room,
    /// Storage.
    pub pools: Vec<PoolRoom>,
    /// Ports that nobody holds.
    pub free_ports: u32,
    /// Private addresses that nobody holds.
    pub free_addresses: u32,
    /// Templates that lie ready there.
    pub templates: BTreeSet<TemplateDigest>,
    /// How loaded it is.
    pub load: NodeLoad,
}

/// The fleet at one instant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetSnapshot {
    /// When it was read.
    pub taken_at: Timestamp,
    /// The nodes.
    pub nodes: Vec<NodeSnapshot>,
}

/// The choice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Where the instance goes.
    pub node_id: NodeId,
    /// How bad the fit is, in millionths; the lowest wins.
    pub score: u64,
    /// Why the others were refused.
    pub refusals: Refusals,
}

/// Chooses the node on which the request leaves the least behind, or says of each node why not.
pub fn place(request: &PlacementRequest, snapshot: &FleetSnapshot) -> Result<Placement, Refusals> {
    let mut refusals = Refusals::default();
    let mut best: Option<(u64, NodeId)> = None;
    for node in &snapshot.nodes {
        match refusal::check(request, node) {
            Ok(pool) => {
                let candidate = (score::score(request, node, pool), node.id);
                best = Some(best.map_or(candidate, |best| best.min(candidate)));
            }
            Err(refusal) => refusals.push(node.id, refusal),
        }
    }
    match best {
        Some((score, node_id)) => Ok(Placement { node_id, score, refusals }),
        None => Err(refusals),
    }
}
