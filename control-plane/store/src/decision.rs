//! Why an order went where it went, as it is kept with the order.

use std::collections::BTreeMap;

use nemordp_model::{Explained, Refusal, Terms};
use nemordp_types::{NodeId, OrderId};
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::codec;
use crate::error::Result;
use crate::page::TenantScope;
use crate::sql::{Query, values};
use crate::transaction::{Sql as _, Tx};

/// A node that would have taken the order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contender {
    /// Which.
    pub node_id: NodeId,
    /// What its score is made of.
    pub terms: Terms,
}

/// The decision on an order: enough to answer who asks why, and to check a recomputation. All else follows from the
/// snapshot that the digest names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// SHA-256 over the snapshot that it was made on, in hex.
    pub snapshot: String,
    /// The best nodes, the best first; at most [`nemordp_model::placement::BEST_MAX`].
    pub best: Vec<Contender>,
    /// How many nodes refused, by reason.
    pub refusals: BTreeMap<Refusal, usize>,
    /// The node that was reserved. It is not the best one when that was taken between snapshot and reservation.
    pub reserved: Option<NodeId>,
}

impl Decision {
    /// What is kept of an explanation.
    #[must_use]
    pub fn of(explained: &Explained) -> Self {
        Self {
            snapshot: explained.snapshot.to_string(),
            best: explained.best().map(|(node_id, terms)| Contender { node_id, terms }).collect(),
            refusals: explained.counts(),
            reserved: None,
        }
    }

    /// The same, with what became of it.
    pub(crate) fn reserved_on(&self, node_id: NodeId) -> Self {
        Self { reserved: Some(node_id), ..self.clone() }
    }
}

/// Puts a newer decision in the place of the one that was kept with an order.
pub(crate) async fn keep_in_tx(tx: &mut Tx, id: OrderId, decision: &Decision) -> Result<()> {
    let sql = "UPDATE customer_order SET placement = $2 WHERE id = $1";
    let query = Query::new("customer_order", sql, values![id, codec::json(decision)?]);
    tx.execute_one(query, crate::order::MISSING).await
}

impl Store {
    /// The decision that was kept with an order; none with orders from before decisions were kept.
    pub async fn order_decision(&self, scope: TenantScope, id: OrderId) -> Result<Option<Decision>> {
        let sql = "SELECT placement FROM customer_order WHERE id = $1 AND ($2 IS NULL OR tenant_id = $2)";
        let row = self.reader().fetch_optional(Query::new("customer_order", sql, values![id, scope])).await?;
        row.ok_or(crate::order::MISSING)?.json_opt("placement")
    }
}
