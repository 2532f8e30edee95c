//! A database that crashes, takes no writes, or has no room: what was acknowledged stays, the rest is refused clearly.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nemordp_store::{EventFilter, Page, StoreError, TenantScope};
use nemordp_types::{Failure, Reason};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _};

use crate::postgres::{self, own_cluster};
use crate::support::{World, inventory};

/// What a client is told.
fn said(error: StoreError) -> Reason {
    Failure::from(error).reason
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crash_of_postgresql_loses_no_acknowledged_order() {
    let Some(mut cluster) = tokio::task::spawn_blocking(|| own_cluster(false)).await.unwrap() else { return };
    let world = Arc::new(World::at(cluster.url("postgres"), tempfile::tempdir().unwrap()).await);
    let node = world.node("a", 1, 5_000, 9_000).await;
    // More addresses than a quick machine sells before the end.
    let mut wide = inventory(1, 5_000, 9_000);
    wide.private_subnet = "10.64.0.0/16".parse().unwrap();
    world.beat(node, wide).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (world, stop) = (Arc::clone(&world), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut acknowledged, mut refused) = (Vec::new(), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    match world.accept(node).await {
                        Ok(accepted) => acknowledged.push(accepted.order.id),
                        Err(error) => {
                            refused.push(error);
                            tokio::time::sleep(Duration::from_millis(20)).await;
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                (acknowledged, refused)
            })
        })
        .collect();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster = tokio::task::spawn_blocking(move || {
            cluster.crash();
            cluster
        })
        .await
        .unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    let (mut acknowledged, mut refused) = (0, 0);
    for client in clients {
        let (orders, errors) = client.await.unwrap();
        for id in &orders {
            world.store.order_fetch(TenantScope::All, *id).await.unwrap();
        }
        (acknowledged, refused) = (acknowledged + orders.len(), refused + errors.len());
        for error in errors {
            let text = error.to_string();
            assert_eq!(said(error), Reason::Unavailable, "{text}");
        }
    }
    assert!(acknowledged > 0 && refused > 0, "{acknowledged} acknowledged, {refused} refused");
    world.accept(node).await.unwrap();
    world.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_postgresql_that_takes_no_writes_is_waited_for() {
    let Some(url) = postgres::fresh_database().await else { return };
    let name = url.split('?').next().unwrap().rsplit('/').next().unwrap().to_owned();
    let world = World::at(url.clone(), tempfile::tempdir().unwrap()).await;
    let node = world.node("a", 1, 8, 20).await;
    world.accept(node).await.unwrap();
    let mut admin = sqlx::PgConnection::connect(&url.replace(&format!("/{name}?"), "/postgres?")).await.unwrap();
    let mut tell = async |sql: String| admin.execute(sqlx::raw_sql(AssertSqlSafe(sql))).await.map(drop).unwrap();
    tell(format!(
        "ALTER DATABASE {name} SET default_transaction_read_only = on; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    ))
    .await;
    let refused = loop {
        match world.accept(node).await {
            Err(StoreError::ReadOnly(text)) => break StoreError::ReadOnly(text),
            // The connections that were cut.
            Err(StoreError::Unreachable(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(said(refused), Reason::Unavailable);
    let told = world.store.event_list(EventFilter::default(), Page::first(50)).await.unwrap();
    assert!(told.items.len() <= 50, "what can be read is read");
    assert!(world.store.saga_claim("r1", Duration::from_secs(1)).await.is_err());
    tell(format!("ALTER DATABASE {name} RESET default_transaction_read_only")).await;
    world.accept(node).await.expect("sessions from before are replaced");
    assert!(world.store.saga_claim("r1", Duration::from_secs(1)).await.unwrap().is_some());
    world.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_full_disk_refuses_new_orders_and_loses_none() {
    let world = World::on_sqlite().await;
    let node = world.node("a", 1, 5_000, 9_000).await;
    let mut acknowledged = vec![world.accept(node).await.unwrap().order.id];
    // Twice: a connection that met the full disk must not be of no use for ever.
    for pages in [120, 160] {
        world.store.bound_pages(pages).await.unwrap();
        let refused = loop {
            match world.accept(node).await {
                Ok(accepted) => acknowledged.push(accepted.order.id),
                Err(error) => break error,
            }
            assert!(acknowledged.len() < 5_000, "the bound holds");
        };
        assert!(matches!(refused, StoreError::DiskFull(_)), "{refused:?}");
        let failure = Failure::from(refused);
        assert_eq!(failure.reason, Reason::Unavailable);
        assert!(failure.message.contains("full") && failure.message.contains("nothing was stored"), "{failure}");
    }
    let page = world.store.order_list(TenantScope::All, &nemordp_store::OrderFilter::default(), Page::first(500)).await;
    let found: Vec<_> = page.unwrap().items.iter().map(|order| order.id).collect();
    assert_eq!(found.len(), acknowledged.len().min(500), "what was refused left nothing");
    world.store.bound_pages(100_000).await.unwrap();
    acknowledged.push(world.accept(node).await.unwrap().order.id);
    for id in acknowledged {
        world.store.order_fetch(TenantScope::All, id).await.unwrap();
    }
    world.store.close().await;
}
