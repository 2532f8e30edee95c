//! What instances used, as their nodes counted it. An entry is written once, however often it is reported.

use jiff::Timestamp;
use nemordp_model::Instance;
use nemordp_types::usage::{UsageEntry, UsageReceipt};
use nemordp_types::{InstanceId, NodeId};

use crate::Store;
use crate::error::Result;
use crate::instance;
use crate::page::TenantScope;
use crate::sql::{Query, values};
use crate::transaction::{Sql as _, Tx};

/// What an instance used over all its nodes and starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UsageTotal {
    /// Received by the guest, bytes.
    pub received_bytes: u64,
    /// Sent by the guest, bytes.
    pub sent_bytes: u64,
    /// How long it ran, milliseconds.
    pub running_ms: u64,
    /// Until when this is known; none before the first report.
    pub until: Option<Timestamp>,
}

/// Writes what a node reports; gives a receipt for what is written, now or before. What an instance used that nobody knows
/// stays with the node, without a receipt: the store may have been restored and learn of it again.
pub(crate) async fn report_in_tx(tx: &mut Tx, node: NodeId, entries: &[UsageEntry]) -> Result<Vec<UsageReceipt>> {
    let mut receipts: Vec<UsageReceipt> = Vec::new();
    let mut unknown: Vec<InstanceId> = Vec::new();
    for entry in entries {
        if unknown.contains(&entry.instance_id) {
            continue;
        }
        let known: Option<Instance> = instance::fetch_any(tx, entry.instance_id).await?;
        if known.is_none() {
            unknown.push(entry.instance_id);
            continue;
        }
        let sql = "INSERT INTO usage (instance_id, meter_id, sequence, node_id, from_at, until_at, received_bytes, \
                   sent_bytes, running_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
        let values = values![
            entry.instance_id,
            entry.meter_id,
            entry.sequence,
            node,
            entry.from,
            entry.until,
            entry.received_bytes,
            entry.sent_bytes,
            entry.running_ms,
        ];
        tx.execute(Query::new("usage", sql, values)).await?;
        let same = |receipt: &&mut UsageReceipt| {
            receipt.instance_id == entry.instance_id && receipt.meter_id == entry.meter_id
        };
        match receipts.iter_mut().find(same) {
            Some(receipt) => receipt.sequence = receipt.sequence.max(entry.sequence),
            None => receipts.push(UsageReceipt {
                instance_id: entry.instance_id,
                meter_id: entry.meter_id,
                sequence: entry.sequence,
            }),
        }
    }
    Ok(receipts)
}

impl Store {
    /// Takes a node's report; see [`UsageReceipt`].
    pub async fn usage_report(&self, node: NodeId, entries: &[UsageEntry]) -> Result<Vec<UsageReceipt>> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        transaction!(self, |tx| report_in_tx(tx, node, entries).await)
    }

    /// What an instance has used so far.
    pub async fn usage_total(&self, scope: TenantScope, id: InstanceId) -> Result<UsageTotal> {
        self.instance_fetch(scope, id).await?;
        let sql = "SELECT CAST(COALESCE(SUM(received_bytes), 0) AS BIGINT) AS received_bytes, \
                   CAST(COALESCE(SUM(sent_bytes), 0) AS BIGINT) AS sent_bytes, \
                   CAST(COALESCE(SUM(running_ms), 0) AS BIGINT) AS running_ms, MAX(until_at) AS until_at \
                   FROM usage WHERE instance_id = $1";
        let row = self.reader().fetch_optional(Query::new("usage", sql, values![id])).await?;
        let Some(row) = row else { return Ok(UsageTotal::default()) };
        Ok(UsageTotal {
            received_bytes: row.get("received_bytes")?,
            sent_bytes: row.get("sent_bytes")?,
            running_ms: row.get("running_ms")?,
            until: row.get("until_at")?,
        })
    }
}
