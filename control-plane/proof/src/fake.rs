//! An NLA server of our own that answers like Windows, for tests and for simulated instances.
//!
//! It speaks the real protocols (X.224, TLS, CredSSP over NTLM) and stops where a session would begin. Who may log in is
//! said at run time through [`Accounts`]; what else it does, hang or offer no authorization result, through
//! [`FakeOptions`]. It counts what it received, so that a test can assert that it never was given anything to attack.

mod accounts;
mod connection;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nemordp_types::Failure;
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

pub use accounts::{Accounts, Answer};

use crate::target::CertificatePin;
use crate::tls::subject_public_key;

/// Certificate and key of a fake server.
#[derive(Debug)]
pub struct FakeIdentity {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
}

/// Which security mode the server confirms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FakeProtocol {
    /// NLA with early user authorization, as Windows.
    #[default]
    HybridEx,
    /// NLA without it, as `FreeRDP`'s shadow server.
    Hybrid,
    /// TLS mode; only up to the point where a client begins to speak, which is counted.
    Tls,
}

/// Where a server stops answering, for every login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HangAt {
    /// Before the connection confirm.
    Accept,
    /// Before TLS.
    Confirm,
    /// Before the NTLM challenge.
    Challenge,
}

/// How a server behaves apart from its accounts.
#[derive(Debug, Clone, Copy)]
pub struct FakeOptions {
    /// What it confirms.
    pub protocol: FakeProtocol,
    /// Where it hangs.
    pub hang: Option<HangAt>,
    /// Connections served at a time; more wait in the listener's queue.
    pub connections: usize,
    /// How long one connection may last.
    pub patience: Duration,
}

impl Default for FakeOptions {
    fn default() -> Self {
        Self { protocol: FakeProtocol::HybridEx, hang: None, connections: 64, patience: Duration::from_secs(60) }
    }
}

/// What a server has received since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// TCP connections.
    pub connections: u64,
    /// Bytes in clear that arrived after TLS: in TLS mode the way to the password.
    pub secured_bytes: u64,
    /// NTLM AUTHENTICATE messages: what a thief could attack off line.
    pub authenticates: u64,
    /// Logins whose password was right.
    pub proven: u64,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    secured_bytes: AtomicU64,
    authenticates: AtomicU64,
    proven: AtomicU64,
}

/// A running server; it stops, with all its connections, when this is dropped.
#[derive(Debug)]
pub struct FakeNla {
    address: SocketAddr,
    pin: CertificatePin,
    counters: Arc<Counters>,
    accept: JoinHandle<()>,
}

impl FakeNla {
    /// Serves the listener until dropped.
    ///
    /// Fails when certificate and key do not fit each other or cannot be read.
    pub fn start(
        listener: TcpListener,
        identity: FakeIdentity,
        accounts: Accounts,
        options: FakeOptions,
    ) -> Result<Self, Failure> {
        let pin = CertificatePin::of_der(&identity.certificate);
        let key = subject_public_key(&identity.certificate)
            .ok_or_else(|| Failure::field("certificate", "use an X.509 certificate in DER"))?;
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(Failure::internal)?
            .with_no_client_auth()
            .with_single_cert(vec![identity.certificate], identity.key)
            .map_err(|error| Failure::field("key", "use the certificate's own private key").with_context(error))?;
        let address = listener.local_addr().map_err(Failure::internal)?;
        let counters = Arc::new(Counters::default());
        let server = Arc::new(connection::Server {
            tls: TlsAcceptor::from(Arc::new(config)),
            key,
            accounts,
            options,
            counters: counters.clone(),
        });
        Ok(Self { address, pin, counters, accept: tokio::spawn(accept(listener, server)) })
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The fingerprint of its certificate.
    #[must_use]
    pub const fn certificate(&self) -> CertificatePin {
        self.pin
    }

    /// What it has received.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            connections: read(&self.counters.connections),
            secured_bytes: read(&self.counters.secured_bytes),
            authenticates: read(&self.counters.authenticates),
            proven: read(&self.counters.proven),
        }
    }
}

impl Drop for FakeNla {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

/// Accepts as long as there is room; the connections live in this task and end with it.
async fn accept(listener: TcpListener, server: Arc<connection::Server>) {
    let room = Arc::new(Semaphore::new(server.options.connections));
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match accept_one(&listener).await {
            Ok(tcp) => {
                server.counters.connections.fetch_add(1, Ordering::Relaxed);
                let server = server.clone();
                connections.spawn(async move {
                    let patience = server.options.patience;
                    let served = tokio::time::timeout(patience, Box::pin(connection::serve(&server, tcp))).await;
                    tracing::trace!(?served, "fake RDP connection ended");
                    drop(place);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "the fake RDP server cannot accept");
                // Out of file descriptors, most likely: the next attempt would fail at once, too.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn accept_one(listener: &TcpListener) -> io::Result<tokio::net::TcpStream> {
    let (tcp, _peer) = listener.accept().await?;
    tcp.set_nodelay(true)?;
    Ok(tcp)
}
