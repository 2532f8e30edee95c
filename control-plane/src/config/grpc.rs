//! The agents' listener.

use std::net::{IpAddr, SocketAddr};

use nemordp_types::Failure;
use serde::Deserialize;

use super::loopback;

/// The agents' listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Grpc {
    /// Address and port.
    pub listen: SocketAddr,
    /// Names and addresses that stand in the server's certificate beside its identity.
    pub names: Vec<String>,
}

impl Default for Grpc {
    fn default() -> Self {
        Self { listen: loopback(7443), names: Vec::new() }
    }
}

impl Grpc {
    pub(super) fn check(&self) -> Result<(), Failure> {
        for name in &self.names {
            let dns = || {
                let label =
                    |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
                name.len() <= 253 && name.split('.').all(label)
            };
            if name.parse::<IpAddr>().is_err() && !dns() {
                return Err(Failure::field("names", format!("`{name}` is neither a DNS name nor an address")));
            }
        }
        Ok(())
    }
}
