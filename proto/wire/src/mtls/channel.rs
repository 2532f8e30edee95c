//! Channels to the other side, which is checked before the first request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use crate::identity::{Identity, Role};

/// How long a connection attempt may take, handshake included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// A channel without keep-alive never recovers from a partition.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Without an answer for this long the connection counts as lost.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// Who may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Exactly this one.
    Identity(Identity),
    /// Anyone of this role.
    Role(Role),
}

impl Expected {
    fn accepts(self, identity: &Identity) -> bool {
        match self {
            Self::Identity(expected) => expected == *identity,
            Self::Role(role) => role == identity.role,
        }
    }
}

/// A lazy channel: it connects with the first call, and again after a loss. The configuration is read anew for each
/// connection, so that a renewed certificate is used at once.
pub fn channel(address: SocketAddr, expected: Expected, config: Arc<ArcSwap<ClientConfig>>) -> Channel {
    let connector = tower::service_fn(move |_| {
        let config = config.load_full();
        async move {
            let attempt = connect(address, expected, config);
            let stream = tokio::time::timeout(CONNECT_DEADLINE, attempt)
                .await
                .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("{address} does not answer")))??;
            io::Result::Ok(TokioIo::new(stream))
        }
    });
    // The scheme tells tonic that HTTP/2 runs on what the connector returns; TLS is the connector's.
    Endpoint::from_static("http://nemordp.internal")
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true)
        .connect_with_connector_lazy(connector)
}

async fn connect(
    address: SocketAddr,
    expected: Expected,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    tcp.set_nodelay(true)?;
    let name = ServerName::IpAddress(address.ip().into());
    let stream = TlsConnector::from(config).connect(name, tcp).await?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let leaf = leaf.ok_or_else(|| io::Error::other("the server showed no certificate"))?;
    let identity = Identity::of_certificate(leaf).map_err(io::Error::other)?;
    if !expected.accepts(&identity) {
        return Err(io::Error::other(format!("{address} is {identity}, another was expected")));
    }
    Ok(stream)
}
