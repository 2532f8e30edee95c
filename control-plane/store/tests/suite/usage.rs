use nemordp_store::{StoreError, TenantScope, UsageTotal};
use nemordp_types::usage::{UsageEntry, UsageReceipt};
use nemordp_types::{InstanceId, MeterId};

use crate::support::{World, on_both_stores};

on_both_stores! {
    an_entry_counts_once_however_often_it_is_reported
    what_nobody_knows_stays_with_the_node
}

fn entry(world: &World, instance_id: InstanceId, meter_id: MeterId, sequence: u64, received_bytes: u64) -> UsageEntry {
    let (from, until) = (world.now(), world.later(crate::support::SECOND));
    UsageEntry { instance_id, meter_id, sequence, from, until, received_bytes, sent_bytes: 1, running_ms: 1_000 }
}

async fn an_entry_counts_once_however_often_it_is_reported(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let instance = world.accept(node).await.unwrap().instance;
    let (c, e) = world.ids();
    let (meter, other) = (MeterId::new(c, e), MeterId::new(c, e));
    let first = [entry(world, instance.id, meter, 1, 100), entry(world, instance.id, meter, 2, 20)];
    let receipt = UsageReceipt { instance_id: instance.id, meter_id: meter, sequence: 2 };
    // The answer is lost: the same entries come again, at once from two replicas.
    let (one, two) = tokio::join!(world.store.usage_report(node, &first), world.store.usage_report(node, &first));
    assert_eq!((one.unwrap(), two.unwrap()), (vec![receipt], vec![receipt]));
    // The node lost its journal, and counts anew from 1.
    let again = [entry(world, instance.id, other, 1, 3)];
    let receipt = UsageReceipt { instance_id: instance.id, meter_id: other, sequence: 1 };
    assert_eq!(world.store.usage_report(node, &again).await.unwrap(), [receipt]);
    let total = world.store.usage_total(TenantScope::All, instance.id).await.unwrap();
    let until = Some(world.later(crate::support::SECOND));
    assert_eq!(total, UsageTotal { received_bytes: 123, sent_bytes: 3, running_ms: 3_000, until });
}

async fn what_nobody_knows_stays_with_the_node(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let known = world.accept(node).await.unwrap().instance;
    let (c, e) = world.ids();
    let (meter, stray) = (MeterId::new(c, e), InstanceId::new(c, e));
    let both = [entry(world, stray, meter, 1, 5), entry(world, known.id, meter, 1, 7)];
    let receipt = UsageReceipt { instance_id: known.id, meter_id: meter, sequence: 1 };
    assert_eq!(world.store.usage_report(node, &both).await.unwrap(), [receipt]);
    let nobody = world.store.usage_total(TenantScope::All, stray).await.unwrap_err();
    assert!(matches!(nobody, StoreError::NotFound { .. }), "{nobody:?}");
    assert_eq!(world.store.usage_report(node, &[]).await.unwrap(), []);
}
