//! Finds the task of an instance, and adopts at start what the hypervisor shows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use nemordp_types::instance::{DesiredPower, ObservedPower};
use nemordp_types::operation::Operation;
use nemordp_types::{Failure, Generation, InstanceId, Mutation, OperationId, Reason};
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::plan::{self, Job, Work};
use super::task::{MAILBOX, Message, Task};
use crate::host::{Binding, Host, HostInstance};
use crate::journal::Record;

/// How long running steps may take to end when the agent stops.
const STOP: Duration = Duration::from_secs(20);

/// Every instance's task.
#[derive(Debug)]
pub struct Registry<H> {
    shared: Arc<Shared<H>>,
    tasks: Mutex<HashMap<InstanceId, mpsc::Sender<Message>>>,
    /// Instances that should run and were found off after a reboot of the host, and the boot they wait for.
    waiting: Mutex<Option<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    instances: Vec<InstanceId>,
    boot_id: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<H: Host> Registry<H> {
    /// Adopts what is there, without disturbing it: reads the instances back, rebuilds the node's network for exactly
    /// these, and only then takes requests. The numbers of an instance are the higher of journal and mark.
    ///
    /// # Errors
    /// The hypervisor does not answer, or the network cannot be built.
    pub async fn adopt(shared: Arc<Shared<H>>, records: Vec<Record>) -> Result<Arc<Self>, Failure> {
        let mut present: HashMap<InstanceId, HostInstance> =
            shared.host.instance_list().await?.into_iter().map(|i| (i.mark.instance_id, i)).collect();
        let mut records: HashMap<InstanceId, Record> = records.into_iter().map(|r| (r.instance_id, r)).collect();
        for (id, instance) in &present {
            let record = records.entry(*id).or_insert_with(|| Record::new(*id));
            let floor = nemordp_types::Pair { generation: instance.mark.generation, ..Default::default() };
            if floor > record.pair {
                record.pair = floor;
                shared.journal.save(record).await?;
            }
        }
        let living = |id: &InstanceId| records.get(id).is_none_or(|record| record.tombstone.is_none());
        let bindings: Vec<Binding> = present
            .iter()
            .filter(|(id, instance)| living(id) && !instance.spec.suspended)
            .map(|(id, instance)| Binding { instance_id: *id, network: instance.spec.network })
            .collect();
        shared.host.network_rebuild(&bindings).await?;
        let boot_id = shared.host.inventory().await?.boot_id;
        let off = present.iter().filter(|(id, instance)| {
            living(id) && instance.spec.effective_power() == DesiredPower::On && instance.power == ObservedPower::Off
        });
        let instances: Vec<InstanceId> = off.map(|(id, _)| *id).collect();
        let rebooted = shared.journal.boot_id().as_deref() != Some(boot_id.as_str());
        tracing::info!(instances = present.len(), records = records.len(), rebooted, off = instances.len(), "adopted");
        // A journal that was lost remembers no boot: only what is there tells that the node has worked before.
        if rebooted && (shared.journal.boot_id().is_some() || !present.is_empty()) {
            shared.gate.close();
        }
        let waiting = Mutex::new(rebooted.then_some(Waiting { instances, boot_id }));
        let registry = Arc::new(Self { shared, tasks: Mutex::default(), waiting });
        for (id, record) in records {
            registry.spawn(record, present.remove(&id));
        }
        Ok(registry)
    }

    /// Starts what ran before the host's reboot; nothing the second time.
    pub async fn resume_after_reboot(&self) {
        let Some(Waiting { instances, boot_id }) = lock(&self.waiting).take() else { return };
        for id in instances {
            let task = lock(&self.tasks).get(&id).cloned();
            if let Some(task) = task {
                // A task that has ended has nothing to start.
                drop(task.send(Message::Resume).await);
            }
        }
        if let Err(failure) = self.shared.journal.save_boot_id(&boot_id).await {
            tracing::warn!(
                ?failure,
                "the boot was not written down: a restart of the agent starts the instances again"
            );
        }
    }

    /// The control plane says that an instance was moved away or has ended, and at which generation: it does not start
    /// here any more, and is stopped if it runs. Nothing when the node knows of a higher generation.
    pub async fn withdraw(&self, instance: InstanceId, generation: Generation) {
        let task = lock(&self.tasks).get(&instance).cloned();
        if let Some(task) = task {
            let (answer, written) = oneshot::channel();
            // A task that has ended has nothing to withdraw; otherwise nothing else may start before it is written down.
            if task.send(Message::Withdraw { generation, answer }).await.is_ok() {
                drop(written.await);
            }
        }
    }

    /// Keeps when an instance is to be switched off, or that it is not any more; returns when that is written down.
    ///
    /// # Errors
    /// `not_found`, `instance_deleted`, `stale_generation`, `unavailable`.
    pub async fn schedule(&self, mutation: Mutation, at: Option<Timestamp>) -> Result<(), Failure> {
        let task = lock(&self.tasks).get(&mutation.instance_id).cloned().ok_or_else(plan::absent)?;
        let (answer, result) = oneshot::channel();
        task.try_send(Message::Schedule { mutation, at, answer }).map_err(|_| busy())?;
        result.await.map_err(|_| busy())?
    }

    /// The control plane has heard of these suspensions.
    pub async fn suspensions_received(&self, operations: &[OperationId]) {
        for report in self.shared.board.suspensions() {
            let task = lock(&self.tasks).get(&report.instance_id).cloned();
            if let Some(task) = task.filter(|_| operations.contains(&report.operation_id)) {
                // A task that has ended reports nothing any more.
                drop(task.send(Message::SuspensionReceived(report.operation_id)).await);
            }
        }
    }

    /// Hands work to the instance's task; returns when it is journalled, refused or known already.
    ///
    /// # Errors
    /// The refusals of [`super::admission`] and [`super::machine::accepts`], `not_found`, `unavailable`.
    pub async fn submit(&self, work: Work) -> Result<Operation, Failure> {
        let id = work.mutation.instance_id;
        let task = {
            let known = lock(&self.tasks).get(&id).cloned();
            match (known, &work.job) {
                (Some(task), _) => task,
                (None, Job::Ensure(_) | Job::Reconfigure(_) | Job::Delete) => self.spawn(Record::new(id), None),
                (None, Job::Power(_) | Job::SetPassword { .. } | Job::EndSessions { .. }) => return Err(plan::absent()),
            }
        };
        let (answer, result) = oneshot::channel();
        task.try_send(Message::Request { work, by: nemordp_trace::current(), answer }).map_err(|_| busy())?;
        result.await.map_err(|_| busy())?
    }

    /// Tells every task what the hypervisor shows of its instance; adopts one that nobody knew.
    ///
    /// # Errors
    /// The hypervisor does not answer.
    pub async fn observe(&self) -> Result<(), Failure> {
        let mut present: HashMap<InstanceId, HostInstance> =
            self.shared.host.instance_list().await?.into_iter().map(|i| (i.mark.instance_id, i)).collect();
        let tasks: Vec<_> = lock(&self.tasks).iter().map(|(id, task)| (*id, task.clone())).collect();
        for (id, task) in tasks {
            // A full mailbox has more important news.
            drop(task.try_send(Message::Seen(present.remove(&id).map(Box::new))));
        }
        for (id, instance) in present {
            let mut record = Record::new(id);
            record.pair.generation = instance.mark.generation;
            self.shared.journal.save(&record).await?;
            self.spawn(record, Some(instance));
        }
        Ok(())
    }

    /// Drops old outcomes and tombstones.
    pub async fn prune(&self) {
        let tasks: Vec<_> = lock(&self.tasks).iter().map(|(id, task)| (*id, task.clone())).collect();
        for (id, task) in tasks {
            let (answer, over) = oneshot::channel();
            if task.send(Message::Prune { answer }).await.is_ok() && over.await.unwrap_or(false) {
                lock(&self.tasks).remove(&id);
            }
        }
    }

    /// Lets running steps end, interrupts those that wait, takes nothing new. Guests run on.
    pub async fn stop(&self) {
        let tasks: Vec<_> = lock(&self.tasks).drain().map(|(_, task)| task).collect();
        let ended = futures::future::join_all(tasks.into_iter().map(|task| async move {
            let (done, stopped) = oneshot::channel();
            if task.send(Message::Stop { done }).await.is_ok() {
                // A task that ended by itself drops its end.
                drop(stopped.await);
            }
        }));
        if tokio::time::timeout(STOP, ended).await.is_err() {
            tracing::warn!("some steps did not end in time; the same operations run again when they are asked for");
        }
    }

    fn spawn(&self, record: Record, seen: Option<HostInstance>) -> mpsc::Sender<Message> {
        let mut tasks = lock(&self.tasks);
        if let Some(task) = tasks.get(&record.instance_id) {
            return task.clone();
        }
        let (sender, mailbox) = mpsc::channel(MAILBOX);
        tasks.insert(record.instance_id, sender.clone());
        let task = Task::new(Arc::clone(&self.shared), record, seen.map(Box::new), mailbox);
        tokio::spawn(task.run());
        sender
    }
}

fn busy() -> Failure {
    Failure::new(Reason::Unavailable, "the agent is stopping, or too many requests wait for this instance: try again")
}
