//! The fleet as the use cases see it: a snapshot of the store, with what is expected to be ordered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use nemordp_model::{FleetSnapshot, GroupKey, PlanShare};
use nemordp_store::{PAGE_MAX, Page, Store};
use nemordp_types::{Failure, NodeId, RegionName};

/// How far back orders tell what will be ordered.
const OUTLOOK: Duration = Duration::from_secs(30 * 24 * 3_600);
/// How long an outlook is good: it changes with hundreds of orders, not with each.
const OUTLOOK_AGE_MAX: Duration = Duration::from_secs(60);

/// What is expected to be ordered, and when that was read.
type Outlook = (Timestamp, Vec<PlanShare>);

/// Reads the fleet; cheap to clone.
#[derive(Debug, Clone)]
pub struct Fleet {
    store: Store,
    outlook: Arc<Mutex<Option<Outlook>>>,
}

impl Fleet {
    /// Of this store.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, outlook: Arc::default() }
    }

    /// All nodes, or those of a region, with the members of all groups and the expected mix of plans.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn snapshot(&self, region: Option<&RegionName>) -> Result<FleetSnapshot, Failure> {
        let mut snapshot = self.store.fleet_snapshot(region).await?;
        snapshot.mix = self.mix(snapshot.taken_at).await?;
        Ok(snapshot)
    }

    /// The same for orders that name no other groups than these.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn snapshot_for(
        &self,
        region: Option<&RegionName>,
        groups: &BTreeSet<GroupKey>,
    ) -> Result<FleetSnapshot, Failure> {
        let mut snapshot = self.store.fleet_snapshot_for(region, groups).await?;
        snapshot.mix = self.mix(snapshot.taken_at).await?;
        Ok(snapshot)
    }

    /// The names of all nodes, for people.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn names(&self) -> Result<BTreeMap<NodeId, String>, Failure> {
        let mut names = BTreeMap::new();
        let mut page = Page::first(PAGE_MAX);
        loop {
            let nodes = self.store.node_list(page).await?;
            names.extend(nodes.items.into_iter().map(|node| (node.id, node.name.as_str().to_owned())));
            let Some(next) = nodes.next else { return Ok(names) };
            page = Page::after(next, PAGE_MAX);
        }
    }

    async fn mix(&self, now: Timestamp) -> Result<Vec<PlanShare>, Failure> {
        if let Some((read_at, mix)) = self.outlook.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            let age = now.duration_since(*read_at);
            if !age.is_negative() && age.unsigned_abs() < OUTLOOK_AGE_MAX {
                return Ok(mix.clone());
            }
        }
        let since = now.checked_sub(OUTLOOK).map_err(Failure::internal)?;
        let mix = self.store.plan_mix(since).await?;
        *self.outlook.lock().unwrap_or_else(PoisonError::into_inner) = Some((now, mix.clone()));
        Ok(mix)
    }
}
