//! Which node has how many of a placement group.
//!
//! An instance is a member as long as it is not over. Whoever puts one on a node has taken the node's row before it looks
//! here, so nobody else puts one there meanwhile; that two stand apart is an index of the database as well.

use std::collections::{BTreeMap, BTreeSet};

use nemordp_model::{GroupKey, Members};
use nemordp_types::NodeId;

use crate::error::Result;
use crate::rows::{Kind, Rows};
use crate::sql::{Query, Row, values};
use crate::transaction::Sql;

/// Members by node and group.
pub(crate) type ByNode = BTreeMap<NodeId, BTreeMap<GroupKey, Members>>;

fn gather(rows: &[Row]) -> Result<ByNode> {
    let mut found = ByNode::new();
    for row in rows {
        let key = GroupKey { tenant: row.get("tenant_id")?, name: row.get("placement_group")? };
        let members = Members { count: row.get("members")?, apart: row.get::<u32>("standing_apart")? > 0 };
        found.entry(row.get("node_id")?).or_default().insert(key, members);
    }
    Ok(found)
}

/// The members of these groups; of none without asking.
pub(crate) async fn of(sql: &mut impl Sql, groups: &BTreeSet<GroupKey>) -> Result<ByNode> {
    if groups.is_empty() {
        return Ok(ByNode::new());
    }
    let mut rows = Rows::new(&[("owner", Kind::Blob), ("name", Kind::Text)]);
    groups.iter().for_each(|key| rows.push(values![key.tenant, &key.name]));
    let text = "SELECT i.node_id, i.tenant_id, i.placement_group, COUNT(*) AS members, \
                COUNT(CASE WHEN i.affinity = 'apart' THEN 1 END) AS standing_apart FROM {rows} AS r \
                JOIN instance i ON i.tenant_id = r.owner AND i.placement_group = r.name \
                WHERE i.placement_group IS NOT NULL AND i.lifecycle IN ('provisioning', 'active', 'deleting') \
                GROUP BY i.node_id, i.tenant_id, i.placement_group";
    gather(&sql.fetch(Query::over("instance", text, vec![], rows)).await?)
}

/// The members of all groups.
pub(crate) async fn all(sql: &mut impl Sql) -> Result<ByNode> {
    let text = "SELECT node_id, tenant_id, placement_group, COUNT(*) AS members, \
                COUNT(CASE WHEN affinity = 'apart' THEN 1 END) AS standing_apart FROM instance \
                WHERE placement_group IS NOT NULL AND lifecycle IN ('provisioning', 'active', 'deleting') \
                GROUP BY node_id, tenant_id, placement_group";
    gather(&sql.fetch(Query::new("instance", text, vec![])).await?)
}
