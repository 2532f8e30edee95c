//! The store's part of the money-leak check: all of it at one instant.

use nemordp_model::audit::{Facts, HeldCapacity, HeldNumber};
use nemordp_types::InstanceId;

use crate::Store;
use crate::error::Result;
use crate::instance;
use crate::node;
use crate::node_gpu;
use crate::order;
use crate::saga;
use crate::sql::{Query, Row, values};
use crate::transaction::{Sql as _, Tx};

/// Orders that are not over, those whose instance is not, and those that were paid and got none.
macro_rules! of_interest {
    () => {
        "(o.state IN ('accepted', 'provisioning', 'cancelling') \
         OR EXISTS (SELECT 1 FROM instance i WHERE i.id = o.instance_id \
         AND i.lifecycle IN ('provisioning', 'active', 'deleting')) \
         OR (o.state = 'active' AND NOT EXISTS (SELECT 1 FROM instance i WHERE i.id = o.instance_id \
         AND i.lifecycle <> 'failed')))"
    };
}
pub(crate) use of_interest;

/// Orders and instances whose present state no event tells.
const UNTOLD: &str = concat!(
    "SELECT o.id AS order_id, o.instance_id FROM customer_order o WHERE ",
    of_interest!(),
    " AND NOT EXISTS (SELECT 1 FROM event e WHERE e.order_id = o.id AND e.kind = 'order.' || o.state) \
     UNION SELECT i.order_id, i.id FROM instance i WHERE i.lifecycle IN ('provisioning', 'active', 'deleting') \
     AND NOT EXISTS (SELECT 1 FROM event e WHERE e.order_id = i.order_id AND e.instance_id = i.id \
     AND e.kind = CASE i.lifecycle WHEN 'provisioning' THEN 'instance.created' ELSE 'instance.' || i.lifecycle END)"
);

fn capacity(row: &Row) -> Result<HeldCapacity> {
    Ok(HeldCapacity {
        instance_id: row.get("instance_id")?,
        node_id: row.get("node_id")?,
        vcpu: row.get("vcpu")?,
        memory: row.get("memory_mib")?,
        storage_class: row.get("storage_class")?,
        disk: row.get("disk_bytes")?,
        gpus: node_gpu::held(row)?,
    })
}

fn number(row: &Row) -> Result<HeldNumber> {
    Ok(HeldNumber {
        kind: row.get("kind")?,
        scope: row.get("scope")?,
        number: row.get("number")?,
        instance_id: row.get("instance_id")?,
    })
}

/// Nodes, and the instances and sagas that their words are compared with.
async fn places(tx: &mut Tx, reported: &[InstanceId], facts: &mut Facts) -> Result<()> {
    facts.nodes = node::present(tx).await?;
    facts.instances = instance::live(tx).await?;
    let known: std::collections::BTreeSet<_> = facts.instances.iter().map(|instance| instance.id).collect();
    for id in reported.iter().filter(|id| !known.contains(id)) {
        facts.instances.extend(instance::fetch_any(tx, *id).await?);
    }
    facts.sagas = saga::unfinished(tx).await?;
    Ok(())
}

async fn ledger(tx: &mut Tx, facts: &mut Facts) -> Result<()> {
    facts.orders = order::of_interest(tx).await?;
    let known: std::collections::BTreeSet<_> = facts.instances.iter().map(|instance| instance.id).collect();
    for order in facts.orders.iter().filter(|order| !known.contains(&order.instance_id)) {
        facts.instances.extend(instance::fetch_any(tx, order.instance_id).await?);
    }
    let sql = "SELECT instance_id, node_id, vcpu, memory_mib, storage_class, disk_bytes, gpu_count, \
               gpu_model FROM reservation \
               WHERE released_at IS NULL";
    let rows = tx.fetch(Query::new("reservation", sql, vec![])).await?;
    facts.capacity = rows.iter().map(capacity).collect::<Result<_>>()?;
    let sql = "SELECT kind, scope, number, instance_id FROM pool_claim WHERE instance_id IS NOT NULL";
    let rows = tx.fetch(Query::new("pool_claim", sql, vec![])).await?;
    facts.numbers = rows.iter().map(number).collect::<Result<_>>()?;
    let rows = tx.fetch(Query::new("secret", "SELECT instance_id FROM secret", vec![])).await?;
    facts.secrets = rows.iter().map(|row| row.get("instance_id")).collect::<Result<_>>()?;
    let rows = tx.fetch(Query::new("event", UNTOLD, values![])).await?;
    let untold = rows.iter().map(|row| Ok((row.get("order_id")?, row.get("instance_id")?)));
    facts.untold = untold.collect::<Result<_>>()?;
    Ok(())
}

impl Store {
    /// Everything that is compared, of one instant; `reported` are the instances that nodes have. The nodes' words are the
    /// caller's to add.
    pub async fn audit_facts(&self, reported: &[InstanceId]) -> Result<Facts> {
        let (mut tx, mut facts) = (self.snapshot().await?, Facts::default());
        let outcome = async {
            places(&mut tx, reported, &mut facts).await?;
            ledger(&mut tx, &mut facts).await
        }
        .await;
        tx.rollback().await?;
        outcome.map(|()| facts)
    }

    /// Only what the nodes' words are compared with.
    pub async fn drift_facts(&self, reported: &[InstanceId]) -> Result<Facts> {
        let (mut tx, mut facts) = (self.snapshot().await?, Facts::default());
        let outcome = places(&mut tx, reported, &mut facts).await;
        tx.rollback().await?;
        outcome.map(|()| facts)
    }
}
