use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use nemordp_types::operation::OperationKind;
use nemordp_types::{Fence, Generation, ManualClock, Mutation, SeededEntropy};
use proptest::prelude::*;

use super::*;

/// A disk that loses power: what was not synced may be there, or half there, or not.
#[derive(Debug, Clone, Default)]
struct World {
    /// Names with the content that a reader sees now.
    present: BTreeMap<String, Vec<u8>>,
    /// Names that survive a loss of power.
    durable: BTreeMap<String, Vec<u8>>,
    /// Actions until the power fails; none: never.
    left: Option<u32>,
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

    /// The machine is on again: `kept` says whether renames that were not synced had reached the disk anyway.
    fn restarted(&self, kept: bool) -> Self {
        let mut world = self.world().clone();
        if !kept {
            world.present = world.durable.clone();
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
        self.world().present.get(name).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn write_synced(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        // Power may fail in the middle of a write: half the file is there.
        let half = content[..content.len() / 2].to_vec();
        self.act()?.present.insert(name.to_owned(), half);
        self.act()?.present.insert(name.to_owned(), content.to_vec());
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.act()?;
        let content = world.present.remove(from).ok_or(io::ErrorKind::NotFound)?;
        world.present.insert(to.to_owned(), content);
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
    let good = storage.world().present[&name].clone();
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
        storage.world().present.insert(name.clone(), content.clone());
        let failure = Journal::open(Box::new(storage.clone()), &clock()).unwrap_err();
        assert!(failure.message.contains(&name), "{failure:?}");
    }
    storage.world().present.insert("0".to_owned(), good);
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
        fails_after in 0u32..60,
        kept in any::<bool>(),
    ) {
        let storage = MemoryStorage::default();
        storage.world().left = Some(fails_after);
        let mut acknowledged = BTreeMap::new();
        let mut attempted: BTreeMap<InstanceId, Vec<u64>> = BTreeMap::new();
        if let Ok((journal, _)) = Journal::open(Box::new(storage.clone()), &clock()) {
            runtime().block_on(async {
                for (who, generation) in &writes {
                    let record = record(*who, *generation);
                    attempted.entry(record.instance_id).or_default().push(*generation);
                    if journal.save(&record).await.is_ok() {
                        acknowledged.insert(record.instance_id, *generation);
                        attempted.insert(record.instance_id, vec![*generation]);
                    }
                }
            });
        }
        let (_, records) = Journal::open(Box::new(storage.restarted(kept)), &clock()).unwrap();
        let found: BTreeMap<_, _> = records.iter().map(|r| (r.instance_id, r.pair.generation.0)).collect();
        for (id, generation) in &acknowledged {
            let possible = &attempted[id];
            prop_assert!(found.get(id).is_some_and(|g| possible.contains(g)), "{id} {generation} {found:?}");
        }
        for (id, generation) in &found {
            prop_assert!(attempted.get(id).is_some_and(|all| all.contains(generation)));
        }
    }
}
