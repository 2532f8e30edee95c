use std::time::Duration;

use nemordp_store::{Page, TenantScope};
use nemordp_types::{Entropy as _, TenantId};

use crate::support::{World, label, on_both_stores};

on_both_stores! {
    a_dropped_transaction_takes_no_acknowledged_write_with_it
    a_dropped_order_is_there_wholly_or_not_at_all
}

/// A caller that is cut off somewhere between at once and the limit.
async fn cut_off<T>(world: &World, limit: Duration, work: impl Future<Output = T>) -> Option<T> {
    let mut random = [0u8; 2];
    world.entropy.fill(&mut random);
    let at = limit.mul_f64(f64::from(u16::from_le_bytes(random)) / 65_536.0);
    tokio::time::timeout(at, work).await.ok()
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
                cut_off(world, Duration::from_millis(4), world.store.tenant_create(id, &name)).await
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
    let orders: Vec<_> = (0..88).map(|_| world.order(node)).collect();
    // How long eight at once take here and now is the limit for the others, so that they are cut off in the middle.
    let (undisturbed, disturbed) = orders.split_at(8);
    let began = tokio::time::Instant::now();
    let accepts = undisturbed.iter().map(|order| world.store.order_accept(order, None));
    futures::future::try_join_all(accepts).await.unwrap();
    let limit = began.elapsed();
    let mut acknowledged: Vec<_> = undisturbed.iter().map(|order| order.order.id).collect();
    for chunk in disturbed.chunks(8) {
        let accepts = chunk.iter().map(|order| cut_off(world, limit, world.store.order_accept(order, None)));
        let outcomes = futures::future::join_all(accepts).await;
        acknowledged.extend(
            chunk
                .iter()
                .zip(outcomes)
                .filter_map(|(order, outcome)| outcome.map(|outcome| outcome.unwrap()).map(|_| order.order.id)),
        );
    }
    // Nothing is lost and the store works on.
    acknowledged.push(world.accept(node).await.unwrap().order.id);
    let filter = nemordp_store::OrderFilter::default();
    let stored = world.store.order_list(TenantScope::All, &filter, Page::first(500)).await.unwrap().items;
    let held = world.store.reservation_list(Page::first(500)).await.unwrap().items;
    assert!(stored.len() < 89, "no order was cut off");
    for id in acknowledged {
        assert!(stored.iter().any(|order| order.id == id), "an acknowledged order is gone");
    }
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
