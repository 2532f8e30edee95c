//! What the agent asks of the control plane: a certificate, its renewal, life signs, templates.
//!
//! A node's certificate decides everything: without one there is only enrollment, which needs a ticket; with one that
//! has expired it is the same. Whoever serves or calls takes the present credentials from here, so that a renewed
//! certificate is used from the next connection on.

mod enroll;
mod heartbeat;
mod identity;
mod source;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use nemordp_types::{Failure, Reason};
use nemordp_wire::identity::Role;
use nemordp_wire::mtls::{self, ClientAuth, Expected, Revocations};
use nemordp_wire::v1::control_client::ControlClient;
use rustls::{ClientConfig, ServerConfig};
use tonic::transport::Channel;

use crate::config::ControlPlaneAddress;

pub use enroll::Enrollment;
pub use heartbeat::Heartbeats;
pub use identity::{Identity, IdentityStore};
pub use source::ControlPlaneSource;

/// Largest message that the control plane may send: a template's chunk.
const MESSAGE_MAX: usize = 8 << 20;

/// The way to the control plane with the present certificate.
#[derive(Debug)]
pub struct Uplink {
    control_plane: ControlPlaneAddress,
    client: Arc<ArcSwap<ClientConfig>>,
    server: Arc<ArcSwap<ServerConfig>>,
    identity: ArcSwap<Identity>,
    revocations: Revocations,
    channel: Mutex<Option<(SocketAddr, Channel)>>,
}

impl Uplink {
    /// With the identity that enrollment gave.
    ///
    /// # Errors
    /// Certificate, key and CA do not belong together.
    pub fn new(
        control_plane: ControlPlaneAddress,
        identity: Identity,
        revocations: Revocations,
    ) -> Result<Self, Failure> {
        let credentials = identity.credentials()?;
        Ok(Self {
            control_plane,
            client: Arc::new(ArcSwap::new(mtls::client_config(&credentials)?)),
            server: Arc::new(ArcSwap::new(mtls::server_config(&credentials, ClientAuth::Required)?)),
            identity: ArcSwap::from_pointee(identity),
            revocations,
            channel: Mutex::new(None),
        })
    }

    /// What the agent's servers show.
    #[must_use]
    pub fn server_config(&self) -> Arc<ArcSwap<ServerConfig>> {
        Arc::clone(&self.server)
    }

    /// Whose certificates nobody accepts any more.
    #[must_use]
    pub const fn revocations(&self) -> &Revocations {
        &self.revocations
    }

    /// Who this node is.
    #[must_use]
    pub fn identity(&self) -> Arc<Identity> {
        self.identity.load_full()
    }

    /// Uses another certificate from the next connection on.
    ///
    /// # Errors
    /// As [`Uplink::new`].
    pub fn replace(&self, identity: Identity) -> Result<(), Failure> {
        let credentials = identity.credentials()?;
        let server = mtls::server_config(&credentials, ClientAuth::Required)?;
        self.client.store(mtls::client_config(&credentials)?);
        self.server.store(server);
        self.identity.store(Arc::new(identity));
        self.forget_channel();
        Ok(())
    }

    /// A client of the control plane; connects when it is used.
    ///
    /// # Errors
    /// `unavailable` when the name cannot be resolved.
    pub async fn control(&self) -> Result<ControlClient<Channel>, Failure> {
        let kept = self.channel.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let channel = match kept {
            Some((_, channel)) => channel,
            None => {
                let address = resolve(&self.control_plane).await?;
                let channel = mtls::channel(address, Expected::Role(Role::ControlPlane), Arc::clone(&self.client));
                *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = Some((address, channel.clone()));
                channel
            }
        };
        Ok(ControlClient::new(channel).max_decoding_message_size(MESSAGE_MAX))
    }

    /// The next call resolves the name anew: the control plane may have moved.
    pub fn forget_channel(&self) {
        *self.channel.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The control plane's address now.
async fn resolve(name: &ControlPlaneAddress) -> Result<SocketAddr, Failure> {
    let unknown = || {
        Failure::new(
            Reason::Unavailable,
            format!("control_plane: {name} cannot be resolved: check the name and the DNS"),
        )
    };
    let mut found = tokio::net::lookup_host(name.as_str()).await.map_err(|error| unknown().with_context(error))?;
    found.next().ok_or_else(unknown)
}
