//! What agents call: enrollment, renewal, life signs, templates. Only over mTLS with our CA.

mod control;

use std::sync::Arc;
use std::time::Duration;

use nemordp_types::{Failure, Reason};
use nemordp_wire::mtls::{self, Revocations};
use nemordp_wire::status::to_status;
use nemordp_wire::v1;
use nemordp_wire::v1::control_server::ControlServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Status};

use crate::app::App;
use crate::telemetry::Telemetry;

/// For one call; a template's bytes may take as long as they need.
const CALL_DEADLINE: Duration = Duration::from_secs(30);
/// A heartbeat with ten thousand instances has about two MiB.
const MESSAGE_MAX_BYTES: usize = 8 << 20;
const CALLS_PER_CONNECTION_MAX: usize = 64;

/// Serves until the token is cancelled and the last answer is out.
///
/// # Errors
/// When the listener fails for good.
pub(crate) async fn serve(
    listener: TcpListener,
    app: Arc<App>,
    telemetry: Telemetry,
    shutdown: CancellationToken,
) -> Result<(), Failure> {
    let incoming = mtls::incoming(listener, app.pki.agents());
    let known = known(app.pki.revocations().clone());
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<ControlServer<control::Control>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(Failure::internal)?;
    let control = ControlServer::new(control::Control::new(app, telemetry, shutdown.clone()))
        .max_decoding_message_size(MESSAGE_MAX_BYTES);
    Server::builder()
        .timeout(CALL_DEADLINE)
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
        .add_service(control)
        .add_service(tonic::service::interceptor::InterceptedService::new(health, known.clone()))
        .add_service(tonic::service::interceptor::InterceptedService::new(reflection, known))
        .serve_with_incoming_shutdown(incoming, shutdown.cancelled_owned())
        .await
        .map_err(Failure::internal)
}

/// Health and reflection are for anybody with a certificate of ours that is not revoked.
fn known(
    revocations: Revocations,
) -> impl FnMut(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
    move |request: Request<()>| {
        let peer = mtls::peer(&request);
        let serial = peer.and_then(|peer| peer.serial.as_deref());
        match serial {
            Some(serial) if !revocations.contains(serial) => Ok(request),
            Some(_) => {
                Err(to_status(&Failure::new(Reason::CertificateRevoked, "the certificate was revoked; enroll again")))
            }
            None => Err(to_status(&Failure::new(
                Reason::Unauthenticated,
                "this call needs a client certificate of this installation's CA",
            ))),
        }
    }
}
