//! Connections: plain, TLS with the operator's certificate, or mTLS with our own CA; each bounded in number and patience.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use nemordp_wire::mtls;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::auth::ClientAddress;

const CONNECTIONS_MAX: usize = 2_048;
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
const HEAD_DEADLINE: Duration = Duration::from_secs(15);
/// Requests that are being answered when the process is asked to end have this long.
const DRAIN_DEADLINE: Duration = Duration::from_secs(10);

/// How connections are secured.
#[derive(Debug, Clone)]
pub(crate) enum Security {
    /// Not at all: on loopback, or behind a stated proxy.
    Plain,
    /// With the operator's certificate.
    Tls(Arc<ServerConfig>),
    /// With our CA; no certificate, no connection.
    Mutual(Arc<ArcSwap<ServerConfig>>),
}

/// Serves until the token is cancelled and the last answer is out.
pub(crate) async fn serve(listener: TcpListener, security: Security, router: Router, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, address)) => {
                let (security, router, shutdown) = (security.clone(), router.clone(), shutdown.clone());
                tokio::spawn(async move {
                    let _slot = slot;
                    if let Err(error) = connection(stream, address, security, router, shutdown).await {
                        tracing::debug!(%address, %error, "connection ended");
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, mostly: give connections time to end instead of spinning.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(CONNECTIONS_MAX).unwrap_or(u32::MAX);
    drop(timeout(DRAIN_DEADLINE, slots.acquire_many(all)).await);
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    security: Security,
    router: Router,
    shutdown: CancellationToken,
) -> io::Result<()> {
    match security {
        Security::Plain => {
            stream.set_nodelay(true)?;
            answer(stream, address, None, router, shutdown).await
        }
        Security::Tls(config) => {
            stream.set_nodelay(true)?;
            let handshake = timeout(HANDSHAKE_DEADLINE, TlsAcceptor::from(config).accept(stream)).await;
            answer(handshake.map_err(io::Error::other)??, address, None, router, shutdown).await
        }
        Security::Mutual(config) => {
            let stream = mtls::accept(stream, config.load_full()).await?;
            let peer = stream.peer().clone();
            answer(stream, address, Some(peer), router, shutdown).await
        }
    }
}

async fn answer<S>(
    stream: S,
    address: SocketAddr,
    peer: Option<mtls::Peer>,
    router: Router,
    shutdown: CancellationToken,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(ClientAddress(address));
        if let Some(peer) = &peer {
            request.extensions_mut().insert(peer.clone());
        }
        let router = router.clone();
        async move { Ok::<_, Infallible>(router.oneshot(request).await.unwrap_or_else(|never| match never {})) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE);
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(Duration::from_secs(20)).max_concurrent_streams(128);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => return ended.map_err(io::Error::other),
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    connection.await.map_err(io::Error::other)
}
