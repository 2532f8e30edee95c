//! Why an order went where it went: every node with its terms or its refusal.

use std::collections::BTreeMap;

use nemordp_types::NodeId;
use serde::{Deserialize, Serialize};

use super::refusal::{Refusal, Refusals};
use super::score::Terms;
use super::snapshot::SnapshotDigest;
use super::{FleetSnapshot, PlacementRequest, Surroundings, verdict};

/// How many of the best nodes are kept with an order.
pub const BEST_MAX: usize = 10;

/// What is to be said of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It would take the request; the lowest total wins.
    Scored(Terms),
    /// It does not take it.
    Refused(Refusal),
}

/// One node's verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Which node.
    pub node: NodeId,
    /// What is to be said of it.
    pub verdict: Verdict,
}

/// A decision with all its reasons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Explained {
    /// The snapshot that it was made on.
    pub snapshot: SnapshotDigest,
    /// Where the instance goes; the same as [`place`](super::place) says.
    pub choice: Option<NodeId>,
    /// Every node: the candidates from the best to the worst, then those that refused, by id.
    pub nodes: Vec<Explanation>,
}

impl Explained {
    /// The best nodes with their terms, at most [`BEST_MAX`].
    pub fn best(&self) -> impl Iterator<Item = (NodeId, Terms)> + '_ {
        self.nodes.iter().take(BEST_MAX).filter_map(|explanation| match explanation.verdict {
            Verdict::Scored(terms) => Some((explanation.node, terms)),
            Verdict::Refused(_) => None,
        })
    }

    /// Each node that refused.
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        let mut refusals = Refusals::default();
        for explanation in &self.nodes {
            if let Verdict::Refused(refusal) = explanation.verdict {
                refusals.push(explanation.node, refusal);
            }
        }
        refusals
    }

    /// How often each refusal occurred.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Refusal, usize> {
        self.refusals().counts()
    }
}

/// Decides like [`place`](super::place), and keeps the reasons.
#[must_use]
pub fn explain(request: &PlacementRequest, snapshot: &FleetSnapshot) -> Explained {
    let around = Surroundings::of(request, snapshot);
    let mut nodes: Vec<Explanation> = snapshot
        .nodes
        .iter()
        .map(|node| Explanation { node: node.id, verdict: verdict(request, snapshot, &around, node) })
        .collect();
    nodes.sort_by_key(|explanation| {
        let rank = match explanation.verdict {
            Verdict::Scored(terms) => (0, terms.total()),
            Verdict::Refused(_) => (1, 0),
        };
        (rank, explanation.node)
    });
    let choice = nodes.first().and_then(|first| match first.verdict {
        Verdict::Scored(_) => Some(first.node),
        Verdict::Refused(_) => None,
    });
    Explained { snapshot: snapshot.digest(), choice, nodes }
}
