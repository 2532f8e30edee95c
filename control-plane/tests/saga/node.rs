//! A node that keeps the rules of an agent (operation ids, numbers, tombstones) in memory, with faults on command; and a
//! login that succeeds with exactly the password that was set.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, BoxStream, StreamExt as _};
use jiff::Timestamp;
use nemordp_control_plane::saga::LoginProver;
use nemordp_proof::{Credential, Evidence, Readiness, Stage as ProofStage, Target, Verdict};
use nemordp_providers::{Capabilities, Change, Place, Provider};
use nemordp_types::guest::{Account, AccountState, GuestSession, LoginRefusal};
use nemordp_types::instance::{DesiredPower, Edition, InstanceSpec, InstanceStatus, ObservedPower, PowerAction};
use nemordp_types::node::{NodeInventory, NodeLoad};
use nemordp_types::operation::{Operation, OperationKind, OperationState, Stage};
use nemordp_types::template::{TemplatePresence, TemplateState};
use nemordp_types::{
    Bytes, Failure, GiB, HostName, InstanceId, LoginName, Mutation, NodeId, OperationId, Pair, Reason, Template,
    TemplateDigest,
};
use secrecy::ExposeSecret as _;

/// The certificate that the guest on an order's own disk shows.
pub(crate) const CERTIFICATE: [u8; 32] = [7; 32];

/// A disk with the system on it.
#[derive(Debug, Clone)]
pub(crate) struct Disk {
    pub(crate) size: GiB,
    pub(crate) password: Option<String>,
    pub(crate) host_name: HostName,
}

/// What a node has of an instance.
#[derive(Debug, Clone)]
pub(crate) struct Guest {
    pub(crate) spec: InstanceSpec,
    pub(crate) running: bool,
    pub(crate) disks: BTreeMap<Edition, Disk>,
    pub(crate) sessions: Vec<GuestSession>,
}

impl Guest {
    fn new(spec: &InstanceSpec) -> Self {
        let mut guest = Self { spec: spec.clone(), running: false, disks: BTreeMap::new(), sessions: Vec::new() };
        guest.follow(spec);
        guest
    }

    /// The disk that it boots from.
    pub(crate) fn disk(&self) -> &Disk {
        &self.disks[&self.spec.disks.boots()]
    }

    /// The password that opens it now.
    pub(crate) fn password(&self) -> Option<&str> {
        self.disk().password.as_deref()
    }

    /// The certificate that it shows: another one on each disk.
    pub(crate) fn certificate(&self) -> [u8; 32] {
        match self.spec.disks.boots() {
            Edition(0) => CERTIFICATE,
            Edition(number) => [u8::try_from(number).unwrap(); 32],
        }
    }

    /// The rules of `agent/src/instance/plan.rs`.
    fn refuses(&self, wanted: &InstanceSpec) -> Option<Failure> {
        let own = self.disks.get(&wanted.disks.system)?;
        let shrinks = wanted.disk < own.size && self.spec.disks.system == wanted.disks.system;
        shrinks.then(|| Failure::new(Reason::DiskTooSmall, "a disk only grows").with_field("spec.disk_gib"))
    }

    fn follow(&mut self, wanted: &InstanceSpec) {
        let fresh = || Disk { size: wanted.disk, password: None, host_name: HostName::new("template").unwrap() };
        for edition in [Some(wanted.disks.system), wanted.disks.rescue].into_iter().flatten() {
            self.disks.entry(edition).or_insert_with(fresh);
        }
        let own = self.disks.get_mut(&wanted.disks.system).unwrap();
        own.size = own.size.max(wanted.disk);
        let size = |spec: &InstanceSpec| (spec.vcpu, spec.memory, spec.disk, spec.disks.boots());
        let runs = wanted.effective_power() == DesiredPower::On;
        if size(&self.spec) != size(wanted) || !runs {
            self.sessions.clear();
        }
        self.spec = wanted.clone();
        self.running = runs;
        self.disks.retain(|edition, _| wanted.disks.needs(*edition));
        self.personalise();
    }

    /// A guest that runs has the names that are wanted.
    fn personalise(&mut self) {
        if self.running {
            self.disks.get_mut(&self.spec.disks.boots()).unwrap().host_name = self.spec.guest.host_name.clone();
        }
    }

    fn power(&mut self, action: PowerAction) -> OperationState {
        if self.spec.suspended && action != PowerAction::Stop {
            return OperationState::Failed(Failure::new(Reason::Conflict, "suspended"));
        }
        self.running = action != PowerAction::Stop;
        self.spec.power = if self.running { DesiredPower::On } else { DesiredPower::Off };
        if action != PowerAction::Start {
            self.sessions.clear();
        }
        self.personalise();
        OperationState::Succeeded
    }
}

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
struct Memory {
    guests: BTreeMap<(NodeId, InstanceId), Guest>,
    journal: BTreeMap<(NodeId, OperationId), Operation>,
    pairs: BTreeMap<(NodeId, InstanceId), Pair>,
    tombstones: BTreeSet<(NodeId, InstanceId)>,
    faults: Vec<(OperationKind, Fault, u32)>,
    made: BTreeMap<(NodeId, InstanceId), u32>,
    stale: u32,
    verdicts: VecDeque<Verdict>,
    proofs: u32,
    proofs_hang: bool,
    prepared: Vec<(NodeId, TemplateDigest)>,
    prepare_fails: Option<Failure>,
}

/// All nodes, and who logs in.
#[derive(Debug, Default)]
pub(crate) struct FakeNodes(Mutex<Memory>);

impl FakeNodes {
    fn memory(&self) -> MutexGuard<'_, Memory> {
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
    }

    /// Logins never end, until it is healed.
    pub(crate) fn proofs_hang(&self) {
        self.memory().proofs_hang = true;
    }

    /// Somebody removes an instance by hand.
    pub(crate) fn remove_by_hand(&self, id: InstanceId) {
        self.memory().guests.retain(|(_, found), _| *found != id);
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

fn session(login: &LoginName, id: &str) -> GuestSession {
    GuestSession { id: id.to_owned(), login_name: login.clone(), started_at: None }
}

impl Memory {
    fn take_fault(&mut self, kind: OperationKind) -> Option<Fault> {
        let (_, fault, times) = self.faults.iter_mut().find(|(of, _, times)| *of == kind && *times > 0)?;
        *times -= 1;
        Some(fault.clone())
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

    fn change(&mut self, node: NodeId, mutation: Mutation, change: &Change) -> Result<Operation, Failure> {
        let kind = change.kind();
        let unreachable = || Failure::new(Reason::NodeUnreachable, "no answer");
        let fault = self.take_fault(kind);
        if matches!(fault, Some(Fault::Unreachable)) {
            return Err(unreachable());
        }
        if let Some(known) = self.admit(node, &mutation, kind)? {
            return Ok(known);
        }
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

    fn status(&self, node: NodeId, id: InstanceId) -> Result<InstanceStatus, Failure> {
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
        })
    }
}

impl Provider for FakeNodes {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            power: true,
            idempotent_changes: true,
            account_state: true,
            sessions: true,
            live_password: true,
            resize: true,
            snapshot: false,
            console: false,
        }
    }

    fn send<'a>(
        &'a self,
        place: &'a Place,
        mutation: Mutation,
        change: &'a Change,
    ) -> BoxFuture<'a, Result<Operation, Failure>> {
        async move {
            // A crash can come before the node heard of it, and after it did it.
            tokio::task::yield_now().await;
            let outcome = self.memory().change(place.node, mutation, change);
            tokio::task::yield_now().await;
            outcome
        }
        .boxed()
    }

    fn operation<'a>(&'a self, place: &'a Place, id: OperationId) -> BoxFuture<'a, Result<Operation, Failure>> {
        let found = self.memory().journal.get(&(place.node, id)).cloned();
        async move { found.ok_or_else(|| Failure::new(Reason::NotFound, "no such operation")) }.boxed()
    }

    fn hints<'a>(&'a self, _place: &'a Place, _id: OperationId) -> BoxFuture<'a, BoxStream<'static, ()>> {
        async { stream::pending().boxed() }.boxed()
    }

    fn status<'a>(&'a self, place: &'a Place, id: InstanceId) -> BoxFuture<'a, Result<InstanceStatus, Failure>> {
        async move { self.memory().status(place.node, id) }.boxed()
    }

    fn instances<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Vec<InstanceStatus>, Failure>> {
        async move {
            let memory = self.memory();
            memory.guests.keys().filter(|(node, _)| *node == place.node).map(|(n, i)| memory.status(*n, *i)).collect()
        }
        .boxed()
    }

    fn account<'a>(
        &'a self,
        _place: &'a Place,
        _id: InstanceId,
        login: &'a LoginName,
        _since: Timestamp,
    ) -> BoxFuture<'a, Result<Account, Failure>> {
        let last_refusal = Some(LoginRefusal::Authentication);
        async move { Ok(Account { login_name: login.clone(), state: AccountState::Usable, last_refusal }) }.boxed()
    }

    fn sessions<'a>(&'a self, place: &'a Place, id: InstanceId) -> BoxFuture<'a, Result<Vec<GuestSession>, Failure>> {
        async move {
            let memory = self.memory();
            let guest = memory.guests.get(&(place.node, id));
            guest.map(|guest| guest.sessions.clone()).ok_or_else(|| Failure::new(Reason::NotFound, "no such instance"))
        }
        .boxed()
    }

    fn template_prepare<'a>(
        &'a self,
        place: &'a Place,
        template: &'a Template,
    ) -> BoxFuture<'a, Result<TemplatePresence, Failure>> {
        let mut memory = self.memory();
        memory.prepared.push((place.node, template.digest));
        let state = memory.prepare_fails.clone().map_or(TemplateState::Fetching, TemplateState::Failed);
        let presence = TemplatePresence { digest: template.digest, state, fetched: Bytes::ZERO };
        async move { Ok(presence) }.boxed()
    }

    fn inventory<'a>(&'a self, _place: &'a Place) -> BoxFuture<'a, Result<(NodeInventory, NodeLoad), Failure>> {
        async { Err(Failure::new(Reason::Unavailable, "sagas do not ask for it")) }.boxed()
    }
}

impl LoginProver for FakeNodes {
    fn readiness(&self, _address: SocketAddr, _deadline: Duration) -> BoxFuture<'_, Readiness> {
        async { Readiness::Ready }.boxed()
    }

    fn prove<'a>(
        &'a self,
        target: &'a Target,
        credential: &'a Credential,
        _deadline: Duration,
    ) -> BoxFuture<'a, Verdict> {
        async move {
            tokio::task::yield_now().await;
            let hangs = self.memory().proofs_hang;
            if hangs {
                std::future::pending::<()>().await;
            }
            let mut memory = self.memory();
            memory.proofs += 1;
            if let Some(verdict) = memory.verdicts.pop_front() {
                return verdict;
            }
            let at = |guest: &&mut Guest| guest.spec.network.endpoint.socket_addr() == target.address && guest.running;
            let Some(guest) = memory.guests.values_mut().find(at) else {
                return Verdict::NoAnswer { detail: "nobody".to_owned() };
            };
            if guest.password() != Some(credential.password.expose_secret()) {
                return Verdict::Dropped { stage: ProofStage::CredentialSent };
            }
            guest.sessions.push(session(&credential.login_name, "proof"));
            Verdict::Accepted { evidence: Evidence::SessionChannel }
        }
        .boxed()
    }
}
