//! What the claim costs on PostgreSQL with every commit flushed, and the oversell test in full.
//!
//! `cargo run --release -p nemordp-store --example claim -- [ORDERS] [SECONDS]`: a private server, measured for so many
//! seconds per line; then eight placers place so many orders on a full fleet while they are cut off and the server crashes,
//! and an independent reader replays the history.
#![expect(clippy::unwrap_used, reason = "a measurement fails by panicking")]
#![expect(clippy::print_stdout, reason = "a measurement prints what it found")]
#![expect(dead_code, unused_macros, unused_imports, reason = "what the tests share is not all needed here")]

#[path = "../tests/suite/history.rs"]
mod history;
#[path = "../tests/suite/placer.rs"]
mod placer;
#[path = "../tests/suite/postgres.rs"]
mod postgres;
#[path = "../tests/suite/support.rs"]
mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nemordp_store::{Accepted, BURST_MAX, Candidate, Idempotency, OrderAccept, StoredResponse};
use nemordp_types::{NodeId, OrderId};
use sqlx::{Connection as _, Executor as _, PgConnection};

use placer::{Happened, PLACERS, campaign, count, crash_every, fleet, judge};
use support::{DAY, World};

/// What the project asks of the group commit, orders per second on two cores.
const GROUP_FLOOR: f64 = 20_000.0;
/// A lone order may take so many times the bare update and insert.
const SINGLE_CEILING: f64 = 1.5;
/// How many orders of the oversell test share a decision and a commit; as many instances are given back for them.
const TOGETHER: usize = 100;
/// Nodes that the measured orders go to.
const NODES: u8 = 40;

fn respond(accepted: &Accepted) -> StoredResponse {
    StoredResponse { status: 202, body: format!("{{\"order\":\"{}\"}}", accepted.order.id) }
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "NOT met" }
}

/// Repeats the work until the time is over; gives operations per second.
async fn rate<F: Future<Output = u64>>(seconds: f64, mut work: impl FnMut() -> F) -> f64 {
    let (began, mut done) = (Instant::now(), 0u64);
    while began.elapsed().as_secs_f64() < seconds {
        done += work().await;
    }
    to_float(done) / began.elapsed().as_secs_f64()
}

fn to_float(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

/// The least that any claim must do: one conditional update, one insert, one flush; for so many seconds.
async fn bare(connection: &mut PgConnection, next: &mut i64, seconds: f64) -> u64 {
    let (began, first) = (Instant::now(), *next);
    while began.elapsed().as_secs_f64() < seconds {
        let mut transaction = connection.begin().await.unwrap();
        let update = "UPDATE bare_node SET used = used + $2 WHERE id = $1 AND used + $2 <= capacity";
        sqlx::query(update).bind(1i64).bind(1i64).execute(&mut *transaction).await.unwrap();
        let insert = "INSERT INTO bare_reservation VALUES ($1, 1, 1)";
        sqlx::query(insert).bind(*next).execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
        *next += 1;
    }
    u64::try_from(*next - first).unwrap()
}

/// One order after the other, each in a commit of its own, with its idempotency key; for so many seconds.
async fn single(world: &World, nodes: &[NodeId], seconds: f64) -> u64 {
    let (began, mut done) = (Instant::now(), 0u64);
    while began.elapsed().as_secs_f64() < seconds {
        let order = world.order(nodes[usize::try_from(done).unwrap() % nodes.len()]);
        let key = format!("single-{}", order.order.id);
        world.store.order_accept(&order, Some(&intention(world, &key))).await.unwrap().done().unwrap();
        done += 1;
    }
    done
}

/// What one connection reaches, per second.
struct Lone {
    bare: f64,
    reservation: f64,
    order: f64,
}

/// All three in turns, slice by slice, so that whatever else the machine does meets them alike.
async fn lone(url: &str, world: &World, nodes: &[NodeId], seconds: f64) -> Lone {
    const SLICES: u16 = 20;
    let slice = seconds / f64::from(SLICES);
    let mut connection = PgConnection::connect(url).await.unwrap();
    let schema = "CREATE TABLE bare_node (id BIGINT PRIMARY KEY, used BIGINT NOT NULL, capacity BIGINT NOT NULL); \
                  CREATE TABLE bare_reservation (id BIGINT PRIMARY KEY, node BIGINT NOT NULL, amount BIGINT NOT NULL); \
                  INSERT INTO bare_node VALUES (1, 0, 1000000000)";
    connection.execute(sqlx::raw_sql(schema)).await.unwrap();
    let (mut next, mut bare_took, mut order_took, mut reservation) = (0i64, 0.0, 0.0, 0.0);
    let (mut bare_done, mut order_done) = (0u64, 0u64);
    for turn in 0..SLICES {
        let began = Instant::now();
        bare_done += bare(&mut connection, &mut next, slice).await;
        bare_took += began.elapsed().as_secs_f64();
        let began = Instant::now();
        order_done += single(world, nodes, slice).await;
        order_took += began.elapsed().as_secs_f64();
        reservation += reservations_alone(url, Alone { writers: 1, size: 1, turn }, slice).await / f64::from(SLICES);
    }
    Lone { bare: to_float(bare_done) / bare_took, reservation, order: to_float(order_done) / order_took }
}

fn intention<'a>(world: &World, key: &'a str) -> Idempotency<'a, Accepted> {
    Idempotency { api_key_id: world.key, key, fingerprint: [1; 32], lifetime: DAY, respond: &respond }
}

/// Bursts of so many orders, from drafting to the committed answer; every writer has nodes of its own.
async fn group(worlds: &[World], nodes: &[NodeId], size: usize, seconds: f64) -> f64 {
    let share = nodes.len() / worlds.len();
    let writers = worlds.iter().zip(nodes.chunks(share)).map(|(world, nodes)| {
        rate(seconds, move || async move {
            let orders: Vec<OrderAccept> = (0..size).map(|at| world.order(nodes[at % nodes.len()])).collect();
            let keys: Vec<String> = orders.iter().map(|order| format!("group-{}", order.order.id)).collect();
            let intentions: Vec<_> = keys.iter().map(|key| intention(world, key)).collect();
            let burst: Vec<_> = orders
                .iter()
                .zip(&intentions)
                .map(|(accept, intention)| Candidate { accept, intention: Some(intention) })
                .collect();
            let outcomes = world.store.order_accept_burst(&burst).await;
            outcomes.into_iter().for_each(|outcome| assert!(outcome.unwrap().done().is_some()));
            u64::try_from(size).unwrap()
        })
    });
    futures::future::join_all(writers).await.into_iter().sum()
}

/// How reservations are written alone.
#[derive(Clone, Copy)]
struct Alone {
    writers: i64,
    /// How many share a commit.
    size: i64,
    /// No two turns in one database have the same ids.
    turn: u16,
}

/// The reservation's part of a burst alone, by the statements of the store: the nodes are locked, then node, pool and
/// reservations are written by one statement, so many in one commit. The instances are those that the orders before made.
/// It leaves a history that no reader would accept.
async fn reservations_alone(url: &str, Alone { writers, size, turn }: Alone, seconds: f64) -> f64 {
    let writers = (0..writers).map(|writer| async move {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let sql = "SELECT id FROM instance ORDER BY id OFFSET $1 LIMIT $2";
        let rows = sqlx::query(sql).bind(writer * size).bind(size).fetch_all(&mut connection).await.unwrap();
        let instances: Vec<Vec<u8>> = rows.iter().map(|row| sqlx::Row::get(row, 0)).collect();
        let nodes = sqlx::query("SELECT id FROM node ORDER BY id").fetch_all(&mut connection).await.unwrap();
        let nodes: Vec<Vec<u8>> = nodes.iter().map(|row| sqlx::Row::get(row, 0)).collect();
        let nodes = &nodes[usize::try_from(writer).unwrap() * (nodes.len() / 2)..];
        let nodes = &nodes[..instances.len().min(nodes.len() / 2)];
        let many = i64::try_from(instances.len() / nodes.len()).unwrap();
        let (began, mut done) = (Instant::now(), 0u64);
        let ids = support::World::attach(url, nemordp_types::TenantId::from_uuid(uuid::Uuid::nil()), nil_key(), 7_000 + u64::from(turn)).await;
        while began.elapsed().as_secs_f64() < seconds {
            let reservation: Vec<Vec<u8>> = instances.iter().map(|_| fresh(&ids, writer)).collect();
            let on: Vec<Vec<u8>> = (0..instances.len()).map(|at| nodes[at % nodes.len()].clone()).collect();
            let mut transaction = connection.begin().await.unwrap();
            let lock = "SELECT n.id FROM node n JOIN node_pool p ON p.node_id = n.id WHERE n.id = ANY($1) ORDER BY n.id \
                        FOR NO KEY UPDATE";
            sqlx::query(lock).bind(nodes).fetch_all(&mut *transaction).await.unwrap();
            let write = sqlx::query(RESERVE).bind(nodes).bind(many).bind(&reservation).bind(&instances).bind(&on);
            write.execute(&mut *transaction).await.unwrap();
            transaction.commit().await.unwrap();
            done += u64::try_from(instances.len()).unwrap();
        }
        ids.store.close().await;
        to_float(done) / began.elapsed().as_secs_f64()
    });
    futures::future::join_all(writers).await.into_iter().sum()
}

/// As many reservations on each of the nodes as the second value says, as the store writes them.
const RESERVE: &str = "WITH n AS (UPDATE node SET vcpu_used = vcpu_used + 2 * $2, memory_used_mib = memory_used_mib + 4096 * $2, \
    reservation_sequence = reservation_sequence + $2 WHERE id = ANY($1) AND vcpu_used + 2 * $2 <= vcpu_capacity \
    AND memory_used_mib + 4096 * $2 <= memory_capacity_mib RETURNING 1), \
    p AS (UPDATE node_pool SET used_bytes = used_bytes + 53687091200 * $2 WHERE node_id = ANY($1) \
    AND used_bytes + 53687091200 * $2 <= capacity_bytes RETURNING 1), \
    r AS (INSERT INTO reservation (id, instance_id, node_id, vcpu, memory_mib, storage_class, disk_bytes, created_at, \
    released_at, reserved_sequence) SELECT id, instance, node, 2, 4096, 'nvme', 53687091200, 0, 0, 1 \
    FROM UNNEST($3::bytea[], $4::bytea[], $5::bytea[]) AS u(id, instance, node) RETURNING 1) \
    SELECT (SELECT COUNT(*) FROM n), (SELECT COUNT(*) FROM p), (SELECT COUNT(*) FROM r)";

fn nil_key() -> nemordp_types::ApiKeyId {
    nemordp_types::ApiKeyId::from_uuid(uuid::Uuid::nil())
}

fn fresh(world: &World, writer: i64) -> Vec<u8> {
    let (clock, entropy) = world.ids();
    let mut id = OrderId::new(clock, entropy).as_uuid().into_bytes().to_vec();
    id[0] = u8::try_from(writer).unwrap() | 0x80;
    id
}

/// A database with nodes that have more than will be ordered, so that nothing is refused.
async fn roomy(cluster: &postgres::Cluster, name: &str) -> (String, World, Vec<NodeId>) {
    let url = cluster.create(name).await;
    let world = World::on(url.clone()).await;
    fleet(&world, NODES, 30_000).await;
    let mut nodes: Vec<NodeId> = world.store.fleet_snapshot(None).await.unwrap().nodes.iter().map(|n| n.id).collect();
    nodes.sort();
    (url, world, nodes)
}

async fn measure(cluster: &postgres::Cluster, seconds: f64) {
    println!("claim on PostgreSQL, every commit flushed (fsync on, synchronous_commit on), {seconds} s a line");
    let (url, world, nodes) = roomy(cluster, "lone").await;
    let Lone { bare, reservation, order } = lone(&url, &world, &nodes, seconds).await;
    let (held, whole) = (bare / reservation, bare / order);
    println!("  bare update + insert, one connection        {bare:>9.0} /s");
    println!("  reservation alone, one connection           {reservation:>9.0} /s  = {held:.2} times the bare one");
    println!("  whole order, one connection                 {order:>9.0} /s  = {whole:.2} times the bare one");
    println!("    goal: at most {SINGLE_CEILING} times                         {}", verdict(whole <= SINGLE_CEILING));
    world.store.close().await;
    // The reservations alone are no history that a reader would accept.
    let (url, world, nodes) = roomy(cluster, "claim").await;
    let mut writers = Vec::new();
    for seed in 0..2 {
        writers.push(World::attach(&url, world.tenant, world.key, 500 + seed).await);
    }
    for size in [10, 100, BURST_MAX] {
        let found = group(&writers, &nodes, size, seconds).await;
        println!("  whole orders, 2 writers, {size:>3} a commit        {found:>9.0} /s");
    }
    let replayed = history::replay(&world).await;
    replayed.assert_sound(replayed.held);
    println!("  history replayed: {} entries, sound", replayed.entries);
    let all = Alone { writers: 2, size: 500, turn: 100 };
    let alone = reservations_alone(&url, all, seconds).await;
    println!("  reservations alone, 2 writers, 500 a commit {alone:>9.0} /s");
    println!("    goal: at least {GROUP_FLOOR:.0} /s                       {}", verdict(alone >= GROUP_FLOOR));
    for world in writers {
        world.store.close().await;
    }
    world.store.close().await;
}

/// Says after every tenth how far it is.
async fn tell(progress: &AtomicU64, orders: u64, began: Instant) {
    let mut tenths = 1;
    while tenths < 10 {
        let placed = progress.load(Ordering::Relaxed);
        if placed >= orders * tenths / 10 {
            println!("  {placed} orders after {:.0} s", began.elapsed().as_secs_f64());
            tenths += 1;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

async fn never_oversell(cluster: postgres::Cluster, orders: u64) {
    let world = World::on(cluster.create("oversell").await).await;
    fleet(&world, 20, 20).await;
    let mut replicas = Vec::new();
    for seed in 0..PLACERS {
        replicas.push(World::attach(&world.url, world.tenant, world.key, 1_000 + seed).await);
    }
    println!("oversell: {PLACERS} placers, {orders} orders on 20 full nodes of 20, cut off and crashed");
    let (began, progress) = (Instant::now(), AtomicU64::new(0));
    let cut_off = (3_277, Duration::from_millis(20));
    let (books, (cluster, crashes), ()) = tokio::join!(
        campaign(&replicas, orders, TOGETHER, cut_off, &progress),
        crash_every(cluster, (orders / 20).max(50), orders, &progress),
        tell(&progress, orders, began)
    );
    let took = began.elapsed().as_secs_f64();
    let again = judge(&world, &books, orders).await;
    let cut = count(&books, |happened| *happened == Happened::CutOff);
    let share = 100.0 * to_float(u64::try_from(again).unwrap()) / to_float(orders);
    println!(
        "  {:.0} orders/s; {crashes} crashes of PostgreSQL, {cut} placers cut off in a commit",
        to_float(orders) / took
    );
    println!("  replayed by an independent reader: never more than the capacity, none lost, none doubled");
    println!("  placed again: {again} = {share:.2} %; goal: below 1 %      {}", verdict(share < 1.0));
    for world in replicas {
        world.store.close().await;
    }
    world.store.close().await;
    drop(cluster);
}

#[tokio::main(flavor = "multi_thread", worker_threads = 4)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let orders = arguments.next().map_or(100_000, |text| text.parse().unwrap());
    let seconds = arguments.next().map_or(5.0, |text| text.parse().unwrap());
    let Some(cluster) = postgres::own_cluster(true) else {
        println!("PostgreSQL is not installed (apt-get install postgresql): nothing was measured");
        return;
    };
    measure(&cluster, seconds).await;
    never_oversell(cluster, orders).await;
}
