//! What the hypervisor cannot remember: operations with their outcomes, the highest numbers seen, tombstones, usage that
//! was not reported yet.
//!
//! One small file an instance. A change is durable before anybody acts on it: written beside, synced, put in its place,
//! folder synced. One thread writes for all, so that changes that arrive together share the flushes. A file that cannot be
//! read stops the agent: an empty journal would let late work act.

mod format;
mod storage;

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use nemordp_types::instance::{Edition, GuestSpec};
use nemordp_types::operation::{Operation, OperationState, Stage};
use nemordp_types::suspension::ScheduledSuspension;
use nemordp_types::{Clock, Failure, Generation, InstanceId, OperationId, Pair, Reason};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

use crate::usage::meter::Meter;

pub use storage::{DiskStorage, Storage};

/// How long a deleted instance refuses late work.
pub const TOMBSTONE_LIFE: SignedDuration = SignedDuration::from_hours(30 * 24);
/// How long the outcome of an operation is kept.
pub const OPERATION_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How many finished operations of one instance are kept.
pub const OPERATIONS_KEPT: usize = 32;
/// Writes that wait for the writing thread.
const QUEUE: usize = 256;
/// Writes that share one sync of the folder.
const BATCH: usize = 64;
/// Beginning of the names of files that hold what an instance used.
const METER: &str = "usage-";
/// The file that holds what concerns the node itself.
const NODE_FILE: &str = "node";

/// What is remembered of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Whom it concerns.
    pub instance_id: InstanceId,
    /// The highest numbers seen.
    pub pair: Pair,
    /// Present since a delete was accepted.
    pub tombstone: Option<Tombstone>,
    /// The generation of what is wanted elsewhere: the instance was moved away, or has ended, and does not start here
    /// unless a higher one comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<Generation>,
    /// When the instance is to be switched off, or was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspension: Option<ScheduledSuspension>,
    /// How the guest was personalised, so that a customer's own changes are never overwritten.
    pub personalised: Option<GuestSpec>,
    /// The disk on which it was.
    #[serde(default)]
    pub personalised_disk: Edition,
    /// Its operations, the oldest first.
    pub operations: Vec<Operation>,
}

/// A delete that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// When it was accepted; nothing but deletes is accepted from then on.
    pub accepted_at: Timestamp,
    /// When everything was gone.
    pub finished_at: Option<Timestamp>,
}

/// What is remembered of the node itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeRecord {
    /// The boot of the host whose instances have all been started again.
    boot_id: Option<String>,
}

impl Record {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(instance_id: InstanceId) -> Self {
        Self {
            instance_id,
            pair: Pair::default(),
            tombstone: None,
            withdrawn: None,
            suspension: None,
            personalised: None,
            personalised_disk: Edition::default(),
            operations: Vec::new(),
        }
    }

    /// One of its operations.
    #[must_use]
    pub fn operation(&self, id: OperationId) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.mutation.operation_id == id)
    }

    /// Adds an operation, or replaces the one with its id.
    pub fn put(&mut self, operation: Operation) {
        self.operations.retain(|other| other.mutation.operation_id != operation.mutation.operation_id);
        self.operations.push(operation);
    }

    /// Drops finished operations that are old or too many; those that run stay. Says whether something was dropped.
    pub fn prune(&mut self, now: Timestamp) -> bool {
        let before = self.operations.len();
        let oldest = now.checked_sub(OPERATION_LIFE).unwrap_or(Timestamp::MIN);
        self.operations.retain(|operation| operation.finished_at.is_none_or(|at| at >= oldest));
        let finished = self.operations.iter().filter(|operation| operation.finished_at.is_some()).count();
        let mut excess = finished.saturating_sub(OPERATIONS_KEPT);
        self.operations.retain(|operation| {
            let drop = excess > 0 && operation.finished_at.is_some();
            excess -= usize::from(drop);
            !drop
        });
        self.operations.len() != before
    }

    /// Whether the tombstone has done its duty.
    #[must_use]
    pub fn expired(&self, now: Timestamp) -> bool {
        let oldest = now.checked_sub(TOMBSTONE_LIFE).unwrap_or(Timestamp::MIN);
        self.tombstone.and_then(|t| t.finished_at).is_some_and(|at| at < oldest)
    }

    /// What ran when the agent ended has an unknown outcome: recorded as failed, so that the same operation runs again
    /// when the control plane asks for it again, and never by itself.
    fn settle(&mut self, now: Timestamp) {
        for operation in &mut self.operations {
            if operation.state == OperationState::Running {
                operation.state = OperationState::Failed(Failure::new(
                    Reason::Unavailable,
                    "the agent restarted while this ran: ask for the same operation again",
                ));
                operation.stage = Stage::Finished;
                operation.finished_at = Some(now);
            }
        }
    }
}

/// The journal of one agent. Clones share the writing thread.
#[derive(Debug, Clone)]
pub struct Journal {
    queue: mpsc::Sender<Job>,
    boot_id: Arc<std::sync::Mutex<Option<String>>>,
    meters: Arc<std::sync::Mutex<Vec<Meter>>>,
}

#[derive(Debug)]
struct Job {
    name: String,
    /// The new content; none removes the file.
    content: Option<Vec<u8>>,
    done: oneshot::Sender<Result<(), Failure>>,
}

impl Journal {
    /// Reads every record and starts the writing thread. Operations that ran are recorded as failed, see
    /// [`Record`]; files that an interrupted write left beside are removed.
    ///
    /// # Errors
    /// A file is damaged or was written by a newer agent; the message names the file and what to do.
    pub fn open(mut storage: Box<dyn Storage>, clock: &dyn Clock) -> Result<(Self, Vec<Record>), Failure> {
        let mut records = Vec::new();
        let mut node = NodeRecord::default();
        let mut meters = Vec::new();
        for name in storage.list().map_err(|error| unreadable(&error))? {
            if name.ends_with(storage::BESIDE) {
                storage.remove(&name).map_err(|error| unreadable(&error))?;
            } else if name.starts_with(METER) {
                let meter: Meter = format::decode(&name, &storage.read(&name).map_err(|error| unreadable(&error))?)?;
                if meter_name(meter.instance_id) != name {
                    return Err(format::damaged(&name, "it speaks of another instance than its name"));
                }
                meters.push(meter);
            } else if name == NODE_FILE {
                node = format::decode(&name, &storage.read(&name).map_err(|error| unreadable(&error))?)?;
            } else {
                let mut record: Record =
                    format::decode(&name, &storage.read(&name).map_err(|error| unreadable(&error))?)?;
                if record.instance_id.to_string() != name {
                    return Err(format::damaged(&name, "it speaks of another instance than its name"));
                }
                record.settle(clock.now());
                records.push(record);
            }
        }
        let (queue, jobs) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || write_all(storage, jobs))
            .map_err(|error| Failure::internal(format!("the journal's thread does not start: {error}")))?;
        let (boot_id, meters) =
            (Arc::new(std::sync::Mutex::new(node.boot_id)), Arc::new(std::sync::Mutex::new(meters)));
        Ok((Self { queue, boot_id, meters }, records))
    }

    /// Makes a record durable; on return it is.
    ///
    /// # Errors
    /// The disk is full or broken: nothing may be done that rests on the record.
    pub async fn save(&self, record: &Record) -> Result<(), Failure> {
        self.write(record.instance_id.to_string(), Some(format::encode(record)?)).await
    }

    /// Forgets an instance.
    ///
    /// # Errors
    /// As [`Journal::save`].
    pub async fn forget(&self, instance: InstanceId) -> Result<(), Failure> {
        self.write(instance.to_string(), None).await
    }

    /// What was found of the instances' usage when the journal was opened; nothing the second time.
    #[must_use]
    pub fn take_meters(&self) -> Vec<Meter> {
        std::mem::take(&mut self.meters.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Makes what an instance used durable.
    ///
    /// # Errors
    /// As [`Journal::save`].
    pub async fn save_meter(&self, meter: &Meter) -> Result<(), Failure> {
        self.write(meter_name(meter.instance_id), Some(format::encode(meter)?)).await
    }

    /// Forgets what an instance used.
    ///
    /// # Errors
    /// As [`Journal::save`].
    pub async fn forget_meter(&self, instance: InstanceId) -> Result<(), Failure> {
        self.write(meter_name(instance), None).await
    }

    /// The boot of the host whose instances have all been started again; none when never recorded.
    #[must_use]
    pub fn boot_id(&self) -> Option<String> {
        self.boot_id.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Records that this boot's instances have been started again.
    ///
    /// # Errors
    /// As [`Journal::save`].
    pub async fn save_boot_id(&self, boot_id: &str) -> Result<(), Failure> {
        let node = NodeRecord { boot_id: Some(boot_id.to_owned()) };
        self.write(NODE_FILE.to_owned(), Some(format::encode(&node)?)).await?;
        *self.boot_id.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = node.boot_id;
        Ok(())
    }

    async fn write(&self, name: String, content: Option<Vec<u8>>) -> Result<(), Failure> {
        let gone = || Failure::internal("the journal's thread has ended");
        let (done, answer) = oneshot::channel();
        self.queue.send(Job { name, content, done }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn meter_name(instance: InstanceId) -> String {
    format!("{METER}{instance}")
}

fn write_all(mut storage: Box<dyn Storage>, mut jobs: mpsc::Receiver<Job>) {
    let (mut batch, mut unsynced) = (Vec::with_capacity(BATCH), 0u32);
    while jobs.blocking_recv_many(&mut batch, BATCH) > 0 {
        let written = put_in_place(storage.as_mut(), &batch, unsynced);
        let synced = storage.sync_folder();
        unsynced = unsynced.wrapping_add(u32::from(synced.is_err()));
        for (job, result) in batch.drain(..).zip(written) {
            let outcome = match (&result, &synced) {
                (Ok(()), Ok(())) => Ok(()),
                (Err(error), _) | (Ok(()), Err(error)) => Err(unwritable(error)),
            };
            // Whoever asked may have gone; what is written stays written.
            drop(job.done.send(outcome));
        }
    }
}

/// Writes all beside first, then syncs them: the first flush takes most of the others' data along. What lies beside
/// afterwards may be overwritten only when the folder was synced, for until then a loss of power may find it in its old
/// place: so the next batch writes over it, and after each time that the folder could not be synced (`unsynced` counts them) other files are taken.
fn put_in_place(storage: &mut dyn Storage, batch: &[Job], unsynced: u32) -> Vec<std::io::Result<()>> {
    let beside: Vec<String> = (0..batch.len()).map(|at| format!("{unsynced}-{at}{}", storage::BESIDE)).collect();
    let jobs = || batch.iter().zip(&beside);
    let write = |(job, beside): (&Job, &String)| match &job.content {
        Some(content) => storage.write(beside, content),
        None => Ok(()),
    };
    let written: Vec<std::io::Result<()>> = jobs().map(write).collect();
    let sync = |((job, beside), written): ((&Job, &String), std::io::Result<()>)| match &job.content {
        Some(_) => written.and_then(|()| storage.sync(beside)),
        None => written,
    };
    let synced: Vec<std::io::Result<()>> = jobs().zip(written).map(sync).collect();
    let place = |((job, beside), synced): ((&Job, &String), std::io::Result<()>)| match &job.content {
        Some(_) => synced.and_then(|()| storage.swap(beside, &job.name)),
        None => synced.and_then(|()| storage.remove(&job.name)),
    };
    jobs().zip(synced).map(place).collect()
}

fn unwritable(error: &std::io::Error) -> Failure {
    if error.kind() == std::io::ErrorKind::StorageFull {
        return Failure::new(Reason::DiskFull, "the disk of the agent's data_dir is full: make room")
            .with_context(error);
    }
    Failure::internal(format!("the journal cannot be written: {error}"))
}

fn unreadable(error: &std::io::Error) -> Failure {
    Failure::new(Reason::Internal, "the journal in data_dir/journal cannot be read: check its owner and the disk")
        .with_context(error)
}

#[cfg(test)]
mod tests;
