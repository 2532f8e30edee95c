//! Who a certificate speaks for: a role and an id, in its names.
//!
//! URI SAN `nemordp://{control-plane|node|monitoring}/<id>` says it; DNS SAN `<id>.<role>.nemordp.internal` lets TLS
//! libraries check it.

use std::fmt;

use nemordp_types::{Failure, Reason};
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// What the holder of a certificate may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Commands agents.
    ControlPlane,
    /// Is a node: renews, sends heartbeats, fetches templates.
    Node,
    /// Reads metrics.
    Monitoring,
}

impl Role {
    /// The word in the names.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::Node => "node",
            Self::Monitoring => "monitoring",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        [Self::ControlPlane, Self::Node, Self::Monitoring].into_iter().find(|role| role.word() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Role and id in a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// What it may do.
    pub role: Role,
    /// Who it is: a node's id, a control plane's, a monitoring system's.
    pub id: Uuid,
}

impl Identity {
    /// `nemordp://node/<id>`
    #[must_use]
    pub fn uri(&self) -> String {
        format!("nemordp://{}/{}", self.role, self.id)
    }

    /// `<id>.node.nemordp.internal`
    #[must_use]
    pub fn dns_name(&self) -> String {
        format!("{}.{}.nemordp.internal", self.id, self.role)
    }

    /// Reads the identity out of the one URI name of a certificate. The certificate's chain is checked elsewhere.
    pub fn of_certificate(certificate: &CertificateDer<'_>) -> Result<Self, Failure> {
        let parsed = parse(certificate)?;
        let names = parsed.subject_alternative_name().map_err(|error| unreadable(&error))?;
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let mut uris = names.iter().filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None });
        let identity = uris.next().and_then(Self::from_uri);
        match (identity, uris.next()) {
            (Some(identity), None) => Ok(identity),
            (Some(_), Some(_)) | (None, _) => {
                Err(Failure::new(Reason::IdentityMismatch, "the certificate carries no NemoRDP identity; enroll again"))
            }
        }
    }

    fn from_uri(uri: &str) -> Option<Self> {
        let (role, id) = uri.strip_prefix("nemordp://")?.split_once('/')?;
        Some(Self { role: Role::from_word(role)?, id: Uuid::parse_str(id).ok()? })
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.role, self.id)
    }
}

/// The serial number of a certificate, big-endian, without leading zeros.
pub fn serial_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, Failure> {
    Ok(canonical_serial(parse(certificate)?.raw_serial()))
}

/// A serial number as the revocation list holds it: no leading zeros.
#[must_use]
pub fn canonical_serial(serial: &[u8]) -> Vec<u8> {
    serial.iter().copied().skip_while(|byte| *byte == 0).collect()
}

/// SHA-256 of the certificate's public key (SubjectPublicKeyInfo, DER): what a ticket pins.
pub fn spki_sha256(certificate: &CertificateDer<'_>) -> Result<[u8; 32], Failure> {
    Ok(Sha256::digest(parse(certificate)?.public_key().raw).into())
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Failure> {
    X509Certificate::from_der(certificate).map(|(_, parsed)| parsed).map_err(|error| unreadable(&error))
}

fn unreadable(error: &dyn fmt::Display) -> Failure {
    Failure::new(Reason::IdentityMismatch, "the certificate cannot be read").with_context(error)
}
