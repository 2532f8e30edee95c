//! Serves `/metrics`: plain HTTP on loopback, anywhere else HTTPS for the roles monitoring and control-plane.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use nemordp_wire::identity::Role;
use nemordp_wire::mtls::{self, Peer, Revocations};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::Scrape;
use crate::host::Host;

/// Connections at once; a Prometheus needs one.
const CONNECTIONS: usize = 32;
/// How long a client may take to send its request.
const HEADERS: Duration = Duration::from_secs(10);
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Who may read.
#[derive(Clone)]
pub(crate) enum Access {
    /// Whoever reaches the loopback address.
    Loopback,
    /// Certificates of our CA, role monitoring or control-plane, not revoked.
    Roles(Arc<ArcSwap<ServerConfig>>, Revocations),
}

/// Serves until the token is cancelled.
pub(crate) async fn serve<H: Host>(
    listener: TcpListener,
    access: Access,
    scrape: Arc<Scrape<H>>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, mostly: give connections time to end.
                tracing::warn!(%error, "cannot accept a connection for metrics");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else { continue };
        let (access, scrape) = (access.clone(), Arc::clone(&scrape));
        tokio::spawn(async move {
            let _slot = slot;
            connection(stream, access, scrape).await;
        });
    }
}

async fn connection<H: Host>(stream: TcpStream, access: Access, scrape: Arc<Scrape<H>>) {
    match access {
        Access::Loopback => answer(stream, true, scrape).await,
        Access::Roles(config, revocations) => match mtls::accept(stream, config.load_full()).await {
            Ok(stream) => {
                let allowed = may_read(stream.peer(), &revocations);
                answer(stream, allowed, scrape).await;
            }
            Err(error) => tracing::debug!(%error, "TLS handshake for metrics failed"),
        },
    }
}

fn may_read(peer: &Peer, revocations: &Revocations) -> bool {
    let role = peer.identity.map(|identity| identity.role);
    let good = peer.serial.as_ref().is_some_and(|serial| !revocations.contains(serial));
    good && matches!(role, Some(Role::Monitoring | Role::ControlPlane))
}

async fn answer<H: Host>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    allowed: bool,
    scrape: Arc<Scrape<H>>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        let scrape = Arc::clone(&scrape);
        async move { Ok::<_, Infallible>(respond(&request, allowed, &scrape).await) }
    });
    // Over TLS a scraper may choose HTTP/2, as Prometheus does.
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADERS);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(8);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection for metrics ended early");
    }
}

async fn respond<H: Host>(request: &Request<Incoming>, allowed: bool, scrape: &Scrape<H>) -> Response<Full<Bytes>> {
    if !allowed {
        return text(StatusCode::FORBIDDEN, "metrics need the role monitoring or control-plane\n".to_owned());
    }
    if request.uri().path() != "/metrics" {
        return text(StatusCode::NOT_FOUND, "only /metrics is served here\n".to_owned());
    }
    if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served here\n".to_owned());
    }
    match scrape.text().await {
        Ok(body) => {
            let mut response = text(StatusCode::OK, body);
            response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(OPEN_METRICS));
            response
        }
        Err(failure) => {
            tracing::warn!(?failure, "a scrape failed");
            text(StatusCode::SERVICE_UNAVAILABLE, format!("{failure}\n"))
        }
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use nemordp_wire::identity::Identity;

    use super::*;

    #[test]
    fn only_monitoring_and_the_control_plane_read_off_loopback() {
        let revocations = Revocations::new();
        revocations.replace(1, [vec![9]]);
        let peer = |role: Option<Role>, serial: u8| Peer {
            identity: role.map(|role| Identity { role, id: uuid::Uuid::nil() }),
            serial: role.map(|_| vec![serial]),
            address: ([127, 0, 0, 1], 1).into(),
        };
        assert!(may_read(&peer(Some(Role::Monitoring), 1), &revocations));
        assert!(may_read(&peer(Some(Role::ControlPlane), 1), &revocations));
        assert!(!may_read(&peer(Some(Role::Node), 1), &revocations));
        assert!(!may_read(&peer(Some(Role::Monitoring), 9), &revocations), "revoked");
        assert!(!may_read(&peer(None, 1), &revocations));
    }
}
