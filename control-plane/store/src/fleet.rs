//! The fleet as placement sees it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use nemordp_model::{FleetSnapshot, GroupKey, HeldBack, NodeSnapshot, PlanShare, PoolRoom, Room, Strain};
use nemordp_types::node::{NodeInventory, NodeLoad};
use nemordp_types::{NodeId, RegionName};

use crate::Store;
use crate::error::Result;
use crate::group_member::{self, ByNode};
use crate::held_numbers::{self, Held, Numbers};
use crate::node::held_back;
use crate::node_gpu;
use crate::plan;
use crate::slot_reserve;
use crate::sql::{Query, Row, values};
use crate::transaction::Sql as _;

fn pool(row: &Row) -> Result<PoolRoom> {
    Ok(PoolRoom {
        storage_class: row.get("storage_class")?,
        room: Room { capacity: row.get("capacity_bytes")?, used: row.get("used_bytes")? },
        physical_free: row.get("free_bytes")?,
        clones: 0,
    })
}

/// The numbers that a node may give to instances.
fn numbers(inventory: &NodeInventory) -> Numbers {
    let ports = u32::from(inventory.endpoints.last_port) + 1;
    Numbers {
        ports: ports.saturating_sub(u32::from(inventory.endpoints.first_port)),
        // Neither network, gateway nor broadcast.
        addresses: (1u32 << (32 - u32::from(inventory.private_subnet.prefix.clamp(1, 32)))).saturating_sub(3),
    }
}

fn node(row: &Row, inventory: NodeInventory, pools: Vec<PoolRoom>, held: Held) -> Result<NodeSnapshot> {
    let load: NodeLoad = row.json_opt("load")?.unwrap_or_default();
    let Numbers { ports, addresses } = numbers(&inventory);
    Ok(NodeSnapshot {
        policy: row.get("policy")?,
        availability: row.get("availability")?,
        vcpu: Room { capacity: row.get("vcpu_capacity")?, used: row.get("vcpu_used")? },
        memory: Room { capacity: row.get("memory_capacity_mib")?, used: row.get("memory_used_mib")? },
        pools,
        free_ports: ports.saturating_sub(held.ports),
        free_addresses: addresses.saturating_sub(held.addresses),
        templates: inventory.templates.into_iter().collect(),
        strain: Strain {
            steal: load.steal.unwrap_or_default(),
            disk_latency_ms: load.disk_latency_ms.unwrap_or_default(),
        },
        load,
        labels: row.json("labels")?,
        pinned_to: row.get("pinned_to")?,
        held_back: HeldBack { maintenance: held_back(row)?, ..HeldBack::default() },
        busy_until: row.get("busy_until")?,
        ..NodeSnapshot::new(row.get("id")?, row.get("region")?)
    })
}

impl Store {
    /// The fleet, or one region of it, with the members of all groups. Several reads, so it may mix two instants: the
    /// reservation checks again.
    pub async fn fleet_snapshot(&self, region: Option<&RegionName>) -> Result<FleetSnapshot> {
        let held = held_numbers::count(self).await?;
        self.fleet_with(region, group_member::all(&mut self.reader()).await?, Some(held)).await
    }

    /// The same with the members of these groups alone: what orders that name no other ones need to know. Of ports and
    /// addresses it may say what was free a second ago, unless they are scarce.
    pub async fn fleet_snapshot_for(
        &self,
        region: Option<&RegionName>,
        groups: &BTreeSet<GroupKey>,
    ) -> Result<FleetSnapshot> {
        self.fleet_with(region, group_member::of(&mut self.reader(), groups).await?, None).await
    }

    async fn fleet_with(
        &self,
        region: Option<&RegionName>,
        mut members: ByNode,
        held: Option<BTreeMap<NodeId, Held>>,
    ) -> Result<FleetSnapshot> {
        let taken_at = self.clock().now();
        let mut pools: BTreeMap<NodeId, Vec<PoolRoom>> = BTreeMap::new();
        let sql = "SELECT node_id, storage_class, capacity_bytes, used_bytes, free_bytes FROM node_pool \
                   ORDER BY node_id, storage_class";
        for row in self.reader().fetch(Query::new("node_pool", sql, vec![])).await? {
            pools.entry(row.get("node_id")?).or_default().push(pool(&row)?);
        }
        let mut gpus = node_gpu::all(&mut self.reader()).await?;
        let sql = "SELECT id, region, policy, availability, vcpu_capacity, vcpu_used, memory_capacity_mib, \
                   memory_used_mib, inventory, load, labels, pinned_to, held_vcpu, held_memory_mib, held_disk_bytes, \
                   (SELECT MAX(i.paid_until) FROM instance i WHERE i.node_id = node.id AND i.paid_until IS NOT NULL \
                   AND i.lifecycle IN ('provisioning', 'active', 'deleting')) AS busy_until FROM node \
                   WHERE policy <> 'decommissioned' AND ($1 IS NULL OR region = $1) ORDER BY id";
        let rows = self.reader().fetch(Query::new("node", sql, values![region])).await?;
        let inventories = rows.iter().map(|row| Ok((row.get("id")?, row.json("inventory")?)));
        let inventories: Vec<(NodeId, NodeInventory)> = inventories.collect::<Result<_>>()?;
        let held = match held {
            Some(counted) => counted,
            None => {
                let nodes: Vec<_> = inventories.iter().map(|(id, inventory)| (*id, numbers(inventory))).collect();
                held_numbers::about(self, &nodes).await?
            }
        };
        let nodes = rows.iter().zip(inventories).map(|(row, (id, inventory))| -> Result<NodeSnapshot> {
            let held = held.get(&id).copied().unwrap_or_default();
            let found = node(row, inventory, pools.remove(&id).unwrap_or_default(), held)?;
            let (groups, gpus) = (members.remove(&id).unwrap_or_default(), gpus.remove(&id).unwrap_or_default());
            Ok(NodeSnapshot { groups, gpus, ..found })
        });
        let snapshot = FleetSnapshot::new(taken_at, nodes.collect::<Result<_>>()?);
        Ok(FleetSnapshot { reserves: slot_reserve::binding(&mut self.reader(), region).await?, ..snapshot })
    }

    /// What was ordered since then, by plan on sale: what is expected to be ordered. Plans that nobody ordered are left
    /// out.
    pub async fn plan_mix(&self, since: Timestamp) -> Result<Vec<PlanShare>> {
        let sql = "SELECT p.name, p.vcpu, p.memory_mib, p.disk_gib, p.storage_class, p.gpu_count, p.gpu_model, \
                   COUNT(*) AS orders FROM plan p \
                   JOIN customer_order o ON o.plan = p.name WHERE p.on_sale = 1 AND o.created_at >= $1 \
                   GROUP BY p.name, p.vcpu, p.memory_mib, p.disk_gib, p.storage_class, p.gpu_count, p.gpu_model \
                   ORDER BY p.name";
        let rows = self.reader().fetch(Query::new("plan", sql, values![since])).await?;
        let share = |row: &Row| -> Result<PlanShare> {
            let demand = plan::demand(row)?;
            Ok(PlanShare { plan: row.get("name")?, demand, orders: row.get("orders")? })
        };
        rows.iter().map(share).collect()
    }
}
