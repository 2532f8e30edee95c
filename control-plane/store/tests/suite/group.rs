//! Writers that share commits in a process that dies or whose file cannot grow: what was acknowledged is there, what was
//! refused is not.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;

use nemordp_store::{Store, StoreError, TenantScope};
use nemordp_types::{NodeId, OrderId};

use crate::support::World;

/// Where the child writes: seed, tenant, key, node and file.
const TARGET: &str = "NEMORDP_TEST_WRITES_TO";
const WRITERS: usize = 16;

/// What a child said of its orders.
#[derive(Default)]
struct Said {
    acknowledged: Vec<OrderId>,
    refused: Vec<OrderId>,
}

/// Runs [`writes_until_it_cannot`] in a process of its own, which is killed after so many acknowledgements.
#[expect(clippy::disallowed_methods, reason = "a process that is killed cannot be the test's own")]
fn child(shell: &str, target: &str, enough: usize) -> Said {
    let mut child = Command::new("sh")
        .args(["-c", &format!("{shell} exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["group::writes_until_it_cannot", "--exact", "--nocapture"])
        .env(TARGET, target)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Said::default();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let id = |word: &str| line.strip_prefix(word).and_then(|id| id.parse::<OrderId>().ok());
        said.acknowledged.extend(id("acknowledged "));
        said.refused.extend(id("refused "));
        if said.acknowledged.len() == enough {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    said
}

/// The child's part; nothing when it is run as a test like any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writes_until_it_cannot() {
    let Ok(target) = std::env::var(TARGET) else { return };
    let mut words = target.splitn(5, ' ');
    let mut word = || words.next().unwrap();
    let (seed, tenant, key) = (word().parse().unwrap(), word().parse().unwrap(), word().parse().unwrap());
    let (node, url): (NodeId, _) = (word().parse().unwrap(), word());
    let world = Arc::new(World::attach(url, tenant, key, seed).await);
    let writers = (0..WRITERS).map(|_| {
        let world = Arc::clone(&world);
        tokio::spawn(async move {
            loop {
                let order = world.order(node);
                match world.store.order_accept(&order, None).await {
                    Ok(_) => println!("acknowledged {}", order.order.id),
                    // Whether it is there is not known to whoever hears this.
                    Err(StoreError::Busy(_)) => {}
                    Err(_) => return println!("refused {}", order.order.id),
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

async fn is_there(store: &Store, id: OrderId) -> bool {
    match store.order_fetch(TenantScope::All, id).await {
        Ok(_) => true,
        Err(StoreError::NotFound { .. }) => false,
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_process_that_is_killed_loses_nothing_that_it_acknowledged() {
    const ENOUGH: usize = 40;
    let world = World::on_sqlite().await;
    for seed in 0..3u8 {
        let node = world.node(&format!("n{seed}"), seed + 1, 5_000, 9_000).await;
        let target = format!("{} {} {} {node} {}", u64::from(seed) + 1_000, world.tenant, world.key, world.url);
        let said = tokio::task::spawn_blocking(move || child("", &target, ENOUGH)).await.unwrap();
        assert!(said.acknowledged.len() >= ENOUGH, "{} acknowledged", said.acknowledged.len());
        for id in said.acknowledged {
            assert!(is_there(&world.store, id).await, "{id} was acknowledged and lost");
        }
        world.accept(node).await.expect("the lock of a dead process is gone");
    }
    world.store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_that_cannot_grow_refuses_and_loses_nothing() {
    let world = World::on_sqlite().await;
    let node = world.node("a", 1, 5_000, 9_000).await;
    let target = format!("1000 {} {} {node} {}", world.tenant, world.key, world.url);
    // The journal of the preparations goes with the last connection.
    world.store.close().await;
    let apart = world.let_go();
    // No file grows beyond a mebibyte; a write that would is an error, not the end of the process.
    let limited = "trap '' XFSZ; ulimit -f 2048;";
    let said = tokio::task::spawn_blocking(move || child(limited, &target, usize::MAX)).await.unwrap();
    assert!(!said.acknowledged.is_empty() && !said.refused.is_empty());
    let store = apart.reopen().await.unwrap();
    for id in said.acknowledged {
        assert!(is_there(&store, id).await, "{id} was acknowledged and lost");
    }
    for id in said.refused {
        assert!(!is_there(&store, id).await, "{id} was refused and is there");
    }
    store.close().await;
}
