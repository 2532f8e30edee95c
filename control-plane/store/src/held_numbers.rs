//! How many ports and private addresses each node has given away, for placement.
//!
//! To count them costs as much as there are instances, and placement asks with every burst of orders. What was counted a
//! moment ago serves as long as a node has numbers enough: whether one is free is looked up when it is claimed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nemordp_types::NodeId;

use crate::Store;
use crate::error::Result;
use crate::rows::{Kind, Rows};
use crate::sql::{Query, Row, values};
use crate::transaction::Sql as _;

/// How long a count serves.
const SERVES: Duration = Duration::from_secs(1);
/// A node that has fewer left than this, or than one in [`SCARCE_PART`] of what it had, is counted anew.
const SCARCE: u32 = 64;
/// See [`SCARCE`].
const SCARCE_PART: u32 = 4;

/// What a node has given away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) ports: u32,
    pub(crate) addresses: u32,
}

/// What was counted last, and when.
#[derive(Debug, Default)]
pub(crate) struct HeldNumbers(Mutex<Option<(Instant, BTreeMap<NodeId, Held>)>>);

/// How many a node may give away.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Numbers {
    pub(crate) ports: u32,
    pub(crate) addresses: u32,
}

impl Numbers {
    /// Whether so few are left that a count of a moment ago will not do.
    fn are_scarce(self, held: Held) -> bool {
        let scarce = |all: u32, held: u32| all.saturating_sub(held) < SCARCE.max(all / SCARCE_PART);
        scarce(self.ports, held.ports) || scarce(self.addresses, held.addresses)
    }
}

impl HeldNumbers {
    fn known(&self) -> Option<BTreeMap<NodeId, Held>> {
        let counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.as_ref().filter(|(at, _)| at.elapsed() < SERVES).map(|(_, held)| held.clone())
    }

    fn keep(&self, at: Instant, held: BTreeMap<NodeId, Held>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, held));
    }
}

fn gather(rows: &[Row]) -> Result<BTreeMap<NodeId, Held>> {
    let mut all: BTreeMap<NodeId, Held> = BTreeMap::new();
    for row in rows {
        let (kind, count): (String, u32) = (row.get("kind")?, row.get("held")?);
        let held = all.entry(row.get("node_id")?).or_default();
        if kind == "port" { held.ports = count } else { held.addresses = count }
    }
    Ok(all)
}

/// Counts what all nodes have given away.
pub(crate) async fn count(store: &Store) -> Result<BTreeMap<NodeId, Held>> {
    let at = Instant::now();
    let sql = "SELECT node_id, kind, COUNT(*) AS held FROM pool_claim WHERE released_at IS NULL GROUP BY node_id, kind";
    let held = gather(&store.reader().fetch(Query::new("pool_claim", sql, vec![])).await?)?;
    store.held_numbers().keep(at, held.clone());
    Ok(held)
}

/// What these nodes have given away: as it was counted a moment ago, or anew where numbers are scarce.
pub(crate) async fn about(store: &Store, nodes: &[(NodeId, Numbers)]) -> Result<BTreeMap<NodeId, Held>> {
    let Some(mut held) = store.held_numbers().known() else { return count(store).await };
    let mut scarce = Rows::new(&[("of_node", Kind::Blob)]);
    for (id, numbers) in nodes {
        if numbers.are_scarce(held.get(id).copied().unwrap_or_default()) {
            scarce.push(values![*id]);
            held.remove(id);
        }
    }
    if !scarce.is_empty() {
        let sql = "SELECT node_id, kind, COUNT(*) AS held FROM pool_claim WHERE released_at IS NULL \
                   AND node_id IN (SELECT of_node FROM {rows} AS r) GROUP BY node_id, kind";
        held.extend(gather(&store.reader().fetch(Query::over("pool_claim", sql, vec![], scarce)).await?)?);
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_scarce_before_they_run_out() {
        let subnet = Numbers { ports: 40_000, addresses: 253 };
        let with = |addresses| subnet.are_scarce(Held { ports: addresses, addresses });
        assert!(!with(0) && !with(189));
        assert!(with(190) && with(253) && with(300));
        let few = Numbers { ports: 10, addresses: 253 };
        assert!(few.are_scarce(Held::default()));
    }
}
