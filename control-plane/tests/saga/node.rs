//! Nodes that keep the rules of an agent (operation ids, numbers, tombstones) in memory, with faults on command.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard};

use jiff::Timestamp;
use nemordp_proof::Verdict;
use nemordp_providers::Change;
use nemordp_types::instance::{DesiredPower, InstanceSpec, InstanceStatus, ObservedPower, PowerAction};
use nemordp_types::operation::{Operation, OperationKind, OperationState, Stage};
use nemordp_types::suspension::{ScheduledSuspension, SuspensionReport};
use nemordp_types::{
    Bytes, Failure, Generation, InstanceId, Mutation, NodeId, OperationId, Pair, Reason, TemplateDigest,
};
use secrecy::ExposeSecret as _;

use crate::guest::{Guest, session};

/// How a change goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Recorded as failed, nothing was done.
    Fails(Reason),
    /// Done and recorded, but the answer is lost.
    AnswerLost,
    /// The node cannot be reached.
    Unreachable,
    /// Accepted, and never ends.
    Hangs,
    /// Done, and recorded as failed all the same: what came after it did not work.
    FailsLate(Reason),
}

#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) guests: BTreeMap<(NodeId, InstanceId), Guest>,
    pub(crate) journal: BTreeMap<(NodeId, OperationId), Operation>,
    pairs: BTreeMap<(NodeId, InstanceId), Pair>,
    tombstones: BTreeSet<(NodeId, InstanceId)>,
    faults: Vec<(OperationKind, Fault, u32)>,
    made: BTreeMap<(NodeId, InstanceId), u32>,
    stale: u32,
    pub(crate) verdicts: VecDeque<Verdict>,
    pub(crate) proofs: u32,
    pub(crate) proofs_hang: bool,
    pub(crate) prepared: Vec<(NodeId, TemplateDigest)>,
    pub(crate) prepare_fails: Option<Failure>,
    /// Nodes that nobody reaches; they run on.
    pub(crate) cut: BTreeSet<NodeId>,
    /// Nodes that are off.
    off: BTreeSet<NodeId>,
    /// What does not start below a higher generation.
    withdrawn: BTreeMap<(NodeId, InstanceId), Generation>,
    suspensions: BTreeMap<(NodeId, InstanceId), ScheduledSuspension>,
}

/// All nodes, and who logs in.
#[derive(Debug, Default)]
pub(crate) struct FakeNodes(Mutex<Memory>);

impl FakeNodes {
    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap()
    }

    /// The next `times` changes of this kind go wrong.
    pub(crate) fn fault(&self, kind: OperationKind, fault: Fault, times: u32) {
        self.memory().faults.push((kind, fault, times));
    }

    pub(crate) fn heal(&self) {
        let mut memory = self.memory();
        memory.faults.clear();
        memory.verdicts.clear();
        memory.proofs_hang = false;
        memory.cut.clear();
    }

    /// Logins never end, until it is healed.
    pub(crate) fn proofs_hang(&self) {
        self.memory().proofs_hang = true;
    }

    /// Somebody removes an instance by hand.
    pub(crate) fn remove_by_hand(&self, id: InstanceId) {
        self.memory().guests.retain(|(_, found), _| *found != id);
    }

    /// Somebody removes by hand what is left of an instance on one node.
    pub(crate) fn remove_from(&self, node: NodeId, id: InstanceId) {
        self.memory().guests.remove(&(node, id));
    }

    /// The next logins end like this, whatever the password.
    pub(crate) fn verdict(&self, verdict: Verdict) {
        self.memory().verdicts.push_back(verdict);
    }

    pub(crate) fn guests(&self) -> Vec<(NodeId, InstanceId, Guest)> {
        self.memory().guests.iter().map(|((node, id), guest)| (*node, *id, guest.clone())).collect()
    }

    pub(crate) fn guest(&self, id: InstanceId) -> Option<(NodeId, Guest)> {
        self.guests().into_iter().find(|(_, found, _)| *found == id).map(|(node, _, guest)| (node, guest))
    }

    /// How often this instance was made from nothing on any one node, at most.
    pub(crate) fn made(&self, id: InstanceId) -> u32 {
        self.memory().made.iter().filter(|((_, made), _)| *made == id).map(|(_, times)| *times).max().unwrap_or(0)
    }

    /// Changes that were refused because newer work was seen.
    pub(crate) fn stale(&self) -> u32 {
        self.memory().stale
    }

    /// Which nodes were asked to fetch what, in order.
    pub(crate) fn prepared(&self) -> Vec<(NodeId, TemplateDigest)> {
        self.memory().prepared.clone()
    }

    /// Nodes cannot fetch templates for this reason.
    pub(crate) fn prepare_fails(&self, failure: Option<Failure>) {
        self.memory().prepare_fails = failure;
    }

    /// Nobody reaches a node any more, or again; it runs on.
    pub(crate) fn cut(&self, node: NodeId, cut: bool) {
        let mut memory = self.memory();
        memory.cut.remove(&node);
        memory.cut.extend(cut.then_some(node));
    }

    /// A machine loses its power, or comes back; what ran does not run by itself before it was heard.
    pub(crate) fn switch_off(&self, node: NodeId, off: bool) {
        let mut memory = self.memory();
        memory.off.remove(&node);
        memory.off.extend(off.then_some(node));
        for ((of, _), guest) in &mut memory.guests {
            if *of == node && off {
                guest.running = false;
                guest.sessions.clear();
            }
        }
    }

    pub(crate) fn is_away(&self, node: NodeId) -> bool {
        self.memory().is_away(node)
    }

    /// A node heard what it may not run, and starts the rest that should run.
    pub(crate) fn heard(&self, node: NodeId, withdrawn: &[(InstanceId, Generation)]) {
        let mut memory = self.memory();
        for (id, generation) in withdrawn {
            let key = (node, *id);
            if *generation < memory.pairs.get(&key).copied().unwrap_or_default().generation {
                continue;
            }
            memory.withdrawn.insert(key, *generation);
            if let Some(guest) = memory.guests.get_mut(&key) {
                guest.running = false;
                guest.sessions.clear();
            }
        }
        let Memory { guests, withdrawn, .. } = &mut *memory;
        for (key, guest) in guests.iter_mut().filter(|(key, _)| key.0 == node && !withdrawn.contains_key(key)) {
            let on = guest.spec.effective_power() == DesiredPower::On;
            assert!(on || !guest.running, "{key:?} runs although it should not");
            guest.running = on;
        }
    }

    /// Nodes that have power suspend what is due, whoever can be reached.
    pub(crate) fn time_comes(&self, now: Timestamp) {
        let mut memory = self.memory();
        let Memory { guests, suspensions, off, .. } = &mut *memory;
        for (key, suspension) in suspensions.iter_mut() {
            if off.contains(&key.0) || suspension.done_at.is_some() || suspension.at > now {
                continue;
            }
            if let Some(guest) = guests.get_mut(key) {
                let spec = InstanceSpec { suspended: true, ..guest.spec.clone() };
                guest.follow(&spec);
            }
            suspension.done_at = Some(now);
        }
    }

    /// What a node has to tell of suspensions.
    pub(crate) fn suspended(&self, node: NodeId) -> Vec<SuspensionReport> {
        let memory = self.memory();
        let done = memory.suspensions.iter().filter(|((of, _), _)| *of == node).filter_map(|((_, id), suspension)| {
            let (instance_id, operation_id) = (*id, suspension.mutation.operation_id);
            suspension.done_at.map(|done_at| SuspensionReport { instance_id, operation_id, done_at })
        });
        done.collect()
    }

    /// What it told was received.
    pub(crate) fn suspension_received(&self, node: NodeId, report: &SuspensionReport) {
        self.memory().suspensions.remove(&(node, report.instance_id));
    }

    /// What a node is to do at a time.
    pub(crate) fn scheduled(&self, node: NodeId, id: InstanceId) -> Option<Timestamp> {
        self.memory().suspensions.get(&(node, id)).map(|suspension| suspension.at)
    }

    pub(crate) fn proofs(&self) -> u32 {
        self.memory().proofs
    }

    /// A desktop session that the customer has open.
    pub(crate) fn customer_logs_in(&self, id: InstanceId) {
        for ((_, found), guest) in &mut self.memory().guests {
            if *found == id {
                guest.sessions.push(session(&guest.spec.guest.login_name.clone(), "customer"));
            }
        }
    }
}

impl Memory {
    fn take_fault(&mut self, kind: OperationKind) -> Option<Fault> {
        let (_, fault, times) = self.faults.iter_mut().find(|(of, _, times)| *of == kind && *times > 0)?;
        *times -= 1;
        Some(fault.clone())
    }

    fn is_away(&self, node: NodeId) -> bool {
        self.cut.contains(&node) || self.off.contains(&node)
    }

    pub(crate) fn require_here(&self, node: NodeId) -> Result<(), Failure> {
        if self.is_away(node) { Err(Failure::new(Reason::NodeUnreachable, "no answer")) } else { Ok(()) }
    }

    /// What was withdrawn does not start unless it is wanted here again.
    fn admit_start(&mut self, node: NodeId, mutation: &Mutation, change: &Change) -> Result<(), Failure> {
        let starts = match change {
            Change::Ensure(spec) | Change::Reconfigure(spec) => spec.effective_power() == DesiredPower::On,
            Change::Power(action) => *action != PowerAction::Stop,
            Change::Delete | Change::SetPassword { .. } | Change::EndSessions { .. } => false,
        };
        let key = (node, mutation.instance_id);
        match self.withdrawn.get(&key) {
            Some(withdrawn) if starts && mutation.pair.generation <= *withdrawn => {
                Err(Failure::new(Reason::StaleGeneration, "it was withdrawn"))
            }
            Some(_) if starts => {
                self.withdrawn.remove(&key);
                Ok(())
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The table of `agent/src/instance/admission.rs`.
    fn admit(&mut self, node: NodeId, mutation: &Mutation, kind: OperationKind) -> Result<Option<Operation>, Failure> {
        let key = (node, mutation.instance_id);
        if self.tombstones.contains(&key) && kind != OperationKind::DeleteInstance {
            return Err(Failure::new(Reason::InstanceDeleted, "deleted here"));
        }
        let known = self.journal.get(&(node, mutation.operation_id)).cloned();
        if let Some(known) = known.as_ref().filter(|known| known.state == OperationState::Succeeded) {
            return Ok(Some(known.clone()));
        }
        let highest = self.pairs.entry(key).or_default();
        if mutation.pair < *highest {
            self.stale += 1;
            return Err(Failure::new(Reason::StaleGeneration, "newer work was seen"));
        }
        *highest = mutation.pair;
        Ok(known.filter(|known| known.state == OperationState::Running))
    }

    fn act(&mut self, node: NodeId, id: InstanceId, change: &Change) -> OperationState {
        let key = (node, id);
        match change {
            Change::Ensure(spec) | Change::Reconfigure(spec) => {
                match self.guests.get_mut(&key) {
                    None => {
                        *self.made.entry(key).or_default() += 1;
                        self.guests.insert(key, Guest::new(spec));
                    }
                    Some(guest) => match guest.refuses(spec) {
                        Some(refusal) => return OperationState::Failed(refusal),
                        None => guest.follow(spec),
                    },
                }
                return OperationState::Succeeded;
            }
            Change::Delete => {
                self.guests.remove(&key);
                self.tombstones.insert(key);
                return OperationState::Succeeded;
            }
            Change::Power(_) | Change::SetPassword { .. } | Change::EndSessions { .. } => {}
        }
        let Some(guest) = self.guests.get_mut(&key) else {
            return OperationState::Failed(Failure::new(Reason::NotFound, "no such instance"));
        };
        match change {
            Change::Power(action) => return guest.power(*action),
            Change::SetPassword { .. } | Change::EndSessions { .. } if !guest.running => {
                return OperationState::Failed(Failure::new(Reason::Conflict, "does not run"));
            }
            Change::SetPassword { password, .. } => {
                let boots = guest.spec.disks.boots();
                guest.disks.get_mut(&boots).unwrap().password = Some(password.expose_secret().to_owned());
            }
            Change::EndSessions { proof_only, .. } => {
                guest.sessions.retain(|session| *proof_only && session.id != "proof");
            }
            Change::Ensure(_) | Change::Reconfigure(_) | Change::Delete => {}
        }
        OperationState::Succeeded
    }

    pub(crate) fn change(&mut self, node: NodeId, mutation: Mutation, change: &Change) -> Result<Operation, Failure> {
        self.require_here(node)?;
        let kind = change.kind();
        let unreachable = || Failure::new(Reason::NodeUnreachable, "no answer");
        let fault = self.take_fault(kind);
        if matches!(fault, Some(Fault::Unreachable)) {
            return Err(unreachable());
        }
        if let Some(known) = self.admit(node, &mutation, kind)? {
            return Ok(known);
        }
        self.admit_start(node, &mutation, change)?;
        let state = match &fault {
            Some(Fault::Fails(reason)) => OperationState::Failed(Failure::new(*reason, "as the test wants it")),
            Some(Fault::Hangs) => OperationState::Running,
            Some(Fault::FailsLate(reason)) => {
                self.act(node, mutation.instance_id, change);
                OperationState::Failed(Failure::new(*reason, "as the test wants it, late"))
            }
            Some(Fault::AnswerLost | Fault::Unreachable) | None => self.act(node, mutation.instance_id, change),
        };
        let stage = if state == OperationState::Running { Stage::Disk } else { Stage::Finished };
        let (accepted_at, finished_at) = (Timestamp::UNIX_EPOCH, None);
        let operation = Operation { mutation, kind, stage, percent: None, state, accepted_at, finished_at };
        self.journal.insert((node, mutation.operation_id), operation.clone());
        if matches!(fault, Some(Fault::AnswerLost)) { Err(unreachable()) } else { Ok(operation) }
    }

    pub(crate) fn schedule(&mut self, node: NodeId, mutation: Mutation, at: Option<Timestamp>) -> Result<(), Failure> {
        self.require_here(node)?;
        let key = (node, mutation.instance_id);
        if self.tombstones.contains(&key) {
            return Err(Failure::new(Reason::InstanceDeleted, "deleted here"));
        }
        if !self.guests.contains_key(&key) {
            return Err(Failure::new(Reason::NotFound, "no such instance"));
        }
        let highest = self.pairs.entry(key).or_default();
        if mutation.pair < *highest {
            return Err(Failure::new(Reason::StaleGeneration, "newer work was seen"));
        }
        *highest = mutation.pair;
        let known = self.suspensions.get(&key);
        if known.is_some_and(|known| at.is_some() && known.mutation.operation_id == mutation.operation_id) {
            return Ok(());
        }
        if known.is_some_and(|known| known.done_at.is_some()) {
            return Err(Failure::new(Reason::Conflict, "it has happened"));
        }
        match at {
            Some(at) => drop(self.suspensions.insert(key, ScheduledSuspension { mutation, at, done_at: None })),
            None => drop(self.suspensions.remove(&key)),
        }
        Ok(())
    }

    pub(crate) fn status(&self, node: NodeId, id: InstanceId) -> Result<InstanceStatus, Failure> {
        let guest = self.guests.get(&(node, id)).ok_or_else(|| Failure::new(Reason::NotFound, "no such instance"))?;
        Ok(InstanceStatus {
            instance_id: id,
            order_id: guest.spec.order_id,
            pair: self.pairs.get(&(node, id)).copied().unwrap_or_default(),
            power: if guest.running { ObservedPower::Running } else { ObservedPower::Off },
            guest_agent: true,
            confirmed_ipv4: Some(guest.spec.network.private_ipv4),
            rdp_certificate_sha256: Some(guest.certificate()),
            started_at: None,
            vcpu: guest.spec.vcpu,
            memory: guest.spec.memory,
            disk: Bytes::from(guest.disks[&guest.spec.disks.system].size),
            gpus: Some(guest.spec.gpus.as_ref().map_or(0, |gpus| gpus.count)),
        })
    }
}
