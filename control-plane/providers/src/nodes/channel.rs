//! One connection to each node: kept while address and certificates stay the same, with a bound on calls under way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use nemordp_trace::metadata::CarryOn;
use nemordp_types::{Failure, NodeAddress, NodeId, Reason};
use nemordp_wire::identity::{Identity, Role};
use nemordp_wire::mtls;
use nemordp_wire::v1::agent_client::AgentClient;
use rustls::ClientConfig;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::Place;

/// The generated client of one node; it says with each call to which trace that belongs.
pub(super) type Client = AgentClient<InterceptedService<Channel, CarryOn>>;

struct Entry {
    address: NodeAddress,
    /// What the connection was made with; a renewed certificate is another configuration.
    tls: Arc<ClientConfig>,
    channel: Channel,
    permits: Arc<Permits>,
}

/// Bounds on what is under way at one node.
struct Permits {
    calls: Semaphore,
    waits: Semaphore,
}

/// The connections to all nodes.
pub(super) struct Channels {
    tls: Arc<ArcSwap<ClientConfig>>,
    calls: usize,
    waits: usize,
    entries: Mutex<HashMap<NodeId, Entry>>,
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channels").field("nodes", &self.lock().len()).finish_non_exhaustive()
    }
}

impl Channels {
    pub(super) fn new(tls: Arc<ArcSwap<ClientConfig>>, calls: usize, waits: usize) -> Self {
        Self { tls, calls, waits, entries: Mutex::new(HashMap::new()) }
    }

    pub(super) fn forget(&self, node: NodeId) {
        self.lock().remove(&node);
    }

    /// Calls a node within the deadline, waiting for a permit included.
    pub(super) async fn call<T, F, Fut>(&self, place: &Place, deadline: Duration, call: F) -> Result<T, Failure>
    where
        F: FnOnce(Client) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let (channel, permits) = self.of(place);
        let work = async {
            let _permit = permits.calls.acquire().await.map_err(Failure::internal)?;
            call(AgentClient::with_interceptor(channel, CarryOn)).await
        };
        within(deadline, place, work).await
    }

    /// The same for a call whose answer may wait so long. Where too many wait already, this one does not.
    pub(super) async fn wait<T, F, Fut>(
        &self,
        place: &Place,
        deadline: Duration,
        wait: Duration,
        call: F,
    ) -> Result<T, Failure>
    where
        F: FnOnce(Client, Duration) -> Fut,
        Fut: Future<Output = Result<T, Failure>>,
    {
        let (channel, permits) = self.of(place);
        let Ok(_permit) = permits.waits.try_acquire() else {
            return self.call(place, deadline, move |client| call(client, Duration::ZERO)).await;
        };
        within(deadline + wait, place, call(AgentClient::with_interceptor(channel, CarryOn), wait)).await
    }

    fn of(&self, place: &Place) -> (Channel, Arc<Permits>) {
        let tls = self.tls.load_full();
        let mut entries = self.lock();
        if let Some(entry) = entries.get(&place.node)
            && entry.address == place.address
            && Arc::ptr_eq(&entry.tls, &tls)
        {
            return (entry.channel.clone(), entry.permits.clone());
        }
        let identity = Identity { role: Role::Node, id: place.node.as_uuid() };
        let channel = mtls::channel(place.address.0, mtls::Expected::Identity(identity), self.tls.clone());
        let permits =
            || Arc::new(Permits { calls: Semaphore::new(self.calls.max(1)), waits: Semaphore::new(self.waits) });
        let permits = entries.remove(&place.node).map_or_else(permits, |old| old.permits);
        let entry = Entry { address: place.address, tls, channel: channel.clone(), permits: permits.clone() };
        entries.insert(place.node, entry);
        (channel, permits)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn within<T>(
    deadline: Duration,
    place: &Place,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let answer = timeout(deadline, work).await.unwrap_or_else(|_| {
        Err(Failure::new(
            Reason::NodeUnreachable,
            "the node did not answer in time; look at its agent and at the network between",
        ))
    });
    answer.map_err(|failure| match failure.context {
        Some(_) => failure,
        None => failure.with_context(place),
    })
}
