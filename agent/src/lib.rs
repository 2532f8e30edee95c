//! The agent of one node: brings instances to what the control plane wants, through the host beneath.
//!
//! Map: [`config`] what the operator decides · [`host`] every side effect · [`instance`] one task owns one instance ·
//! [`journal`] what the hypervisor cannot remember · [`template`] golden disks on this node · [`rpc`] what the control
//! plane calls · [`uplink`] what the agent asks of the control plane ·
//! [`usage`] what instances used · [`metrics`] what Prometheus reads · `overwrite` small files that change often.

pub mod config;
pub mod host;
pub mod instance;
pub mod journal;
pub mod metrics;
mod overwrite;
pub mod rpc;
pub mod template;
pub mod uplink;
pub mod usage;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_types::{Clock, Entropy, Failure, InstallationId, NodeId, Reason};
use nemordp_wire::mtls;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, StartAfterReboot};
use crate::host::Host;
use crate::host::traced::Traced;
use crate::instance::Shared;
use crate::instance::registry::Registry;
use crate::journal::{DiskStorage, Journal};
use crate::metrics::{Access, Scrape, Telemetry};
use crate::template::Templates;
use crate::uplink::{ControlPlaneSource, Enrollment, Heartbeats, Identity, IdentityStore, Uplink};
use crate::usage::Meters;

/// How often the hypervisor is read anew.
const OBSERVE: Duration = Duration::from_secs(5);
/// How long reading it may take.
const OBSERVE_LIMIT: Duration = Duration::from_secs(30);
/// How often old outcomes and tombstones are dropped.
const PRUNE: Duration = Duration::from_secs(3_600);
/// How long calls under way may take when the agent stops.
const DRAIN: Duration = Duration::from_secs(5);

/// An agent that runs.
#[derive(Debug)]
pub struct Running {
    /// Who this node is.
    pub node_id: NodeId,
    /// Whose node it is.
    pub installation_id: InstallationId,
    /// Where the control plane calls it.
    pub rpc_address: SocketAddr,
    /// Where metrics are served, if they are.
    pub metrics_address: Option<SocketAddr>,
    /// The time of the last answered heartbeat; none before the first one.
    pub heartbeats: watch::Receiver<Option<Timestamp>>,
    finished: tokio::task::JoinHandle<Result<(), Failure>>,
}

impl Running {
    /// Returns when the agent has ended: everything stopped cleanly after the token given to [`run`] was cancelled.
    ///
    /// # Errors
    /// A server ended by itself.
    pub async fn finished(self) -> Result<(), Failure> {
        self.finished.await.map_err(|error| Failure::internal(format!("the agent ended unexpectedly: {error}")))?
    }
}

/// Starts an agent: enrolls if it must, opens the host, adopts what is there, serves.
///
/// `open` is called with the installation whose instances the host manages; before the first enrollment once more with
/// the nil id, only to read the node's inventory. Returns when the agent serves; it ends when `shutdown` is cancelled.
///
/// # Errors
/// What keeps the agent from starting; the message names the fix.
pub async fn run<H, O, F>(
    config: Config,
    open: O,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    shutdown: CancellationToken,
) -> Result<Running, Failure>
where
    H: Host,
    O: Fn(InstallationId) -> F,
    F: Future<Output = Result<H, Failure>>,
{
    let listeners = Listeners::bind(&config).await?;
    let store = IdentityStore::open(&config.data_dir.join("identity"))?;
    let storage = DiskStorage::open(&config.data_dir.join("journal")).map_err(|error| {
        Failure::internal(format!("data_dir/journal cannot be opened: {error}")).with_field("data_dir")
    })?;
    let (journal, records) = Journal::open(Box::new(storage), clock.as_ref())?;
    let identity = match present(&store, clock.as_ref())? {
        Some(identity) => identity,
        None => {
            let inventory = open(InstallationId::from_uuid(uuid::Uuid::nil())).await?.inventory().await?;
            let enrollment =
                Enrollment { config: &config, store: &store, agent_address: listeners.advertised, inventory };
            tokio::select! {
                () = shutdown.cancelled() => return Err(Failure::new(Reason::Cancelled, "stopped before the node was enrolled")),
                identity = enrollment.run() => identity?,
            }
        }
    };
    let host = Arc::new(Traced(open(identity.installation_id).await?));
    let revocations = store.load_revocations()?;
    let (node_id, installation_id) = (identity.node_id, identity.installation_id);
    let uplink = Arc::new(Uplink::new(config.control_plane.clone(), identity, revocations)?);
    let templates = Templates::new(Arc::clone(&host), Arc::new(ControlPlaneSource(Arc::clone(&uplink))));
    let shared = Arc::new(Shared {
        host,
        journal,
        board: instance::board::Board::default(),
        gate: instance::gate::Gate::default(),
        templates,
        telemetry: Telemetry::default(),
        clock,
        entropy,
        installation_id,
        boot_timeout: config.boot_timeout(),
        shutdown_timeout: config.shutdown_timeout(),
        announce_pause: config.announce_pause(),
        clones: AtomicU32::new(0),
        second_boots: AtomicU32::new(0),
    });
    let registry = Registry::adopt(Arc::clone(&shared), records).await?;
    if config.start_after_reboot == StartAfterReboot::AtOnce {
        shared.gate.heard(false);
        registry.resume_after_reboot().await;
    }
    let meters = Arc::new(Meters::new(Arc::clone(&shared), config.usage_stretch()));
    let (answered, heartbeats) = watch::channel(None);
    let agent = Parts { uplink, store, shared, registry, meters, answered, heartbeats: heartbeats.clone(), shutdown };
    let (rpc_address, metrics_address) = (listeners.rpc_address, listeners.metrics_address);
    let finished = tokio::spawn(agent.serve(listeners));
    tracing::info!(node = %node_id, %rpc_address, ?metrics_address, "serving");
    Ok(Running { node_id, installation_id, rpc_address, metrics_address, heartbeats, finished })
}

/// The identity, unless there is none or it has expired: then a ticket is needed.
fn present(store: &IdentityStore, clock: &dyn Clock) -> Result<Option<Identity>, Failure> {
    let Some(identity) = store.load()? else { return Ok(None) };
    let (from, until) = identity.validity()?;
    let now = clock.now();
    if from > now {
        tracing::error!(
            node = %identity.node_id, valid_from = %from, %now,
            "by this machine's clock the node's certificate is not valid yet: the clock is behind, synchronise it (timedatectl)"
        );
    }
    if until > now {
        return Ok(Some(identity));
    }
    tracing::error!(
        node = %identity.node_id, expired = %until, %now,
        "the node's certificate has expired: it enrolls again, with a ticket bound to this node id (`nemordp node ticket`); \
         unless this machine's clock is ahead, then synchronise it (timedatectl) and start the agent again"
    );
    Ok(None)
}

struct Listeners {
    rpc: TcpListener,
    rpc_address: SocketAddr,
    advertised: SocketAddr,
    metrics: Option<TcpListener>,
    metrics_address: Option<SocketAddr>,
}

impl Listeners {
    async fn bind(config: &Config) -> Result<Self, Failure> {
        let taken = |field: &'static str, address: SocketAddr| {
            move |error: std::io::Error| {
                Failure::field(field, format!("{address} cannot be listened on: use a free address of this machine"))
                    .with_context(error)
            }
        };
        let rpc = TcpListener::bind(config.listen).await.map_err(taken("listen", config.listen))?;
        let rpc_address = rpc.local_addr().map_err(taken("listen", config.listen))?;
        let (metrics, metrics_address) = match config.metrics {
            None => (None, None),
            Some(metrics) => {
                let listener =
                    TcpListener::bind(metrics.listen).await.map_err(taken("metrics.listen", metrics.listen))?;
                let address = listener.local_addr().map_err(taken("metrics.listen", metrics.listen))?;
                (Some(listener), Some(address))
            }
        };
        Ok(Self { rpc, rpc_address, advertised: config.advertise.unwrap_or(rpc_address), metrics, metrics_address })
    }
}

/// What runs until the end.
struct Parts<H> {
    uplink: Arc<Uplink>,
    store: IdentityStore,
    shared: Arc<Shared<H>>,
    registry: Arc<Registry<H>>,
    meters: Arc<Meters<H>>,
    answered: watch::Sender<Option<Timestamp>>,
    heartbeats: watch::Receiver<Option<Timestamp>>,
    shutdown: CancellationToken,
}

impl<H: Host> Parts<H> {
    async fn serve(self, listeners: Listeners) -> Result<(), Failure> {
        let mut background = JoinSet::new();
        let beats = Heartbeats {
            uplink: Arc::clone(&self.uplink),
            store: self.store,
            shared: Arc::clone(&self.shared),
            registry: Arc::clone(&self.registry),
            meters: Arc::clone(&self.meters),
            agent_address: listeners.advertised,
            answered: self.answered,
        };
        background.spawn(beats.run(self.shutdown.clone()));
        background.spawn(look_after(
            Arc::clone(&self.shared),
            Arc::clone(&self.registry),
            Arc::clone(&self.meters),
            self.shutdown.clone(),
        ));
        if let (Some(listener), Some(address)) = (listeners.metrics, listeners.metrics_address) {
            let access = if address.ip().is_loopback() {
                Access::Loopback
            } else {
                Access::Roles(self.uplink.server_config(), self.uplink.revocations().clone())
            };
            let (shared, uplink) = (Arc::clone(&self.shared), Arc::clone(&self.uplink));
            let scrape =
                Arc::new(Scrape { shared, uplink, meters: Arc::clone(&self.meters), answered: self.heartbeats });
            background.spawn(metrics::serve(listener, access, scrape, self.shutdown.clone()));
        }
        let incoming = mtls::incoming(listeners.rpc, self.uplink.server_config());
        let revocations = self.uplink.revocations().clone();
        let stop = self.shutdown.clone().cancelled_owned();
        let server = rpc::serve(incoming, self.shared, Arc::clone(&self.registry), revocations, stop);
        // Watchers never end by themselves: they are cut when the calls under way had their time.
        let drained = async {
            self.shutdown.cancelled().await;
            tokio::time::sleep(DRAIN).await;
        };
        let result = tokio::select! {
            result = server => result,
            () = drained => Ok(()),
        };
        self.shutdown.cancel();
        self.registry.stop().await;
        if let Err(failure) = self.meters.save().await {
            tracing::warn!(?failure, "what instances used since the last minute is read from the hypervisor again");
        }
        while background.join_next().await.is_some() {}
        tracing::info!("stopped; guests run on");
        result
    }
}

/// Reads the hypervisor anew from time to time, drops what is old, and starts what ran before the host's reboot once that
/// may start.
async fn look_after<H: Host>(
    shared: Arc<Shared<H>>,
    registry: Arc<Registry<H>>,
    meters: Arc<Meters<H>>,
    stop: CancellationToken,
) {
    let mut observe = tokio::time::interval(OBSERVE);
    observe.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut prune = tokio::time::interval(PRUNE);
    let mut resumed = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = shared.gate.opened(), if !resumed => {
                resumed = true;
                registry.resume_after_reboot().await;
            }
            _ = observe.tick() => {
                let read = tokio::select! {
                    () = stop.cancelled() => return,
                    read = tokio::time::timeout(OBSERVE_LIMIT, async {
                        registry.observe().await?;
                        meters.observe().await
                    }) => read,
                };
                match read {
                    Ok(Ok(())) => {}
                    Ok(Err(failure)) => tracing::warn!(?failure, "the hypervisor was not read"),
                    Err(_) => tracing::warn!("the hypervisor does not answer"),
                }
            }
            _ = prune.tick() => registry.prune().await,
        }
    }
}
