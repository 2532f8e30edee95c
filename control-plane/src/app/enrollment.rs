//! How a machine becomes a node, stays one, and says that it lives.

use nemordp_model::Label;
use nemordp_model::node::is_clock_wrong;
use nemordp_store::{HeartbeatOutcome, NewCertificate, NodeEnroll, NodeHeartbeat, TicketStanding};
use nemordp_types::node::NodeInventory;
use nemordp_types::{Failure, NodeAddress, NodeId};
use nemordp_wire::ticket::{EnrollmentTicket, secret_sha256};
use rustls_pki_types::CertificateDer;
use secrecy::SecretString;

use super::App;
use crate::pki::SigningRequest;

/// What a machine presents to become a node.
#[derive(Debug)]
pub struct Application {
    /// The ticket: its whole text, or its secret part.
    pub ticket: SecretString,
    /// PKCS #10, DER.
    pub csr_der: Vec<u8>,
    /// How operators call the machine.
    pub node_name: String,
    /// Where its agent listens.
    pub agent_address: NodeAddress,
    /// What it offers.
    pub inventory: NodeInventory,
}

/// What a machine gets when it became a node.
#[derive(Debug)]
pub struct Admission {
    /// Who it is.
    pub node_id: NodeId,
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
}

impl App {
    /// Takes a ticket and a key, gives a certificate. The same ticket with the same key gives the same certificate again
    /// until the ticket expires, so that a lost answer harms nobody.
    ///
    /// # Errors
    /// `ticket_invalid`, `ticket_expired`; `ticket_reused` when it comes with another key, which is told as an event.
    pub async fn enroll(&self, application: Application) -> Result<Admission, Failure> {
        use secrecy::ExposeSecret as _;
        let text = application.ticket.expose_secret();
        let ticket_sha256 = match EnrollmentTicket::parse(text) {
            Ok(ticket) => ticket.secret_sha256(),
            Err(_) => secret_sha256(text),
        };
        let request = SigningRequest::read(&application.csr_der)?;
        let public_key_sha256 = request.public_key_sha256();
        let node_id = match self.store.ticket_check(&ticket_sha256, &public_key_sha256).await? {
            TicketStanding::Used { node_id, certificate_der } => {
                return Ok(Admission { node_id, certificate: certificate_der.into() });
            }
            TicketStanding::Fresh { bound_node_id, .. } => {
                bound_node_id.unwrap_or_else(|| NodeId::new(self.clock.as_ref(), self.entropy.as_ref()))
            }
        };
        let certificate = self.node_certificate(node_id, &request)?;
        let enroll = NodeEnroll {
            ticket_sha256,
            node_id,
            name: Label::new(application.node_name, "node_name")?,
            agent_address: check_address(application.agent_address)?,
            inventory: application.inventory,
            certificate,
        };
        let enrolled = self.store.node_enroll(&enroll).await?;
        tracing::info!(node_id = %enrolled.node_id, node = %enroll.name, "node enrolled");
        Ok(Admission { node_id: enrolled.node_id, certificate: enrolled.certificate_der.into() })
    }

    /// A new certificate for a node that is known by its present one.
    ///
    /// # Errors
    /// `not_found` when the node does not exist.
    pub async fn renew(&self, node_id: NodeId, csr_der: &[u8]) -> Result<CertificateDer<'static>, Failure> {
        let request = SigningRequest::read(csr_der)?;
        let certificate = self.node_certificate(node_id, &request)?;
        self.store.certificate_record(node_id, &certificate).await?;
        tracing::info!(node_id = %node_id, "certificate renewed");
        Ok(certificate.der.into())
    }

    /// Takes a node's life sign.
    ///
    /// # Errors
    /// `not_found` when the node does not exist; `invalid_argument` for an address that cannot be called.
    pub async fn heartbeat(&self, node_id: NodeId, mut beat: NodeHeartbeat) -> Result<HeartbeatOutcome, Failure> {
        beat.agent_address = check_address(beat.agent_address)?;
        let outcome = self.store.node_heartbeat(node_id, &beat).await?;
        if !outcome.behind.is_empty() {
            tracing::error!(node_id = %node_id, instances = ?outcome.behind, "the store is behind this node: restored from a backup?");
        }
        if !outcome.frozen.is_empty() {
            tracing::error!(node_id = %node_id, instances = ?outcome.frozen, "frozen until the operator settles them: look at `nemordp audit`");
        }
        if !outcome.unknown.is_empty() {
            tracing::warn!(node_id = %node_id, instances = ?outcome.unknown, "the node has instances of ours that the store does not know");
        }
        if outcome.doubled {
            tracing::error!(
                node_id = %node_id, address = %beat.agent_address,
                "two agents speak for this node, its certificate was copied: revoke it and enroll the machine again"
            );
        }
        if let Some(skew) = outcome.clock_skew.filter(|skew| is_clock_wrong(*skew)) {
            tracing::warn!(node_id = %node_id, skew_seconds = skew.as_secs(), "the node's clock is wrong");
        }
        Ok(outcome)
    }

    fn node_certificate(&self, node_id: NodeId, request: &SigningRequest) -> Result<NewCertificate, Failure> {
        let lifetime = self.config.nodes.certificate_lifetime();
        let issued = self.pki.issue_node(node_id.as_uuid(), request, lifetime)?;
        Ok(NewCertificate {
            serial: issued.serial,
            public_key_sha256: request.public_key_sha256(),
            der: issued.der.to_vec(),
            not_after: issued.not_after,
        })
    }
}

/// An address that can be called: one machine's, with a port.
fn check_address(address: NodeAddress) -> Result<NodeAddress, Failure> {
    let ip = address.0.ip();
    if address.0.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
        return Err(Failure::field(
            "agent_address",
            "use the address and port at which the control plane reaches the agent",
        ));
    }
    Ok(address)
}
