//! A reader of its own: asks the database for the reservations without the store's code, replays each node's history in the
//! order of its commits, and says what it finds.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{Connection as _, Row as _};

use crate::support::World;

/// Every reservation with its numbers; the amounts as they were held.
const RESERVATIONS: &str = "SELECT id, instance_id, node_id, vcpu, memory_mib, disk_bytes, gpu_count, reserved_sequence, \
    released_sequence FROM reservation";
/// What each node (of one pool, and one model of GPU) may sell, says that it has sold, and the last number that it gave.
const NODES: &str = "SELECT n.id, n.vcpu_capacity, n.memory_capacity_mib, p.capacity_bytes, \
    CASE WHEN g.node_id IS NULL THEN 0 ELSE g.capacity END, n.vcpu_used, n.memory_used_mib, p.used_bytes, \
    CASE WHEN g.node_id IS NULL THEN 0 ELSE g.used END, n.reservation_sequence \
    FROM node n JOIN node_pool p ON p.node_id = n.id LEFT JOIN node_gpu g ON g.node_id = n.id";
/// Orders that live, with their instances.
const ORDERS: &str = "SELECT i.id, o.external_reference FROM customer_order o JOIN instance i ON i.order_id = o.id";

type Amounts = [i64; 4];

/// One entry of a node's history.
struct Entry {
    sequence: i64,
    reservation: Vec<u8>,
    change: Amounts,
}

/// What a replay found.
#[derive(Debug, Default)]
pub(crate) struct Replayed {
    /// Entries of all histories.
    pub(crate) entries: usize,
    /// Reservations that are held at the end.
    pub(crate) held: usize,
    /// References of all orders, for whoever counts what was acknowledged.
    pub(crate) references: BTreeSet<String>,
    /// Everything that must not be.
    pub(crate) problems: Vec<String>,
}

impl Replayed {
    #[track_caller]
    pub(crate) fn assert_sound(&self, held: usize) {
        assert!(self.problems.is_empty(), "{:#?}", self.problems);
        assert_eq!(self.held, held, "another number of reservations is held");
    }
}

struct Node {
    capacity: Amounts,
    used: Amounts,
    last: i64,
}

/// A row as numbers and ids, the same from both databases.
struct Plain {
    blobs: Vec<Vec<u8>>,
    numbers: Vec<Option<i64>>,
    text: Option<String>,
}

macro_rules! ask {
    ($connection:expr, $sql:expr, $blobs:expr, $numbers:expr, $text:expr) => {
        sqlx::query($sql)
            .fetch_all($connection)
            .await
            .unwrap()
            .iter()
            .map(|row| Plain {
                blobs: (0..$blobs).map(|at| row.get::<Vec<u8>, _>(at)).collect(),
                numbers: ($blobs..$blobs + $numbers).map(|at| row.get::<Option<i64>, _>(at)).collect(),
                text: if $text { row.get::<Option<String>, _>($blobs + $numbers) } else { None },
            })
            .collect::<Vec<Plain>>()
    };
}

macro_rules! read {
    ($connection:expr) => {{
        let mut connection = $connection;
        let read = [
            ask!(&mut connection, RESERVATIONS, 3, 6, false),
            ask!(&mut connection, NODES, 1, 9, false),
            ask!(&mut connection, ORDERS, 1, 0, true),
        ];
        connection.close().await.unwrap();
        read
    }};
}

/// Reads and replays everything.
pub(crate) async fn replay(world: &World) -> Replayed {
    let [reservations, nodes, orders] = if world.url.starts_with("postgres") {
        read!(sqlx::PgConnection::connect(&world.url).await.unwrap())
    } else {
        read!(sqlx::SqliteConnection::connect(&world.url).await.unwrap())
    };
    let number = |row: &Plain, at: usize| row.numbers[at].unwrap_or_default();
    let mut found = Replayed::default();
    let mut histories: BTreeMap<Vec<u8>, Vec<Entry>> = BTreeMap::new();
    let mut holders: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut served: BTreeSet<Vec<u8>> = BTreeSet::new();
    for row in &reservations {
        let (reservation, instance, node) = (&row.blobs[0], &row.blobs[1], &row.blobs[2]);
        let amounts = [number(row, 0), number(row, 1), number(row, 2), number(row, 3)];
        let history = histories.entry(node.clone()).or_default();
        let mut entry = |sequence, sign: i64| {
            history.push(Entry { sequence, reservation: reservation.clone(), change: amounts.map(|a| sign * a) });
        };
        entry(number(row, 4), 1);
        if let Some(released) = row.numbers[5] {
            entry(released, -1);
        } else if !holders.insert(instance.clone()) {
            found.problems.push(format!("instance {} holds two reservations", hex::encode(instance)));
        }
        served.insert(instance.clone());
    }
    found.held = holders.len();
    for row in &nodes {
        let node = Node {
            capacity: [number(row, 0), number(row, 1), number(row, 2), number(row, 3)],
            used: [number(row, 4), number(row, 5), number(row, 6), number(row, 7)],
            last: number(row, 8),
        };
        let history = histories.remove(&row.blobs[0]).unwrap_or_default();
        found.entries += history.len();
        follow(&hex::encode(&row.blobs[0]), &node, history, &mut found.problems);
    }
    found.problems.extend(histories.keys().map(|node| format!("reservations on no node: {}", hex::encode(node))));
    let mut references = BTreeSet::new();
    for row in &orders {
        if !served.contains(&row.blobs[0]) {
            found.problems.push(format!("instance {} has no reservation", hex::encode(&row.blobs[0])));
        }
        let reference = row.text.clone().unwrap_or_default();
        if reference.starts_with("order ") && !references.insert(reference.clone()) {
            found.problems.push(format!("{reference} was accepted twice"));
        }
    }
    found.references = references;
    found
}

/// One node's history, from the first number to the last, each exactly once.
fn follow(name: &str, node: &Node, mut history: Vec<Entry>, problems: &mut Vec<String>) {
    history.sort_by_key(|entry| entry.sequence);
    let mut held: Amounts = [0; 4];
    for (expected, entry) in (1i64..).zip(&history) {
        if entry.sequence != expected {
            problems.push(format!("node {name}: entry {expected} is missing, {} follows", entry.sequence));
            return;
        }
        for (held, change) in held.iter_mut().zip(entry.change) {
            *held += change;
        }
        if held.iter().zip(node.capacity).any(|(held, capacity)| *held > capacity) || held.iter().any(|h| *h < 0) {
            let (capacity, by) = (node.capacity, hex::encode(&entry.reservation));
            problems.push(format!("node {name}: after entry {expected} ({by}) {held:?} of {capacity:?} are held"));
        }
    }
    if i64::try_from(history.len()) != Ok(node.last) {
        problems.push(format!("node {name}: {} entries, the node counted {}", history.len(), node.last));
    }
    if held != node.used {
        problems.push(format!("node {name}: the history holds {held:?}, the node says {:?}", node.used));
    }
}
