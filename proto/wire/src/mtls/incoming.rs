//! Accepted connections, each with who is at the other end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use nemordp_types::{Failure, Reason};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;
use tonic::transport::server::Connected;

use crate::identity::{Identity, Role, serial_of};
use crate::mtls::Revocations;
use crate::status::to_status;

/// How long a handshake may take.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Handshakes under way at once; more wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 256;

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The identity in the client certificate; none when the client showed no certificate.
    pub identity: Option<Identity>,
    /// The certificate's serial number.
    pub serial: Option<Vec<u8>>,
    /// Where it comes from.
    pub address: SocketAddr,
}

/// A connection whose handshake is over.
#[derive(Debug)]
pub struct MtlsStream {
    stream: TlsStream<TcpStream>,
    peer: Peer,
}

impl MtlsStream {
    /// Who is at the other end.
    #[must_use]
    pub const fn peer(&self) -> &Peer {
        &self.peer
    }
}

/// Makes the TLS handshake on an accepted connection, within a deadline.
pub async fn accept(stream: TcpStream, config: Arc<ServerConfig>) -> io::Result<MtlsStream> {
    let address = stream.peer_addr()?;
    stream.set_nodelay(true)?;
    let handshake = TlsAcceptor::from(config).accept(stream);
    let stream = tokio::time::timeout(HANDSHAKE_DEADLINE, handshake)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "TLS handshake not finished in time"))??;
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let (identity, serial) = match leaf {
        None => (None, None),
        Some(leaf) => {
            let identity = Identity::of_certificate(leaf).map_err(io::Error::other)?;
            (Some(identity), Some(serial_of(leaf).map_err(io::Error::other)?))
        }
    };
    Ok(MtlsStream { stream, peer: Peer { identity, serial, address } })
}

/// Accepts connections for tonic. Handshakes run side by side, each with a deadline; one that fails is logged and
/// dropped. The configuration is read anew for each connection, so that a renewed certificate serves at once.
pub fn incoming(
    listener: TcpListener,
    config: Arc<ArcSwap<ServerConfig>>,
) -> impl Stream<Item = io::Result<MtlsStream>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(64);
    tokio::spawn(async move {
        let slots = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            match accepted {
                Ok((stream, address)) => {
                    let (sender, config) = (sender.clone(), config.load_full());
                    tokio::spawn(async move {
                        let _slot = slot;
                        match accept(stream, config).await {
                            // The receiver is gone only when the server has ended.
                            Ok(stream) => drop(sender.send(Ok(stream)).await),
                            Err(error) => tracing::debug!(%address, %error, "TLS handshake failed"),
                        }
                    });
                }
                Err(error) => {
                    // Out of file descriptors, mostly: give connections time to end instead of spinning.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    ReceiverStream::new(receiver)
}

impl Connected for MtlsStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for MtlsStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for MtlsStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Who sent a request; none when it did not come through [`incoming`].
pub fn peer<T>(request: &tonic::Request<T>) -> Option<&Peer> {
    request.extensions().get::<Peer>()
}

/// Demands a role of the sender of a request, whose certificate must not be revoked.
pub fn require<T>(request: &tonic::Request<T>, role: Role, revocations: &Revocations) -> Result<Identity, Status> {
    let unauthenticated = || {
        to_status(&Failure::new(
            Reason::Unauthenticated,
            "this call needs a client certificate of this installation's CA",
        ))
    };
    let peer = peer(request).ok_or_else(unauthenticated)?;
    let (Some(identity), Some(serial)) = (peer.identity, peer.serial.as_ref()) else { return Err(unauthenticated()) };
    if revocations.contains(serial) {
        return Err(to_status(&Failure::new(Reason::CertificateRevoked, "the certificate was revoked; enroll again")));
    }
    if identity.role != role {
        let message = format!("this call needs the role {role}, the certificate has {}", identity.role);
        return Err(to_status(&Failure::new(Reason::Forbidden, message)));
    }
    Ok(identity)
}
