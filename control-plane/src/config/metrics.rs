//! The metrics' listener.

use std::net::SocketAddr;

use serde::Deserialize;

use super::loopback;

/// The metrics' listener: plain on loopback; elsewhere HTTPS with our CA, for the roles monitoring and control-plane.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Address and port.
    pub listen: SocketAddr,
    /// Demand a certificate on loopback too, where others than Prometheus log in.
    pub require_certificate: bool,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { listen: loopback(9464), require_certificate: false }
    }
}
