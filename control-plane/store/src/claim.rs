//! Claiming one number of a pool: a port of a public address, a private address of a node.
//!
//! A number that nobody ever had goes first; then the one that has rested longest. So a released port rests as long as the
//! pool allows, and whoever still tries the old endpoint does not meet another customer. A port that something else on the
//! node uses counts as released in a time to come, and can be had by nobody before that. [`many`] claims for a burst.

pub(crate) mod many;

use std::net::Ipv4Addr;
use std::time::Duration;

use nemordp_types::instance::NetworkSpec;
use nemordp_types::node::NodeInventory;
use nemordp_types::{Endpoint, InstanceId, MacAddr, NodeId};

use crate::error::{Result, StoreError};
use crate::sql::{Query, values};
use crate::transaction::{Sql as _, Tx};

/// How long a port should rest before another customer gets it.
const PORT_REST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How long a private address should rest: its MAC comes with it, so a DHCP server knows the card.
const ADDRESS_REST: Duration = Duration::from_secs(60 * 60);

/// How long a port is kept from sale after its node last said that something else uses it.
const TAKEN: Duration = Duration::from_secs(60 * 60);

/// Numbers that are claimed one by one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Pool {
    kind: &'static str,
    scope: String,
    first: u32,
    last: u32,
    rest: Duration,
}

impl Pool {
    /// The ports of a node's public address.
    fn ports(inventory: &NodeInventory) -> Self {
        let endpoints = inventory.endpoints;
        let (first, last) = (u32::from(endpoints.first_port), u32::from(endpoints.last_port));
        Self { kind: "port", scope: endpoints.address.to_string(), first, last, rest: PORT_REST }
    }

    /// The private addresses of a node.
    fn addresses(node_id: NodeId, inventory: &NodeInventory) -> Self {
        let subnet = inventory.private_subnet;
        let first = u32::from(subnet.gateway()).saturating_add(1);
        let last = (u32::from(subnet.network) | u32::MAX.checked_shr(u32::from(subnet.prefix)).unwrap_or(0)) - 1;
        Self { kind: "address", scope: node_id.to_string(), first, last, rest: ADDRESS_REST }
    }

    /// Why nothing can be had of it.
    fn exhausted(&self) -> StoreError {
        if self.kind == "port" { StoreError::PortPoolExhausted } else { StoreError::AddressPoolExhausted }
    }
}

/// What was claimed for an instance.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) spec: NetworkSpec,
    /// The port had to be given away before it had rested.
    pub(crate) rest_shortened: bool,
}

impl Network {
    fn of(inventory: &NodeInventory, port: u32, address: u32, rest_shortened: bool) -> Result<Self> {
        let port = u16::try_from(port).map_err(|_| StoreError::PortPoolExhausted)?;
        let private_ipv4 = Ipv4Addr::from(address);
        let endpoint = Endpoint { address: inventory.endpoints.address, port };
        let mac = MacAddr::of_private_ipv4(private_ipv4);
        Ok(Self { spec: NetworkSpec { mac, private_ipv4, endpoint }, rest_shortened })
    }
}

enum Candidate {
    Fresh(u32),
    Rested(u32),
    Tired(u32),
}

/// Claims port and private address on a node, whose row the transaction has locked.
pub(crate) async fn network_in_tx(
    tx: &mut Tx,
    node_id: NodeId,
    instance_id: InstanceId,
    inventory: &NodeInventory,
) -> Result<Network> {
    let (ports, addresses) = (Pool::ports(inventory), Pool::addresses(node_id, inventory));
    let (port, rest_shortened) = claim(tx, &ports, node_id, instance_id).await?.ok_or_else(|| ports.exhausted())?;
    let (address, _) = claim(tx, &addresses, node_id, instance_id).await?.ok_or_else(|| addresses.exhausted())?;
    Network::of(inventory, port, address, rest_shortened)
}

/// Keeps ports from sale that something else on their node uses, as long as the node says so. One that an instance has
/// stays its own.
pub(crate) async fn keep_from_sale_in_tx(
    tx: &mut Tx,
    node_id: NodeId,
    inventory: &NodeInventory,
    taken: &[u16],
) -> Result<()> {
    let (pool, now) = (Pool::ports(inventory), tx.now);
    let until = now.checked_add(TAKEN).unwrap_or(now);
    let renewed = now.checked_add(TAKEN / 2).unwrap_or(now);
    for port in taken.iter().copied().map(u32::from).filter(|port| (pool.first..=pool.last).contains(port)) {
        let sql = "INSERT INTO pool_claim (kind, scope, number, node_id, instance_id, claimed_at, released_at) \
                   VALUES ($1, $2, $3, $4, NULL, $5, $6) ON CONFLICT (kind, scope, number) DO UPDATE \
                   SET released_at = excluded.released_at \
                   WHERE pool_claim.instance_id IS NULL AND pool_claim.released_at < $7";
        let values = values![pool.kind, pool.scope.as_str(), port, node_id, now, until, renewed];
        tx.execute(Query::new("pool_claim", sql, values)).await?;
    }
    Ok(())
}

/// Gives back what an instance holds; it rests from now on. Safe to repeat.
pub(crate) async fn release_in_tx(tx: &mut Tx, instance_id: InstanceId) -> Result<()> {
    let now = tx.now;
    let sql = "UPDATE pool_claim SET instance_id = NULL, released_at = $2 WHERE instance_id = $1";
    tx.execute(Query::new("pool_claim", sql, values![instance_id, now])).await.map(|_| ())
}

async fn claim(tx: &mut Tx, pool: &Pool, node_id: NodeId, instance_id: InstanceId) -> Result<Option<(u32, bool)>> {
    let Some(candidate) = candidate(tx, pool).await? else { return Ok(None) };
    let now = tx.now;
    let (kind, scope) = (pool.kind, pool.scope.as_str());
    // Whoever was faster with this number made the transaction outdated: it runs again.
    let raced = || StoreError::Busy("a number of a pool was claimed meanwhile".to_owned());
    match candidate {
        Candidate::Fresh(number) => {
            let sql = "INSERT INTO pool_claim (kind, scope, number, node_id, instance_id, claimed_at) \
                       VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
            let values = values![kind, scope, number, node_id, instance_id, now];
            tx.execute_one(Query::new("pool_claim", sql, values), raced()).await?;
            Ok(Some((number, false)))
        }
        Candidate::Rested(number) | Candidate::Tired(number) => {
            let sql = "UPDATE pool_claim SET node_id = $4, instance_id = $5, claimed_at = $6, released_at = NULL \
                       WHERE kind = $1 AND scope = $2 AND number = $3 AND released_at IS NOT NULL";
            let values = values![kind, scope, number, node_id, instance_id, now];
            tx.execute_one(Query::new("pool_claim", sql, values), raced()).await?;
            Ok(Some((number, matches!(candidate, Candidate::Tired(_)))))
        }
    }
}

async fn candidate(tx: &mut Tx, pool: &Pool) -> Result<Option<Candidate>> {
    let (kind, scope) = (pool.kind, pool.scope.as_str());
    let Pool { first, last, rest, .. } = *pool;
    let sql = "SELECT (SELECT MAX(number) FROM pool_claim WHERE kind = $1 AND scope = $2 AND number BETWEEN $3 AND $4) \
               AS highest, \
               (SELECT MIN(number) FROM pool_claim WHERE kind = $1 AND scope = $2 AND number BETWEEN $3 AND $4) AS lowest";
    let row = tx.fetch_optional(Query::new("pool_claim", sql, values![kind, scope, first, last])).await?;
    let Some(row) = row else { return Ok(None) };
    match (row.get::<Option<u32>>("highest")?, row.get::<Option<u32>>("lowest")?) {
        (Some(highest), _) if highest < last => return Ok(Some(Candidate::Fresh(highest + 1))),
        (_, Some(lowest)) if lowest > first => return Ok(Some(Candidate::Fresh(lowest - 1))),
        (Some(_), _) | (_, Some(_)) => {}
        (None, None) if first <= last => return Ok(Some(Candidate::Fresh(first))),
        (None, None) => return Ok(None),
    }
    let sql = "SELECT number, released_at FROM pool_claim WHERE kind = $1 AND scope = $2 AND released_at <= $5 \
               AND number BETWEEN $3 AND $4 ORDER BY released_at, number LIMIT 1";
    let oldest = tx.fetch_optional(Query::new("pool_claim", sql, values![kind, scope, first, last, tx.now])).await?;
    if let Some(row) = &oldest {
        let released_at: jiff::Timestamp = row.get("released_at")?;
        if released_at.checked_add(rest).is_ok_and(|rested| rested <= tx.now) {
            return Ok(Some(Candidate::Rested(row.get("number")?)));
        }
    }
    // A range that was moved and widened again has numbers in its middle that nobody ever had.
    let sql = "SELECT MIN(c.number + 1) AS gap FROM pool_claim c WHERE c.kind = $1 AND c.scope = $2 \
               AND c.number >= $3 AND c.number < $4 AND NOT EXISTS \
               (SELECT 1 FROM pool_claim n WHERE n.kind = $1 AND n.scope = $2 AND n.number = c.number + 1)";
    let row = tx.fetch_optional(Query::new("pool_claim", sql, values![kind, scope, first, last])).await?;
    if let Some(gap) = row.map(|row| row.get::<Option<u32>>("gap")).transpose()?.flatten() {
        return Ok(Some(Candidate::Fresh(gap)));
    }
    oldest.map(|row| row.get("number").map(Candidate::Tired)).transpose()
}
