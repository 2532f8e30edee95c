use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use nemordp_types::operation::OperationKind;
use nemordp_types::{Fence, Generation, ManualClock, Mutation, SeededEntropy};
use proptest::prelude::*;

use super::*;

/// Which file a name means.
type Inode = u64;

/// A disk that loses power: what was not synced may be there, or half there, or not.
#[derive(Debug, Clone, Default)]
struct World {
    /// Names that a reader sees now.
    present: BTreeMap<String, Inode>,
    /// Names that survive a loss of power.
    durable: BTreeMap<String, Inode>,
    /// What lies in the files, whatever their names: bytes are overwritten in place.
    files: BTreeMap<Inode, Vec<u8>>,
    /// Files whose content was written and not synced: a loss of power leaves half of it.
    volatile: BTreeSet<Inode>,
    /// Actions until the power fails; none: never.
    left: Option<u32>,
}

impl World {
    fn put(&mut self, name: &str, content: Vec<u8>) -> Inode {
        let next = self.files.last_key_value().map_or(0, |(inode, _)| inode + 1);
        let inode = *self.present.entry(name.to_owned()).or_insert(next);
        self.files.insert(inode, content);
        inode
    }

    fn content(&self, name: &str) -> Option<&Vec<u8>> {
        self.present.get(name).and_then(|inode| self.files.get(inode))
    }
}

#[derive(Debug, Clone, Default)]
struct MemoryStorage(Arc<Mutex<World>>);

impl MemoryStorage {
    fn world(&self) -> std::sync::MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }

    fn act(&self) -> io::Result<std::sync::MutexGuard<'_, World>> {
        let mut world = self.world();
        match &mut world.left {
            Some(0) => return Err(io::Error::other("power failed")),
            Some(left) => *left -= 1,
            None => {}
        }
        Ok(world)
    }

    /// The machine is on again: `kept` says whether swaps that were not synced had reached the disk anyway.
    fn restarted(&self, kept: bool) -> Self {
        let mut world = self.world().clone();
        if !kept {
            world.present = world.durable.clone();
        }
        for inode in std::mem::take(&mut world.volatile) {
            let content = world.files.get_mut(&inode).unwrap();
            content.truncate(content.len() / 2);
        }
        world.left = None;
        Self(Arc::new(Mutex::new(world)))
    }
}

impl Storage for MemoryStorage {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.world().present.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.world().content(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut world = self.act()?;
        let inode = world.put(name, content.to_vec());
        world.volatile.insert(inode);
        Ok(())
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        let mut world = self.act()?;
        let inode = *world.present.get(name).ok_or(io::ErrorKind::NotFound)?;
        world.volatile.remove(&inode);
        Ok(())
    }

    fn swap(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.act()?;
        let inode = world.present.remove(from).ok_or(io::ErrorKind::NotFound)?;
        if let Some(other) = world.present.insert(to.to_owned(), inode) {
            world.present.insert(from.to_owned(), other);
        }
        Ok(())
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        self.act()?.present.remove(name);
        Ok(())
    }

    fn sync_folder(&mut self) -> io::Result<()> {
        let mut world = self.act()?;
        world.durable = world.present.clone();
        Ok(())
    }
}

fn clock() -> ManualClock {
    ManualClock::at_second(1_700_000_000)
}

fn record(seed: u64, generation: u64) -> Record {
    let entropy = SeededEntropy::new(seed);
    let mut record = Record::new(InstanceId::new(&clock(), &entropy));
    record.pair = Pair { generation: Generation(generation), fence: Fence(1) };
    record
}

fn operation(record: &Record, seed: u64, state: OperationState, finished_at: Option<Timestamp>) -> Operation {
    Operation {
        mutation: Mutation {
            operation_id: OperationId::new(&clock(), &SeededEntropy::new(seed)),
            instance_id: record.instance_id,
            pair: record.pair,
        },
        kind: OperationKind::EnsureInstance,
        stage: Stage::Disk,
        percent: None,
        state,
        accepted_at: clock().now(),
        finished_at,
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn what_was_saved_is_read_back_from_a_real_folder() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Journal::open(Box::new(DiskStorage::open(folder.path()).unwrap()), &clock()).unwrap();
    let kept = record(1, 4);
    runtime().block_on(async {
        let (journal, records) = open();
        assert!(records.is_empty());
        journal.save(&kept).await.unwrap();
        journal.save(&record(2, 9)).await.unwrap();
        journal.forget(record(2, 9).instance_id).await.unwrap();
        journal.save_boot_id("boot-1").await.unwrap();
    });
    let (journal, records) = open();
    assert_eq!(records, [kept]);
    assert_eq!(journal.boot_id().as_deref(), Some("boot-1"));
}

#[test]
fn an_operation_that_ran_is_failed_after_a_restart_and_may_run_again() {
    let storage = MemoryStorage::default();
    let mut saved = record(1, 1);
    saved.put(operation(&saved, 7, OperationState::Running, None));
    saved.put(operation(&saved, 8, OperationState::Succeeded, Some(clock().now())));
    let (journal, _) = Journal::open(Box::new(storage.clone()), &clock()).unwrap();
    runtime().block_on(journal.save(&saved)).unwrap();
    let (_, records) = Journal::open(Box::new(storage.restarted(false)), &clock()).unwrap();
    let states: Vec<_> = records[0].operations.iter().map(|operation| &operation.state).collect();
    assert!(
        matches!(states.as_slice(), [OperationState::Failed(f), OperationState::Succeeded] if f.reason == Reason::Unavailable),
        "{states:?}"
    );
}

#[test]
fn damage_and_unknown_versions_stop_the_agent_and_name_the_file() {
    let storage = MemoryStorage::default();
    let saved = record(1, 1);
    let name = saved.instance_id.to_string();
    let (journal, _) = Journal::open(Box::new(storage.clone()), &clock()).unwrap();
    runtime().block_on(journal.save(&saved)).unwrap();
    let good = storage.world().content(&name).unwrap().clone();
    let text = String::from_utf8(good.clone()).unwrap();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let cases = [
        Vec::new(),
        good[..good.len() - 3].to_vec(),
        flipped,
        b"something else\n{}".to_vec(),
        text.replacen(" 1 ", " 2 ", 1).into_bytes(),
    ];
    for content in cases {
        storage.world().put(&name, content);
        let failure = Journal::open(Box::new(storage.clone()), &clock()).unwrap_err();
        assert!(failure.message.contains(&name), "{failure:?}");
    }
    storage.world().put("0", good);
    storage.world().present.remove(&name);
    assert!(Journal::open(Box::new(storage), &clock()).is_err(), "a record under another name is refused");
}

#[test]
fn old_outcomes_go_and_running_operations_stay() {
    let mut record = record(1, 1);
    let now = clock().now();
    record.put(operation(&record, 999, OperationState::Running, None));
    for seed in 0..40 {
        record.put(operation(&record, seed, OperationState::Succeeded, Some(now)));
    }
    assert!(record.prune(now));
    assert_eq!(record.operations.len(), OPERATIONS_KEPT + 1);
    assert_eq!(record.operations[0].state, OperationState::Running);
    let later = now.checked_add(OPERATION_LIFE).unwrap().checked_add(SignedDuration::from_secs(1)).unwrap();
    assert!(record.prune(later));
    assert_eq!(record.operations.len(), 1);
}

#[test]
fn a_tombstone_expires_thirty_days_after_the_end_of_the_delete() {
    let mut record = record(1, 1);
    let now = clock().now();
    let later = |days: i64| now.checked_add(SignedDuration::from_hours(days * 24)).unwrap();
    record.tombstone = Some(Tombstone { accepted_at: now, finished_at: None });
    assert!(!record.expired(later(400)), "a delete that did not end is never forgotten");
    record.tombstone = Some(Tombstone { accepted_at: now, finished_at: Some(now) });
    assert!(!record.expired(later(29)));
    assert!(record.expired(later(31)));
}

proptest! {
    /// Power fails after any number of actions: what was acknowledged is there, what was not is there whole or not at all.
    #[test]
    fn power_may_fail_between_any_two_actions(
        writes in proptest::collection::vec((0u64..3, 1u64..50), 1..12),
        together in 1usize..5,
        fails_after in 0u32..60,
        kept in any::<bool>(),
    ) {
        let storage = MemoryStorage::default();
        storage.world().left = Some(fails_after);
        let mut acknowledged = BTreeMap::new();
        // With the number of the attempt: the same generation may be written again.
        let mut attempted: BTreeMap<InstanceId, Vec<(usize, u64)>> = BTreeMap::new();
        if let Ok((journal, _)) = Journal::open(Box::new(storage.clone()), &clock()) {
            let numbered: Vec<_> = writes.iter().map(|(who, generation)| record(*who, *generation)).enumerate().collect();
            runtime().block_on(async {
                for together in numbered.chunks(together) {
                    for (number, record) in together {
                        let attempt = (*number, record.pair.generation.0);
                        attempted.entry(record.instance_id).or_default().push(attempt);
                    }
                    let saves = together.iter().map(|(_, record)| journal.save(record));
                    let saved = futures::future::join_all(saves).await;
                    for ((number, record), saved) in together.iter().zip(saved) {
                        if saved.is_ok() {
                            acknowledged.insert(record.instance_id, record.pair.generation.0);
                            // What came later in the same batch may be there too.
                            attempted.entry(record.instance_id).or_default().retain(|(other, _)| other >= number);
                        }
                    }
                }
            });
        }
        let (_, records) = Journal::open(Box::new(storage.restarted(kept)), &clock()).unwrap();
        let found: BTreeMap<_, _> = records.iter().map(|r| (r.instance_id, r.pair.generation.0)).collect();
        for (id, generation) in &acknowledged {
            let possible = &attempted[id];
            let is_one = |found: &u64| possible.iter().any(|(_, generation)| generation == found);
            prop_assert!(found.get(id).is_some_and(is_one), "{id} {generation} {found:?}");
        }
        for (id, generation) in &found {
            let all = attempted.get(id);
            prop_assert!(all.is_some_and(|all| all.iter().any(|(_, other)| other == generation)));
        }
    }
}
