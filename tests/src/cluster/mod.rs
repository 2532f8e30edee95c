//! The whole product on loopback, started by one call: control planes and agents are the real programs, each a process of
//! its own that can be killed; guests are simulated; between control plane and agents lies a network that can be cut.
//!
//! Map: `address` a block of loopback for each cluster · `program` processes, killed by id · `config` their files ·
//! `postgres` a private server · `link` the network between · `api` the storefront's side · `database` the store read
//! with our own SQL · `node` one machine · [`audit`] the independent check.

mod address;
mod api;
pub mod audit;
mod config;
mod database;
mod furnish;
mod link;
mod node;
mod postgres;
mod program;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use api::{Answer, Api};
pub use database::{Database, Row};
pub use link::{Link, Weather};
pub use node::{Domain, Node};
pub use postgres::{Ending, Postgres};
pub use program::Program;

use crate::trial::Binaries;
use address::Block;

/// What went wrong with a cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// A file or an address of ours.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The store, read with our own SQL.
    #[error("store: {0}")]
    Database(#[from] sqlx::Error),
    /// An answer that cannot be used.
    #[error("{what}: {why}")]
    Answer {
        /// Of what.
        what: String,
        /// Why not.
        why: String,
    },
    /// Something did not come in time.
    #[error("waited {seconds:.1} s for {what}")]
    Deadline {
        /// For what.
        what: String,
        /// How long.
        seconds: f64,
    },
    /// The programs are not there.
    #[error(transparent)]
    Binaries(#[from] crate::trial::TrialError),
}

/// Result of something with a cluster.
pub type Result<T> = std::result::Result<T, ClusterError>;

/// Names what was done, for an error of the system.
pub(crate) fn io(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> ClusterError {
    let what = what.to_string();
    move |source| ClusterError::Io { what, source }
}

/// An answer that cannot be used.
pub(crate) fn unusable(what: impl std::fmt::Display, why: impl std::fmt::Display) -> ClusterError {
    ClusterError::Answer { what: what.to_string(), why: why.to_string() }
}

/// Which store a cluster has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// One file.
    Sqlite,
    /// A private server.
    Postgres,
}

/// What is started.
#[derive(Debug, Clone)]
pub struct Shape {
    /// Where the truth is.
    pub store: StoreKind,
    /// Control planes; more than one needs PostgreSQL.
    pub replicas: u8,
    /// Simulated nodes, each with an agent.
    pub nodes: u8,
    /// The time until a dead replica's work is adopted.
    pub lease: Duration,
    /// Sagas that a replica carries at the same time.
    pub at_once: u32,
    /// How long a simulated guest boots.
    pub boot: Duration,
    /// How long a simulated clone takes.
    pub clone: Duration,
    /// Whether PostgreSQL waits for the disk, as it does in earnest.
    pub durable: bool,
    /// A heartbeat each so many seconds.
    pub heartbeat_seconds: u32,
    /// Processors of each node; memory and disk are chosen to fit.
    pub vcpu: u32,
    /// Where the programs lie; beside this one when absent.
    pub programs: Option<PathBuf>,
    /// The collector that takes their traces; they send none when absent.
    pub collector: Option<SocketAddr>,
}

impl Shape {
    /// For tests: everything short.
    #[must_use]
    pub const fn quick(store: StoreKind, replicas: u8, nodes: u8) -> Self {
        Self {
            store,
            replicas,
            nodes,
            lease: Duration::from_millis(1_200),
            at_once: 64,
            boot: Duration::from_millis(150),
            clone: Duration::from_millis(80),
            durable: false,
            heartbeat_seconds: 1,
            vcpu: 400,
            programs: None,
            collector: None,
        }
    }
}

/// A product that runs. Dropped, it is gone, with all that it wrote.
#[derive(Debug)]
pub struct Cluster {
    /// What was started.
    pub shape: Shape,
    /// Control planes; a killed one stays in its place.
    pub replicas: Vec<Program>,
    /// Nodes.
    pub nodes: Vec<Node>,
    /// The storefront's side.
    pub api: Arc<Api>,
    /// PostgreSQL, if that is the store.
    pub postgres: Option<Postgres>,
    /// How long it took to start.
    pub started_in: Duration,
    binaries: Binaries,
    block: Block,
    store_url: String,
    // Removed last.
    dir: tempfile::TempDir,
}

impl Cluster {
    /// Starts everything, and returns when every node is available and there is something to order.
    ///
    /// # Errors
    /// What did not start; the programs must have been built before.
    pub async fn start(shape: Shape) -> Result<Self> {
        let began = Instant::now();
        // Without one reqwest makes no client; somebody may have installed it before.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        let dir = tempfile::Builder::new().prefix("nemordp-cluster.").tempdir().map_err(io("a directory"))?;
        let binaries = shape.programs.clone().map_or_else(Binaries::beside_this, |folder| Ok(Binaries::at(folder)))?;
        let block = Block::claim()?;
        let postgres = match shape.store {
            StoreKind::Postgres => Some(Postgres::start(shape.durable).await?),
            StoreKind::Sqlite => None,
        };
        let store_url = match &postgres {
            Some(postgres) => postgres.url(),
            None => dir.path().join("control-plane/store.sqlite").display().to_string(),
        };
        let api = Arc::new(Api::new((0..shape.replicas).map(|index| block.http(index)).collect())?);
        let (replicas, nodes) = (Vec::new(), Vec::new());
        let mut cluster =
            Self { shape, replicas, nodes, api, postgres, started_in: Duration::ZERO, binaries, block, store_url, dir };
        cluster.furnish().await?;
        cluster.started_in = began.elapsed();
        Ok(cluster)
    }

    /// The store, to be read with our own SQL.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn database(&self) -> Result<Database> {
        Database::open(self.shape.store, &self.store_url).await
    }

    /// The store, to be written with our own SQL: for measurements only.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn writable_database(&self) -> Result<Database> {
        Database::writable(self.shape.store, &self.store_url).await
    }

    /// A database beside the store, on the same disk and by the same server.
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn scratch_database(&self) -> Result<Database> {
        match self.shape.store {
            StoreKind::Sqlite => {
                let file = self.dir.path().join("scratch.sqlite").display().to_string();
                Database::writable(StoreKind::Sqlite, &file).await
            }
            StoreKind::Postgres => self.writable_database().await,
        }
    }

    /// What all control planes tell Prometheus.
    ///
    /// # Errors
    /// One does not answer.
    pub async fn metrics(&self) -> Result<String> {
        let mut text = String::new();
        for index in 0..self.shape.replicas {
            let url = format!("http://{}/metrics", self.block.metrics(index));
            let answer = reqwest::get(&url).await.map_err(|error| unusable(&url, error))?;
            text.push_str(&answer.text().await.map_err(|error| unusable(&url, error))?);
        }
        Ok(text)
    }

    /// Where the first control plane serves agents.
    #[must_use]
    pub fn grpc(&self) -> std::net::SocketAddr {
        self.block.grpc(0)
    }

    /// `kill -9` of a control plane.
    pub fn kill_replica(&mut self, index: usize) {
        if let Some(program) = self.replicas.get_mut(index) {
            program.kill();
        }
    }

    /// Starts every control plane that does not run, and waits until it serves.
    ///
    /// # Errors
    /// It does not.
    pub async fn start_replicas(&mut self) -> Result<()> {
        for program in &mut self.replicas {
            program.start_if_gone()?;
        }
        for index in 0..self.shape.replicas {
            self.wait_for_port(self.block.http(index)).await?;
        }
        Ok(())
    }

    /// `kill -9` of a node's agent; its guests run on.
    pub fn kill_agent(&mut self, index: usize) {
        if let Some(node) = self.nodes.get_mut(index) {
            node.agent.kill();
        }
    }

    /// Starts every agent that does not run.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_agents(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(|node| node.agent.start_if_gone())
    }

    /// All links as they were at the beginning.
    pub fn heal(&self) {
        for node in &self.nodes {
            node.downlink.set(Weather::Open);
            node.uplink.set(Weather::Open);
        }
    }

    /// Everything runs, everything is connected, no fault is set.
    ///
    /// # Errors
    /// Something does not come up again.
    pub async fn recover(&mut self) -> Result<()> {
        self.heal();
        if let Some(postgres) = &mut self.postgres {
            postgres.start_if_gone().await?;
        }
        for node in &self.nodes {
            node.faults("")?;
        }
        self.start_agents()?;
        self.start_replicas().await
    }

    /// Where logs are, to be kept when something was found.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Leaves the directory behind, for who wants to look.
    #[must_use]
    pub fn keep(mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.dir.path().to_owned()
    }
}

/// Asks again, after a short pause, until there is an answer or the time is over.
///
/// # Errors
/// `Deadline` when the time is over; what `ask` returns.
pub async fn until<T, F>(what: &str, limit: Duration, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let end = Instant::now() + limit;
    loop {
        if let Some(answer) = ask().await? {
            return Ok(answer);
        }
        if Instant::now() >= end {
            return Err(ClusterError::Deadline { what: what.to_owned(), seconds: limit.as_secs_f64() });
        }
        tokio::time::sleep(Duration::from_millis(4)).await;
    }
}
