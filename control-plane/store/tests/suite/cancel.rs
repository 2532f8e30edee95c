use std::time::Duration;

use nemordp_store::{Page, TenantScope};
use nemordp_types::{Entropy as _, TenantId};

use crate::support::{World, label, on_both_stores};

on_both_stores! {
    a_dropped_transaction_takes_no_acknowledged_write_with_it
    a_dropped_order_is_there_wholly_or_not_at_all
}

/// A caller that is cut off between 0 and 4 ms.
async fn cut_off<T>(world: &World, work: impl Future<Output = T>) -> Option<T> {
    let mut random = [0u8; 2];
    world.entropy.fill(&mut random);
    let micros = u64::from(u16::from_le_bytes(random)) * 4_000 / 65_536;
    tokio::time::timeout(Duration::from_micros(micros), work).await.ok()
}

async fn a_dropped_transaction_takes_no_acknowledged_write_with_it(world: &World) {
    let writer = |name: usize| async move {
        let mut acknowledged = Vec::new();
        for i in 0..60 {
            let (c, e) = world.ids();
            let id = TenantId::new(c, e);
            let name = label(&format!("tenant {name}-{i}"));
            // Half of them are cut off somewhere, the others must not suffer.
            let outcome = if i % 2 == 0 {
                cut_off(world, world.store.tenant_create(id, &name)).await
            } else {
                Some(world.store.tenant_create(id, &name).await)
            };
            if let Some(outcome) = outcome {
                outcome.unwrap();
                acknowledged.push(id);
            }
        }
        acknowledged
    };
    let acknowledged: Vec<_> = futures::future::join_all((0..8).map(writer)).await.into_iter().flatten().collect();
    assert!((240..480).contains(&acknowledged.len()), "{} of 480 were cut off nowhere", acknowledged.len());
    let fresh = world.reopen().await.unwrap();
    for id in &acknowledged {
        fresh.tenant_fetch(*id).await.expect("an acknowledged write is gone");
    }
    fresh.close().await;
}

async fn a_dropped_order_is_there_wholly_or_not_at_all(world: &World) {
    let node = world.node("a", 1, 200, 400).await;
    let orders: Vec<_> = (0..80).map(|_| world.order(node)).collect();
    for chunk in orders.chunks(8) {
        futures::future::join_all(chunk.iter().map(|order| cut_off(world, world.store.order_accept(order, None))))
            .await;
    }
    let filter = nemordp_store::OrderFilter::default();
    let stored = world.store.order_list(TenantScope::All, &filter, Page::first(500)).await.unwrap().items;
    let held = world.store.reservation_list(Page::first(500)).await.unwrap().items;
    assert_eq!(stored.len(), held.len());
    for order in &stored {
        let instance = world.store.instance_fetch(TenantScope::All, order.instance_id).await.unwrap();
        assert_eq!(instance.order_id, order.id);
        assert_eq!(world.store.saga_fetch(TenantScope::All, order.saga_id).await.unwrap().steps.len(), 2);
    }
    let used = world.store.node_fetch(node).await.unwrap().reserved.vcpu.0;
    assert_eq!(usize::try_from(used).unwrap(), 2 * stored.len());
    assert_eq!(world.count_events("order.accepted").await, stored.len());
}
