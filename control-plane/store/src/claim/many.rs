//! Claiming ports and private addresses for many instances at once.
//!
//! The rule is that of one claim; what differs is the number of statements. Numbers that nobody ever had, and numbers
//! that have rested, are found and written for all instances together. What is left (gaps, numbers that have not rested,
//! nothing at all) is looked for one by one, each in a part of the transaction that can be taken back alone.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;
use nemordp_types::node::NodeInventory;
use nemordp_types::{InstanceId, NodeId};

use super::{Network, Pool, network_in_tx};
use crate::error::{Result, StoreError};
use crate::rows::{Kind, Rows};
use crate::sql::{Query, values};
use crate::transaction::{Sql as _, Tx};

/// An instance that needs a port and a private address on a node, whose row the transaction has locked.
pub(crate) struct Demand<'a> {
    pub(crate) node_id: NodeId,
    pub(crate) instance_id: InstanceId,
    pub(crate) inventory: &'a NodeInventory,
}

/// A number that can be had, and whether somebody had it before.
#[derive(Debug, Clone, Copy)]
enum Number {
    Fresh(u32),
    Rested(u32),
}

impl Number {
    const fn number(self) -> u32 {
        match self {
            Self::Fresh(number) | Self::Rested(number) => number,
        }
    }
}

/// Claims for all of them, in their order. An error of one leaves the others what they got.
pub(crate) async fn network_in_tx_many(tx: &mut Tx, demands: &[Demand<'_>]) -> Result<Vec<Result<Network>>> {
    let mut wanted: BTreeMap<Pool, usize> = BTreeMap::new();
    for demand in demands {
        for pool in pools(demand) {
            *wanted.entry(pool).or_default() += 1;
        }
    }
    let mut supply = supply(tx, wanted).await?;
    let (now, mut writes) = (tx.now, Writes::default());
    let mut networks = Vec::with_capacity(demands.len());
    for demand in demands {
        let [ports, addresses] = pools(demand);
        let there = |pool: &Pool| supply.get(pool).is_some_and(|numbers| !numbers.is_empty());
        // Both or none: a number that is looked for one by one must not leave another one unused.
        if !(there(&ports) && there(&addresses)) {
            networks.push(None);
            continue;
        }
        let mut take = |pool: &Pool| supply.get_mut(pool).and_then(VecDeque::pop_front);
        networks.push(take(&ports).zip(take(&addresses)).map(|(port, address)| {
            writes.push(&ports, port, demand, now);
            writes.push(&addresses, address, demand, now);
            Network::of(demand.inventory, port.number(), address.number(), false)
        }));
    }
    writes.run(tx).await?;
    one_by_one(tx, demands, networks).await
}

fn pools(demand: &Demand<'_>) -> [Pool; 2] {
    [Pool::ports(demand.inventory), Pool::addresses(demand.node_id, demand.inventory)]
}

/// Numbers for each pool, fresh ones first, at most as many as are wanted.
async fn supply(tx: &mut Tx, wanted: BTreeMap<Pool, usize>) -> Result<BTreeMap<Pool, VecDeque<Number>>> {
    let sql = "SELECT r.place, (SELECT MAX(number) FROM pool_claim c WHERE c.kind = r.kind AND c.scope = r.scope \
               AND c.number BETWEEN r.lowest AND r.highest) AS highest, \
               (SELECT MIN(number) FROM pool_claim c WHERE c.kind = r.kind AND c.scope = r.scope \
               AND c.number BETWEEN r.lowest AND r.highest) AS lowest FROM {rows} AS r";
    let mut rows = Rows::new(&[
        ("place", Kind::Int),
        ("kind", Kind::Text),
        ("scope", Kind::Text),
        ("lowest", Kind::Int),
        ("highest", Kind::Int),
    ]);
    for (place, pool) in (0u32..).zip(wanted.keys()) {
        rows.push(values![place, pool.kind, pool.scope.as_str(), pool.first, pool.last]);
    }
    let mut used: BTreeMap<u32, (Option<u32>, Option<u32>)> = BTreeMap::new();
    for row in tx.fetch(Query::over("pool_claim", sql, vec![], rows)).await? {
        used.insert(row.get("place")?, (row.get("lowest")?, row.get("highest")?));
    }
    let mut supply = BTreeMap::new();
    for (place, (pool, count)) in (0u32..).zip(wanted) {
        let mut numbers = fresh(&pool, used.get(&place).copied().unwrap_or((None, None)), count);
        if numbers.len() < count {
            rested(tx, &pool, count, &mut numbers).await?;
        }
        supply.insert(pool, numbers);
    }
    Ok(supply)
}

/// Numbers beyond those that were ever given away: above the highest, then below the lowest.
fn fresh(pool: &Pool, used: (Option<u32>, Option<u32>), count: usize) -> VecDeque<Number> {
    match used {
        (Some(lowest), Some(highest)) => {
            let above = highest.saturating_add(1)..=pool.last;
            let below = (pool.first..lowest).rev();
            above.chain(below).take(count).map(Number::Fresh).collect()
        }
        (None, _) | (_, None) => (pool.first..=pool.last).take(count).map(Number::Fresh).collect(),
    }
}

async fn rested(tx: &mut Tx, pool: &Pool, count: usize, numbers: &mut VecDeque<Number>) -> Result<()> {
    let sql = "SELECT number FROM pool_claim WHERE kind = $1 AND scope = $2 AND released_at IS NOT NULL \
               AND number BETWEEN $3 AND $4 AND released_at <= $5 ORDER BY released_at, number LIMIT $6";
    let before = tx.now.checked_sub(pool.rest).unwrap_or(Timestamp::MIN);
    let missing = u32::try_from(count - numbers.len()).unwrap_or(u32::MAX);
    let values = values![pool.kind, pool.scope.as_str(), pool.first, pool.last, before, missing];
    for row in tx.fetch(Query::new("pool_claim", sql, values)).await? {
        numbers.push_back(Number::Rested(row.get("number")?));
    }
    Ok(())
}

/// What is written for all of them together.
struct Writes {
    fresh: Rows,
    rested: Rows,
}

impl Default for Writes {
    fn default() -> Self {
        const COLUMNS: &[(&str, Kind)] = &[
            ("kind", Kind::Text),
            ("scope", Kind::Text),
            ("number", Kind::Int),
            ("node_id", Kind::Blob),
            ("instance_id", Kind::Blob),
            ("claimed_at", Kind::Int),
        ];
        Self { fresh: Rows::new(COLUMNS), rested: Rows::new(COLUMNS) }
    }
}

impl Writes {
    fn push(&mut self, pool: &Pool, number: Number, demand: &Demand<'_>, now: Timestamp) {
        let (node_id, instance_id) = (demand.node_id, demand.instance_id);
        let row = values![pool.kind, pool.scope.as_str(), number.number(), node_id, instance_id, now];
        match number {
            Number::Fresh(_) => self.fresh.push(row),
            Number::Rested(_) => self.rested.push(row),
        }
    }

    /// Whoever was faster with one of the numbers made the transaction outdated: it runs again.
    async fn run(self, tx: &mut Tx) -> Result<()> {
        let sql = "INSERT INTO pool_claim (kind, scope, number, node_id, instance_id, claimed_at) \
                   SELECT kind, scope, number, node_id, instance_id, claimed_at FROM {rows} AS r WHERE true \
                   ON CONFLICT DO NOTHING";
        tx.execute_over(Query::over("pool_claim", sql, vec![], self.fresh)).await?;
        let sql = "UPDATE pool_claim SET node_id = r.node_id, instance_id = r.instance_id, claimed_at = r.claimed_at, \
                   released_at = NULL FROM {rows} AS r WHERE pool_claim.kind = r.kind AND pool_claim.scope = r.scope \
                   AND pool_claim.number = r.number AND pool_claim.released_at IS NOT NULL";
        tx.execute_over(Query::over("pool_claim", sql, vec![], self.rested)).await
    }
}

/// Claims alone for those that got nothing together. A pool in which one found nothing has nothing for the others.
async fn one_by_one(
    tx: &mut Tx,
    demands: &[Demand<'_>],
    networks: Vec<Option<Result<Network>>>,
) -> Result<Vec<Result<Network>>> {
    let mut exhausted: BTreeSet<Pool> = BTreeSet::new();
    let mut complete = Vec::with_capacity(demands.len());
    for (demand, network) in demands.iter().zip(networks) {
        if let Some(network) = network {
            complete.push(network);
            continue;
        }
        let [ports, addresses] = pools(demand);
        if let Some(pool) = [&ports, &addresses].into_iter().find(|pool| exhausted.contains(*pool)) {
            complete.push(Err(pool.exhausted()));
            continue;
        }
        tx.savepoint().await?;
        match network_in_tx(tx, demand.node_id, demand.instance_id, demand.inventory).await {
            Ok(network) => {
                tx.release_savepoint().await?;
                complete.push(Ok(network));
            }
            Err(error @ (StoreError::PortPoolExhausted | StoreError::AddressPoolExhausted)) => {
                tx.rollback_to_savepoint().await?;
                exhausted.insert(if error == StoreError::PortPoolExhausted { ports } else { addresses });
                complete.push(Err(error));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(complete)
}
