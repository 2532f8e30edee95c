//! Real programs, really killed, on a seeded sample of all trials; `make chaos` makes all of them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use nemordp_tests::chaos::{Campaign, Dice, Score, trials};
use nemordp_tests::cluster::audit::Ledger;
use nemordp_tests::cluster::{Cluster, Shape, StoreKind};

/// How long a sample takes at most, start and last trial not counted.
const SAMPLE: Duration = Duration::from_secs(20);
/// Trials that are made however slow the machine is.
const LEAST: u64 = 3;

/// Sampled anew with `NEMORDP_SEED`; the seed of a failure is printed with it.
fn seed() -> u64 {
    std::env::var("NEMORDP_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_261_126)
}

async fn sample(store: StoreKind, replicas: u8) -> Score {
    let seed = seed();
    let mut campaign = Campaign::start(Shape::quick(store, replicas, 2), seed).await.unwrap();
    let (began, mut made) = (Instant::now(), 0);
    let mut trials = trials(store);
    Dice::new(seed).shuffle(&mut trials);
    for trial in trials {
        if began.elapsed() > SAMPLE && made >= LEAST {
            break;
        }
        made += 1;
        if let Err(error) = campaign.trial(&trial).await {
            panic!("seed {seed}, {trial}: {error}; see {}", campaign.abandon().display());
        }
    }
    let score = campaign.finish().await.unwrap();
    assert!(score.findings.violations.is_empty(), "seed {seed}: {:#?}", score.findings.violations);
    assert!(score.trials > 0 && score.hits > 0 && score.findings.checked > 100, "seed {seed}: {score}");
    score
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sample_of_kills_loses_nothing_on_sqlite() {
    println!("{}", sample(StoreKind::Sqlite, 1).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sample_of_kills_loses_nothing_on_postgres_with_two_replicas() {
    println!("{}", sample(StoreKind::Postgres, 2).await);
}

/// A check that finds nothing must be able to find something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_check_finds_each_thing_that_is_planted() {
    let cluster = Cluster::start(Shape::quick(StoreKind::Sqlite, 1, 1)).await.unwrap();
    let mut ledger = Ledger::default();
    let order = cluster.api.order("planted").await.unwrap();
    ledger.accepted("planted", &order.text("id").unwrap());
    cluster.settle(Duration::from_secs(60)).await.unwrap();
    let clean = cluster.audit(&ledger).await.unwrap();
    assert!(clean.violations.is_empty(), "{:#?}", clean.violations);
    assert!(cluster.reveal_all().await.unwrap().violations.is_empty());
    let store = cluster.writable_database().await.unwrap();
    let planted = [
        ("UPDATE reservation SET released_at = 1", "UPDATE reservation SET released_at = NULL", "holds capacity"),
        (
            "UPDATE node SET vcpu_used = vcpu_used + 1",
            "UPDATE node SET vcpu_used = vcpu_used - 1",
            "its reservations are",
        ),
        ("UPDATE pool_claim SET number = number + 1", "UPDATE pool_claim SET number = number - 1", "wanted [("),
        ("UPDATE saga SET status = 'stuck'", "UPDATE saga SET status = 'done'", "is stuck"),
        ("UPDATE customer_order SET state = 'accepted'", "UPDATE customer_order SET state = 'active'", "is accepted"),
        ("UPDATE instance SET lifecycle = 'deleted'", "UPDATE instance SET lifecycle = 'active'", "which nobody owns"),
        (
            "UPDATE event SET kind = 'order.failed' WHERE kind = 'order.active'",
            "UPDATE event SET kind = 'order.active' WHERE kind = 'order.failed'",
            "order.active was told 0 times",
        ),
        (
            "UPDATE customer_order SET external_reference = 'lost'",
            "UPDATE customer_order SET external_reference = 'planted'",
            "promised",
        ),
    ];
    for (plant, remove, words) in planted {
        store.execute(plant).await.unwrap();
        let found = cluster.audit(&ledger).await.unwrap().violations;
        assert!(found.iter().any(|violation| violation.contains(words)), "{plant}: {found:#?}");
        store.execute(remove).await.unwrap();
    }
    let node = &cluster.nodes[0];
    let (file, orphan) = node.plant_orphan().unwrap();
    let found = cluster.audit(&ledger).await.unwrap().violations;
    assert!(found.iter().any(|violation| violation.contains(&orphan)), "{found:#?}");
    std::fs::remove_file(file).unwrap();
    assert!(cluster.audit(&ledger).await.unwrap().violations.is_empty());
}
