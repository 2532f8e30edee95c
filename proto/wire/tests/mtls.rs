//! Who gets through: roles, identities, pinned CA, revocation, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use nemordp_wire::identity::{Identity, Role, serial_of, spki_sha256};
use nemordp_wire::mtls::{
    ClientAuth, Credentials, Expected, Revocations, channel, client_config, enrollment_client_config, incoming,
    require, server_config,
};
use nemordp_wire::status::from_status;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use uuid::Uuid;

struct Ca {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    fn issue(&self, identity: Identity) -> Credentials {
        self.issue_for(identity, 1975, 4096)
    }

    /// Good from the beginning of one year to the beginning of another.
    fn issue_for(&self, identity: Identity, from: i32, until: i32) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(until, 1, 1);
        params.subject_alt_names = vec![
            SanType::URI(identity.uri().try_into().unwrap()),
            SanType::DnsName(identity.dns_name().try_into().unwrap()),
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Credentials {
            chain: vec![certificate.der().clone()],
            key: PrivateKeyDer::Pkcs8(key.serialize_der().into()),
            ca: self.certificate.clone(),
        }
    }
}

fn identity(role: Role, number: u128) -> Identity {
    Identity { role, id: Uuid::from_u128(number) }
}

/// A service that answers only control planes.
struct Guarded(Revocations);

#[tonic::async_trait]
impl Health for Guarded {
    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        require(&request, Role::ControlPlane, &self.0)?;
        Ok(Response::new(HealthCheckResponse { status: ServingStatus::Serving.into() }))
    }

    async fn watch(&self, _: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }
}

async fn serve(credentials: &Credentials, client_auth: ClientAuth, revocations: Revocations) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::new(ArcSwap::new(server_config(credentials, client_auth).unwrap()));
    let service = HealthServer::new(Guarded(revocations));
    tokio::spawn(
        tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming(listener, config)),
    );
    address
}

async fn ask(address: SocketAddr, expected: Expected, config: Arc<rustls::ClientConfig>) -> Result<(), Status> {
    let channel = channel(address, expected, Arc::new(ArcSwap::new(config)));
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.map(drop)
}

#[tokio::test]
async fn only_the_right_role_of_the_right_ca_is_served() {
    let ca = Ca::new();
    let node = identity(Role::Node, 7);
    let revocations = Revocations::new();
    let address = serve(&ca.issue(node), ClientAuth::Required, revocations.clone()).await;
    let control_plane = ca.issue(identity(Role::ControlPlane, 1));
    let config = client_config(&control_plane).unwrap();

    ask(address, Expected::Identity(node), Arc::clone(&config)).await.unwrap();
    ask(address, Expected::Role(Role::Node), Arc::clone(&config)).await.unwrap();

    for role in [Role::Node, Role::Monitoring] {
        let other = client_config(&ca.issue(identity(role, 8))).unwrap();
        let status = ask(address, Expected::Identity(node), other).await.unwrap_err();
        assert_eq!(from_status(&status).reason, nemordp_types::Reason::Forbidden, "{role}");
    }
    let foreign = Ca::new();
    let mut stranger = foreign.issue(identity(Role::ControlPlane, 1));
    stranger.ca = ca.certificate.clone();
    ask(address, Expected::Identity(node), client_config(&stranger).unwrap()).await.unwrap_err();

    revocations.replace(1, [serial_of(&control_plane.chain[0]).unwrap()]);
    let status = ask(address, Expected::Identity(node), config).await.unwrap_err();
    assert_eq!(from_status(&status).reason, nemordp_types::Reason::CertificateRevoked);
}

#[tokio::test]
async fn a_client_talks_only_to_whom_it_expects() {
    let ca = Ca::new();
    let address = serve(&ca.issue(identity(Role::Node, 7)), ClientAuth::Required, Revocations::new()).await;
    let config = client_config(&ca.issue(identity(Role::ControlPlane, 1))).unwrap();
    let other_node = Expected::Identity(identity(Role::Node, 8));
    let status = ask(address, other_node, Arc::clone(&config)).await.unwrap_err();
    assert_eq!(from_status(&status).reason, nemordp_types::Reason::NodeUnreachable, "{status:?}");
    ask(address, Expected::Role(Role::ControlPlane), config).await.unwrap_err();
}

#[tokio::test]
async fn enrollment_goes_only_to_the_pinned_ca_and_gets_no_further_than_its_call() {
    let ca = Ca::new();
    let expected = Expected::Role(Role::ControlPlane);
    let address = serve(&ca.issue(identity(Role::ControlPlane, 1)), ClientAuth::Optional, Revocations::new()).await;
    let pinned = enrollment_client_config(spki_sha256(&ca.certificate).unwrap()).unwrap();
    let status = ask(address, expected, pinned).await.unwrap_err();
    assert_eq!(
        from_status(&status).reason,
        nemordp_types::Reason::Unauthenticated,
        "a call that needs a role is refused"
    );

    let other = enrollment_client_config(spki_sha256(&Ca::new().certificate).unwrap()).unwrap();
    let status = ask(address, expected, other).await.unwrap_err();
    assert_eq!(from_status(&status).reason, nemordp_types::Reason::NodeUnreachable, "{status:?}");

    // A node of the same CA cannot pose as the control plane towards a machine that enrolls.
    let address = serve(&ca.issue(identity(Role::Node, 7)), ClientAuth::Optional, Revocations::new()).await;
    let pinned = enrollment_client_config(spki_sha256(&ca.certificate).unwrap()).unwrap();
    ask(address, expected, pinned).await.unwrap_err();
}

#[tokio::test]
async fn a_certificate_that_is_out_of_its_time_is_explained_on_both_sides() {
    let ca = Ca::new();
    let (node, control_plane) = (identity(Role::Node, 7), identity(Role::ControlPlane, 1));
    let config = client_config(&ca.issue(control_plane)).unwrap();
    for (from, until, word) in [(1975, 2000, "expired"), (3000, 4096, "not valid for another")] {
        let server = ca.issue_for(node, from, until);
        let address = serve(&server, ClientAuth::Required, Revocations::new()).await;
        let status = ask(address, Expected::Identity(node), Arc::clone(&config)).await.unwrap_err();
        let failure = from_status(&status);
        assert_eq!(failure.reason, nemordp_types::Reason::NodeUnreachable);
        assert!(failure.message.contains(word) && failure.message.contains("clock"), "{failure:?} {status:?}");
    }
    let address = serve(&ca.issue(node), ClientAuth::Required, Revocations::new()).await;
    let expired = client_config(&ca.issue_for(control_plane, 1975, 2000)).unwrap();
    let failure = from_status(&ask(address, Expected::Identity(node), expired).await.unwrap_err());
    assert!(failure.message.contains("our certificate has expired"), "{failure:?}");
}
