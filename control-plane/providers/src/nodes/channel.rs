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
    permits: Arc<Semaphore>,
}

/// The connections to all nodes.
pub(super) struct Channels {
    tls: Arc<ArcSwap<ClientConfig>>,
    calls: usize,
    entries: Mutex<HashMap<NodeId, Entry>>,
}

impl std::fmt::Debug for Channels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channels").field("nodes", &self.lock().len()).finish_non_exhaustive()
    }
}

impl Channels {
    pub(super) fn new(tls: Arc<ArcSwap<ClientConfig>>, calls: usize) -> Self {
        Self { tls, calls, entries: Mutex::new(HashMap::new()) }
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
            let _permit = permits.acquire().await.map_err(Failure::internal)?;
            call(AgentClient::with_interceptor(channel, CarryOn)).await
        };
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

    fn of(&self, place: &Place) -> (Channel, Arc<Semaphore>) {
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
            entries.remove(&place.node).map_or_else(|| Arc::new(Semaphore::new(self.calls.max(1))), |old| old.permits);
        let entry = Entry { address: place.address, tls, channel: channel.clone(), permits: permits.clone() };
        entries.insert(place.node, entry);
        (channel, permits)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NodeId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
