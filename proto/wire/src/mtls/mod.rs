//! Mutual TLS with our own CA: configurations, accepted connections, channels, revocation.
//!
//! There is no plain-text way through this module. Both sides check the role in the other's certificate: a server per
//! request ([`require`]), a client before the first byte of HTTP/2 leaves ([`channel()`]).

mod channel;
mod config;
pub mod explain;
mod incoming;
mod revocation;

pub use channel::{Expected, channel};
pub use config::{ClientAuth, Credentials, client_config, enrollment_client_config, server_config};
pub use incoming::{MtlsStream, Peer, accept, incoming, peer, require};
pub use revocation::Revocations;
