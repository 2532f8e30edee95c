//! What a node says of its instances: what is kept of it, what is told because it changed, what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use nemordp_model::{EventKind, Instance, Lifecycle};
use nemordp_types::instance::{InstanceStatus, ObservedPower};
use nemordp_types::{InstanceId, NodeId};
use serde_json::{Value as Json, json};

use crate::codec;
use crate::error::Result;
use crate::event::Subject;
use crate::frozen;
use crate::heartbeat::{HeartbeatOutcome, Withdrawal};
use crate::instance;
use crate::sql::{Query, values};
use crate::transaction::Tx;

/// The instances that the store places on a node, and whatever else it named.
async fn known_instances(
    tx: &mut Tx,
    id: NodeId,
    reported: &[InstanceStatus],
) -> Result<BTreeMap<InstanceId, Instance>> {
    let placed = instance::live_on(tx, id).await?;
    let mut known: BTreeMap<InstanceId, Instance> = placed.into_iter().map(|found| (found.id, found)).collect();
    for status in reported {
        if !known.contains_key(&status.instance_id)
            && let Some(found) = instance::fetch_any(tx, status.instance_id).await?
        {
            known.insert(found.id, found);
        }
    }
    Ok(known)
}

/// What is told of a node's sight of an instance; nothing when it sees what it saw before.
fn told(before: Option<ObservedPower>, now: ObservedPower) -> Option<(EventKind, Json)> {
    match before {
        Some(before) if before == now => None,
        Some(ObservedPower::Absent) => Some((EventKind::InstanceFound, json!({ "power": now }))),
        Some(_) | None if now == ObservedPower::Absent => Some((EventKind::InstanceLost, json!({ "power": before }))),
        Some(_) | None => Some((EventKind::InstancePowerSeen, json!({ "from": before, "to": now }))),
    }
}

/// Keeps what a node sees of an instance, and tells it when its power is another one.
async fn see(tx: &mut Tx, found: &Instance, status: &InstanceStatus) -> Result<()> {
    let now = tx.now;
    let sql = "UPDATE instance SET observed = $3, observed_at = $4 WHERE id = $1 AND node_id = $2";
    tx.execute(Query::new("instance", sql, values![found.id, found.node_id, codec::json(status)?, now])).await?;
    match told(found.observed.as_ref().map(|observed| observed.power), status.power) {
        Some((kind, body)) => tx.event(kind, Subject::from(found), body).await,
        None => Ok(()),
    }
}

/// Takes a node's word about its instances.
pub(crate) async fn observe_in_tx(
    tx: &mut Tx,
    id: NodeId,
    reported: &[InstanceStatus],
    outcome: &mut HeartbeatOutcome,
) -> Result<()> {
    let known = known_instances(tx, id, reported).await?;
    for status in reported {
        let Some(instance) = known.get(&status.instance_id) else {
            outcome.unknown.push(status.instance_id);
            continue;
        };
        if instance.is_behind(status) {
            outcome.behind.push(instance.id);
        }
        if instance.is_withdrawn_from(id, status) {
            outcome.withdrawn.push(Withdrawal { instance_id: instance.id, generation: instance.generation });
        }
        if frozen::reported_in_tx(tx, instance, id, status).await? {
            outcome.frozen.push(instance.id);
        }
        // A node that the instance was moved away from has no say any more.
        if instance.node_id == id && instance.observed.as_ref() != Some(status) {
            see(tx, instance, status).await?;
        }
    }
    let named: BTreeSet<InstanceId> = reported.iter().map(|status| status.instance_id).collect();
    for missing in known.values().filter(|found| !named.contains(&found.id)) {
        lost_in_tx(tx, missing).await?;
    }
    frozen::unreported_in_tx(tx, id, reported).await
}

/// An instance that was handed over, that its node had and does not name any more.
async fn lost_in_tx(tx: &mut Tx, missing: &Instance) -> Result<()> {
    let Some(last) = &missing.observed else { return Ok(()) };
    let expected = missing.lifecycle != Lifecycle::Active || missing.frozen.is_some();
    if expected || last.power == ObservedPower::Absent {
        return Ok(());
    }
    let absent = InstanceStatus {
        power: ObservedPower::Absent,
        guest_agent: false,
        confirmed_ipv4: None,
        rdp_certificate_sha256: None,
        started_at: None,
        ..last.clone()
    };
    see(tx, missing, &absent).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_told() {
        use ObservedPower::{Absent, Off, Paused, Running};
        for (before, now, expected) in [
            (None, Running, Some(EventKind::InstancePowerSeen)),
            (Some(Running), Running, None),
            (Some(Running), Off, Some(EventKind::InstancePowerSeen)),
            (Some(Off), Paused, Some(EventKind::InstancePowerSeen)),
            (Some(Off), Absent, Some(EventKind::InstanceLost)),
            (Some(Absent), Absent, None),
            (Some(Absent), Off, Some(EventKind::InstanceFound)),
        ] {
            assert_eq!(told(before, now).map(|(kind, _)| kind), expected, "{before:?} to {now:?}");
        }
    }
}
