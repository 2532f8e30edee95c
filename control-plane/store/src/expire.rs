//! What has an end: found when it came, and removed when nobody can need it any more.

use std::time::Duration;

use jiff::Timestamp;
use nemordp_types::NodeId;

use crate::Store;
use crate::error::Result;
use crate::sql::{Query, Value, values};
use crate::transaction::Sql as _;

/// A node whose certificate ends soon, or has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndingCertificate {
    /// Whose.
    pub node_id: NodeId,
    /// When.
    pub not_after: Timestamp,
}

/// How many ports of public addresses are in which state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PortPool {
    /// Instances use them.
    pub held: u64,
    /// They rest, so that nobody meets another customer behind an old endpoint.
    pub resting: u64,
    /// They have rested long enough.
    pub rested: u64,
}

impl Store {
    fn before(&self, age: Duration) -> Timestamp {
        self.clock().now().checked_sub(age).unwrap_or(Timestamp::MIN)
    }

    async fn remove(&self, table: &'static str, sql: &'static str, values: Vec<Value>) -> Result<u64> {
        transaction!(self, |tx| tx.execute(Query::new(table, sql, values.clone())).await)
    }

    /// Nodes whose present certificate ends within this time; decommissioned ones need none.
    pub async fn certificate_ending(&self, within: Duration) -> Result<Vec<EndingCertificate>> {
        let until = self.clock().now().checked_add(within).unwrap_or(Timestamp::MAX);
        let sql = "SELECT n.id AS node_id, c.not_after FROM node n JOIN certificate c ON c.serial = n.certificate_serial \
                   WHERE n.policy <> 'decommissioned' AND c.not_after <= $1 ORDER BY c.not_after";
        let rows = self.reader().fetch(Query::new("certificate", sql, values![until])).await?;
        rows.iter()
            .map(|row| Ok(EndingCertificate { node_id: row.get("node_id")?, not_after: row.get("not_after")? }))
            .collect()
    }

    /// Forgets certificates that ended this long ago and that nothing refers to; gives their number.
    pub async fn certificate_purge(&self, age: Duration) -> Result<u64> {
        let sql = "DELETE FROM certificate WHERE not_after <= $1 \
                   AND NOT EXISTS (SELECT 1 FROM node n WHERE n.certificate_serial = certificate.serial) \
                   AND NOT EXISTS (SELECT 1 FROM ticket t WHERE t.certificate_serial = certificate.serial)";
        self.remove("certificate", sql, values![self.before(age)]).await
    }

    /// Forgets tickets that ended this long ago, used or not; gives their number.
    pub async fn ticket_purge(&self, age: Duration) -> Result<u64> {
        self.remove("ticket", "DELETE FROM ticket WHERE expires_at <= $1", values![self.before(age)]).await
    }

    /// Forgets credentials links that open nothing any more; gives their number. The password stays until it is shown by
    /// another link, replaced, or its instance is gone.
    pub async fn secret_link_purge(&self) -> Result<u64> {
        let sql = "UPDATE secret SET link_sha256 = NULL, link_expires_at = NULL WHERE link_expires_at <= $1";
        self.remove("secret", sql, values![self.clock().now()]).await
    }

    /// Forgets the steps and the state of sagas that ended this long ago, a bounded number at a time; gives their number.
    /// That they were, and how they ended, stays.
    pub async fn saga_details_purge(&self, age: Duration) -> Result<u64> {
        let before = self.before(age);
        transaction!(self, |tx| {
            let sql = "SELECT id FROM saga WHERE finished_at <= $1 \
                       AND EXISTS (SELECT 1 FROM saga_step s WHERE s.saga_id = saga.id) LIMIT 500";
            let rows = tx.fetch(Query::new("saga", sql, values![before])).await?;
            for row in &rows {
                let id: nemordp_types::SagaId = row.get("id")?;
                tx.execute(Query::new("saga_step", "DELETE FROM saga_step WHERE saga_id = $1", values![id])).await?;
                tx.execute(Query::new("saga", "UPDATE saga SET state = '{}' WHERE id = $1", values![id])).await?;
            }
            Ok(rows.len() as u64)
        })
    }

    /// Gives back ports and addresses that an instance still holds although it is over; gives their number.
    pub async fn number_reap(&self) -> Result<u64> {
        let sql = "UPDATE pool_claim SET instance_id = NULL, released_at = $1 WHERE instance_id IN \
                   (SELECT id FROM instance WHERE lifecycle IN ('deleted', 'failed'))";
        self.remove("pool_claim", sql, values![self.clock().now()]).await
    }

    /// How the ports stand that somebody has or had.
    pub async fn port_pool(&self, rest: Duration) -> Result<PortPool> {
        let sql = "SELECT CAST(COALESCE(SUM(CASE WHEN released_at IS NULL THEN 1 ELSE 0 END), 0) AS BIGINT) AS held, \
                   CAST(COALESCE(SUM(CASE WHEN released_at > $1 THEN 1 ELSE 0 END), 0) AS BIGINT) AS resting, \
                   CAST(COALESCE(SUM(CASE WHEN released_at <= $1 THEN 1 ELSE 0 END), 0) AS BIGINT) AS rested \
                   FROM pool_claim WHERE kind = 'port'";
        let row = self.reader().fetch_optional(Query::new("pool_claim", sql, values![self.before(rest)])).await?;
        let Some(row) = row else { return Ok(PortPool::default()) };
        Ok(PortPool { held: row.get("held")?, resting: row.get("resting")?, rested: row.get("rested")? })
    }
}
