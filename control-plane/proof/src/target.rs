//! What is to be proven, and against which server.

use std::fmt;
use std::net::SocketAddr;

use nemordp_types::LoginName;
use nemordp_types::template::RdpSecurity;
use secrecy::SecretString;
use sha2::{Digest, Sha256};

/// SHA-256 of a certificate's DER bytes, as the guest agent read it inside the guest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CertificatePin([u8; 32]);

impl CertificatePin {
    /// Wraps a fingerprint that was read.
    #[must_use]
    pub const fn from_bytes(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// The fingerprint of a certificate.
    #[must_use]
    pub fn of_der(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// The fingerprint.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for CertificatePin {
    fn from(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }
}

impl fmt::Display for CertificatePin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", hex::encode(self.0))
    }
}

impl fmt::Debug for CertificatePin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where the login is proven: the endpoint that the customer will use, and what is known about the server behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Address and port of the customer's endpoint.
    pub address: SocketAddr,
    /// The template's security mode; nothing else is negotiated.
    pub security: RdpSecurity,
    /// The server's certificate; another one ends the proof before anything secret is sent.
    pub certificate: CertificatePin,
    /// NLA: demand the server's word that the user may log on (`HYBRID_EX`). True for Windows; `FreeRDP`'s shadow server
    /// cannot give it. Without meaning in TLS mode.
    pub require_authorization: bool,
}

/// What the customer will type. The password is nowhere in its `Debug`.
#[derive(Debug, Clone)]
pub struct Credential {
    /// A local account's bare name.
    pub login_name: LoginName,
    /// The password, in clear.
    pub password: SecretString,
}
