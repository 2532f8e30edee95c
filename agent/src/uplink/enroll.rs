//! From a ticket to a certificate, and from a certificate to the next one.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nemordp_types::node::NodeInventory;
use nemordp_types::{Failure, InstallationId, NodeId, Reason, Retry};
use nemordp_wire::identity::{Role, spki_sha256};
use nemordp_wire::mtls::{self, Expected};
use nemordp_wire::ticket::EnrollmentTicket;
use nemordp_wire::v1::control_client::ControlClient;
use nemordp_wire::{id, status, v1};
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::CertificateDer;
use secrecy::ExposeSecret as _;

use super::identity::new_key;
use super::{Identity, IdentityStore, Uplink, resolve};
use crate::config::Config;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(20);
/// The longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(15);

/// What a node says of itself when it enrolls.
#[derive(Debug)]
pub struct Enrollment<'a> {
    /// Ticket file, control plane, name.
    pub config: &'a Config,
    /// Where the identity goes.
    pub store: &'a IdentityStore,
    /// Where the control plane reaches the agent.
    pub agent_address: SocketAddr,
    /// What the node offers.
    pub inventory: NodeInventory,
}

impl Enrollment<'_> {
    /// Enrolls, with patience while the control plane does not answer.
    ///
    /// # Errors
    /// The ticket is missing, wrong, expired or used; the CA has another key than the ticket says.
    pub async fn run(&self) -> Result<Identity, Failure> {
        let ticket = self.ticket().await?;
        let key = self.store.pending_key()?;
        let mut pause = Duration::from_millis(200);
        loop {
            let attempt = tokio::time::timeout(ATTEMPT, self.attempt(&ticket, &key)).await;
            let late = || Failure::new(Reason::Unavailable, "the control plane did not answer in time");
            match attempt.unwrap_or_else(|_| Err(late())) {
                Ok(identity) => {
                    self.store.save(&identity)?;
                    tracing::info!(node = %identity.node_id, installation = %identity.installation_id, "enrolled");
                    return Ok(identity);
                }
                Err(failure) if failure.reason.retry() != Retry::Transient => return Err(failure),
                Err(failure) => {
                    tracing::warn!(control_plane = %self.config.control_plane, ?failure, "not enrolled yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
    }

    async fn ticket(&self) -> Result<EnrollmentTicket, Failure> {
        let how = "get one with `nemordp node ticket`, and name its file in ticket_file";
        let file = self.config.ticket_file.as_deref().ok_or_else(|| {
            Failure::new(Reason::TicketInvalid, format!("this node needs an enrollment ticket: {how}"))
                .with_field("ticket_file")
        })?;
        let text = tokio::fs::read_to_string(file).await.map_err(|error| {
            Failure::new(Reason::TicketInvalid, format!("{} cannot be read: {how}", Path::display(file)))
                .with_field("ticket_file")
                .with_context(error)
        })?;
        EnrollmentTicket::parse(&text)
    }

    async fn attempt(&self, ticket: &EnrollmentTicket, key: &KeyPair) -> Result<Identity, Failure> {
        let address = resolve(&self.config.control_plane).await?;
        let tls = Arc::new(ArcSwap::new(mtls::enrollment_client_config(ticket.ca_key_sha256)?));
        let channel = mtls::channel(address, Expected::Role(Role::ControlPlane), tls);
        let request = v1::EnrollRequest {
            ticket: ticket.to_text().expose_secret().to_owned(),
            csr_der: request_der(key)?.into(),
            node_name: self.config.node_name.clone(),
            agent_address: self.agent_address.to_string(),
            inventory: Some((&self.inventory).into()),
        };
        let answer =
            ControlClient::new(channel).enroll(request).await.map_err(|s| status::from_status(&s))?.into_inner();
        let ca = CertificateDer::from(answer.ca_der.to_vec());
        if spki_sha256(&ca)? != ticket.ca_key_sha256 {
            return Err(Failure::new(
                Reason::IdentityMismatch,
                "the control plane sent another CA than the ticket names",
            ));
        }
        Identity::new(
            id::decode::<NodeId>(&answer.node_id, "node_id")?,
            id::decode::<InstallationId>(&answer.installation_id, "installation_id")?,
            answer.heartbeat_seconds.max(1),
            answer.certificate_chain_der.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect(),
            ca,
            key,
        )
    }
}

impl Uplink {
    /// Gets a new certificate for a new key, and uses it from now on.
    ///
    /// # Errors
    /// The control plane does not answer or refuses; the present certificate stays.
    pub async fn renew(&self, store: &IdentityStore) -> Result<(), Failure> {
        let key = new_key()?;
        let request = v1::RenewRequest { csr_der: request_der(&key)?.into() };
        let call = async { self.control().await?.renew(request).await.map_err(|s| status::from_status(&s)) };
        let late = |_| Failure::new(Reason::Unavailable, "the control plane did not answer in time");
        let answer = tokio::time::timeout(ATTEMPT, call).await.map_err(late)??.into_inner();
        let present = self.identity();
        let ca = CertificateDer::from(answer.ca_der.to_vec());
        let identity = Identity::new(
            present.node_id,
            present.installation_id,
            present.heartbeat_seconds,
            answer.certificate_chain_der.into_iter().map(|der| CertificateDer::from(der.to_vec())).collect(),
            ca,
            &key,
        )?;
        store.save(&identity)?;
        self.replace(identity)?;
        tracing::info!("certificate renewed");
        Ok(())
    }
}

/// The certificate signing request: the control plane takes only the key from it.
fn request_der(key: &KeyPair) -> Result<Vec<u8>, Failure> {
    let unfit = |error: rcgen::Error| Failure::internal(format!("no signing request can be made: {error}"));
    let request = CertificateParams::new(Vec::new()).map_err(unfit)?.serialize_request(key).map_err(unfit)?;
    Ok(request.der().to_vec())
}
