//! From a ticket to a certificate, renewal, and what a wrong ticket meets.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use nemordp_agent::run;
use nemordp_types::{Failure, Reason, SystemClock, SystemEntropy};
use nemordp_wire::identity::{Role, serial_of};
use nemordp_wire::ticket::EnrollmentTicket;
use nemordp_wire::v1;
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use crate::control::ControlPlane;
use crate::support::{DEADLINE, Node, config, eventually};

async fn attempt(control: &ControlPlane, ticket: Option<&str>, stop: CancellationToken) -> Failure {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(control, folder.path(), "");
    match (ticket, &config.ticket_file) {
        (Some(text), Some(file)) => std::fs::write(file, text).unwrap(),
        (_, _) => config.ticket_file = None,
    }
    let host = nemordp_agent::host::sim::SimHost::open(
        &config.sim,
        &config.network,
        &config.gpus,
        folder.path(),
        Arc::new(SystemClock),
    )
    .unwrap();
    let open = move |_| std::future::ready(Ok(host.clone()));
    let started = Box::pin(run(config, open, Arc::new(SystemClock), Arc::new(SystemEntropy), stop));
    tokio::time::timeout(DEADLINE, started).await.unwrap().unwrap_err()
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let control = ControlPlane::start().await;
    control.state.lose_enrollments.store(2, Ordering::SeqCst);
    let mut node = Node::start_with(control, "").await;
    let keys = node.control.state.keys.lock().unwrap().clone();
    assert_eq!(keys.len(), 3);
    assert!(keys.windows(2).all(|pair| pair[0] == pair[1]), "one ticket, one key");
    let identity = node.folder.path().join("data/identity");
    assert!(!identity.join("pending-key.der").exists());
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(identity.join("identity.json")).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    node.stop().await;
    node.boot().await;
    assert_eq!(node.control.state.enrolled.load(Ordering::SeqCst), 3, "an enrolled node does not enroll again");
    node.stop().await;
}

#[tokio::test]
async fn wrong_and_missing_tickets_are_refused_with_the_way_to_get_one() {
    let control = ControlPlane::start().await;
    let missing = attempt(&control, None, CancellationToken::new()).await;
    assert_eq!((missing.reason, missing.field.as_deref()), (Reason::TicketInvalid, Some("ticket_file")));
    assert!(missing.message.contains("nemordp node ticket"), "{missing}");
    let other = EnrollmentTicket::new(&SystemEntropy, control.state.ticket.ca_key_sha256);
    let refused = attempt(&control, Some(other.to_text().expose_secret()), CancellationToken::new()).await;
    assert_eq!(refused.reason, Reason::TicketInvalid);
}

#[tokio::test]
async fn a_control_plane_with_another_ca_never_sees_the_ticket() {
    let control = ControlPlane::start().await;
    let other = EnrollmentTicket::new(&SystemEntropy, [7; 32]);
    let stop = CancellationToken::new();
    let later = stop.clone();
    let text = other.to_text();
    let waiting = attempt(&control, Some(text.expose_secret()), stop);
    let stopping = async move {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        later.cancel();
    };
    let (failure, ()) = tokio::join!(waiting, stopping);
    assert_eq!(failure.reason, Reason::Cancelled);
    assert_eq!(control.state.enrolled.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_renewed_certificate_serves_new_connections_at_once() {
    let mut node = Node::start("").await;
    let before = shown(&node).await;
    node.control.state.renew.store(true, Ordering::SeqCst);
    eventually("another certificate is shown", || async { shown(&node).await != before }).await;
    assert_eq!(node.control.state.renewals.load(Ordering::SeqCst), 1);
    node.client().get_inventory(v1::GetInventoryRequest {}).await.unwrap();
    let renewed = shown(&node).await;
    node.stop().await;
    node.boot().await;
    assert_eq!(shown(&node).await, renewed, "it survives a restart");
    node.stop().await;
}

/// Serial number of the certificate that the agent shows.
async fn shown(node: &Node) -> Vec<u8> {
    let credentials = node.control.state.ca.issue(Role::ControlPlane);
    let config = nemordp_wire::mtls::client_config(&credentials).unwrap();
    let tcp = tokio::net::TcpStream::connect(node.address()).await.unwrap();
    let name = rustls_pki_types::ServerName::IpAddress(node.address().ip().into());
    let tls = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await.unwrap();
    serial_of(&tls.get_ref().1.peer_certificates().unwrap()[0]).unwrap()
}
