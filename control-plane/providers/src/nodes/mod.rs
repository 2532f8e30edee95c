//! Our own nodes: each answers gRPC over mTLS, and its certificate must carry the id of the node that is meant.

mod channel;
mod rpc;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use nemordp_types::guest::{Account, GuestSession};
use nemordp_types::instance::InstanceStatus;
use nemordp_types::node::{NodeInventory, NodeLoad};
use nemordp_types::operation::Operation;
use nemordp_types::template::TemplatePresence;
use nemordp_types::{Failure, InstanceId, LoginName, Mutation, NodeId, OperationId, Template};
use rustls::ClientConfig;

use crate::{Capabilities, Change, Place, Provider};
use channel::Channels;

/// Bounds on the talk with each node.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Calls that are under way at one node at the same time; more wait.
    pub calls: usize,
    /// Calls beside these whose answer waits for an operation's end; what is above is asked again and again instead.
    pub waits: usize,
    /// For one read.
    pub read: Duration,
    /// For handing over a change, which ends when the node has written it down.
    pub send: Duration,
    /// For a question that the guest agent answers.
    pub guest: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 32,
            waits: 128,
            read: Duration::from_secs(5),
            send: Duration::from_secs(10),
            guest: Duration::from_secs(20),
        }
    }
}

/// Talks with the agents of all nodes; one connection to each, made when it is first needed.
#[derive(Debug)]
pub struct Nodes {
    channels: Channels,
    limits: Limits,
}

impl Nodes {
    /// With the control plane's own client certificate; a renewed one in `tls` is used for every new connection.
    #[must_use]
    pub fn new(tls: Arc<ArcSwap<ClientConfig>>, limits: Limits) -> Self {
        Self { channels: Channels::new(tls, limits.calls, limits.waits), limits }
    }

    /// Forgets the connection to a node, after it was decommissioned or revoked.
    pub fn forget(&self, node: NodeId) {
        self.channels.forget(node);
    }
}

/// A call as a span of the caller's trace. Questions after an operation that is followed make none: they come by the dozen
/// and say nothing that the agent's own spans do not.
async fn asked<T>(
    method: &'static str,
    place: &Place,
    call: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let span = nemordp_trace::child!(
        "call",
        otel.name = method,
        otel.kind = "client",
        rpc.system = "grpc",
        rpc.method = method,
        node_id = %place.node
    );
    nemordp_trace::record(span, call).await
}

impl Provider for Nodes {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            power: true,
            idempotent_changes: true,
            account_state: true,
            sessions: true,
            live_password: true,
            resize: false,
            snapshot: false,
            console: false,
        }
    }

    fn send<'a>(
        &'a self,
        place: &'a Place,
        mutation: Mutation,
        change: &'a Change,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Operation, Failure>> {
        let call = self
            .channels
            .wait(place, self.limits.send, wait, move |client, wait| rpc::send(client, mutation, change, wait));
        asked(change.kind().word(), place, call).boxed()
    }

    fn operation<'a>(
        &'a self,
        place: &'a Place,
        id: OperationId,
        wait: Duration,
    ) -> BoxFuture<'a, Result<Operation, Failure>> {
        self.channels.wait(place, self.limits.read, wait, move |client, wait| rpc::operation(client, id, wait)).boxed()
    }

    fn status<'a>(&'a self, place: &'a Place, id: InstanceId) -> BoxFuture<'a, Result<InstanceStatus, Failure>> {
        let call = self.channels.call(place, self.limits.read, move |client| rpc::status(client, id));
        asked("get_instance", place, call).boxed()
    }

    fn instances<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<Vec<InstanceStatus>, Failure>> {
        self.channels.call(place, self.limits.read, rpc::instances).boxed()
    }

    fn account<'a>(
        &'a self,
        place: &'a Place,
        id: InstanceId,
        login: &'a LoginName,
        since: Timestamp,
    ) -> BoxFuture<'a, Result<Account, Failure>> {
        let call = self.channels.call(place, self.limits.guest, move |client| rpc::account(client, id, login, since));
        asked("get_account", place, call).boxed()
    }

    fn sessions<'a>(&'a self, place: &'a Place, id: InstanceId) -> BoxFuture<'a, Result<Vec<GuestSession>, Failure>> {
        let call = self.channels.call(place, self.limits.guest, move |client| rpc::sessions(client, id));
        asked("list_sessions", place, call).boxed()
    }

    fn suspend_at<'a>(
        &'a self,
        place: &'a Place,
        mutation: Mutation,
        at: Option<Timestamp>,
    ) -> BoxFuture<'a, Result<(), Failure>> {
        let call = self.channels.call(place, self.limits.send, move |client| rpc::suspend_at(client, mutation, at));
        asked("schedule_suspension", place, call).boxed()
    }

    fn template_prepare<'a>(
        &'a self,
        place: &'a Place,
        template: &'a Template,
    ) -> BoxFuture<'a, Result<TemplatePresence, Failure>> {
        self.channels.call(place, self.limits.read, move |client| rpc::template_prepare(client, template)).boxed()
    }

    fn inventory<'a>(&'a self, place: &'a Place) -> BoxFuture<'a, Result<(NodeInventory, NodeLoad), Failure>> {
        self.channels.call(place, self.limits.read, rpc::inventory).boxed()
    }
}
