//! The fake nodes as the provider asks them, and a login that succeeds with exactly the password that was set.

use std::net::SocketAddr;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use jiff::Timestamp;
use nemordp_control_plane::saga::LoginProver;
use nemordp_proof::{Credential, Evidence, Readiness, Stage as ProofStage, Target, Verdict};
use nemordp_providers::{Capabilities, Change, Place, Provider};
use nemordp_types::guest::{Account, AccountState, GuestSession, LoginRefusal};
use nemordp_types::instance::InstanceStatus;
use nemordp_types::node::{NodeInventory, NodeLoad};
use nemordp_types::operation::Operation;
use nemordp_types::template::{TemplatePresence, TemplateState};
use nemordp_types::{Bytes, Failure, InstanceId, LoginName, Mutation, NodeId, OperationId, Reason, Template};
use secrecy::ExposeSecret as _;

use crate::guest::{Guest, session};
use crate::node::{FakeNodes, Memory};

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
        _wait: Duration,
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

    fn operation<'a>(
        &'a self,
        place: &'a Place,
        id: OperationId,
        _wait: Duration,
    ) -> BoxFuture<'a, Result<Operation, Failure>> {
        let found = self.memory().journal.get(&(place.node, id)).cloned();
        async move { found.ok_or_else(|| Failure::new(Reason::NotFound, "no such operation")) }.boxed()
    }

    fn status<'a>(&'a self, place: &'a Place, id: InstanceId) -> BoxFuture<'a, Result<InstanceStatus, Failure>> {
        async move {
            let memory = self.memory();
            memory.require_here(place.node)?;
            memory.status(place.node, id)
        }
        .boxed()
    }

    fn instances<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Vec<InstanceStatus>, Failure>> {
        async move {
            let memory = self.memory();
            memory.require_here(place.node)?;
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
            memory.require_here(place.node)?;
            let guest = memory.guests.get(&(place.node, id));
            guest.map(|guest| guest.sessions.clone()).ok_or_else(|| Failure::new(Reason::NotFound, "no such instance"))
        }
        .boxed()
    }

    fn suspend_at<'a>(
        &'a self,
        place: &'a Place,
        mutation: Mutation,
        at: Option<Timestamp>,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        async move { self.memory().schedule(place.node, mutation, at) }.boxed()
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
            let Memory { guests, cut, .. } = &mut *memory;
            let at = |found: &(&(NodeId, InstanceId), &mut Guest)| {
                let (key, guest) = found;
                let there = guest.spec.network.endpoint.socket_addr() == target.address && !cut.contains(&key.0);
                there && guest.running && guest.forwarded
            };
            let Some((_, guest)) = guests.iter_mut().find(at) else {
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
