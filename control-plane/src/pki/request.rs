//! A certificate signing request: its signature is checked, its public key is taken, the rest is ignored.

use nemordp_types::Failure;
use rcgen::{CertificateSigningRequestParams, PublicKey, PublicKeyData as _};
use rustls_pki_types::CertificateSigningRequestDer;
use sha2::{Digest as _, Sha256};

/// Larger than any request for an elliptic or a 4096 bit RSA key.
const REQUEST_MAX_BYTES: usize = 8 << 10;

/// The public key that a request proved to hold.
#[derive(Debug)]
pub struct SigningRequest {
    pub(super) public_key: PublicKey,
}

impl SigningRequest {
    /// Reads PKCS #10 in DER.
    ///
    /// # Errors
    /// When it cannot be read, or is not signed with the key that it names.
    pub fn read(der: &[u8]) -> Result<Self, Failure> {
        let bad = |error: &dyn std::fmt::Display| {
            Failure::field("csr_der", "use a PKCS #10 request in DER that is signed with its own key")
                .with_context(error)
        };
        if der.len() > REQUEST_MAX_BYTES {
            return Err(bad(&"too large"));
        }
        let params = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(der))
            .map_err(|error| bad(&error))?;
        Ok(Self { public_key: params.public_key })
    }

    /// SHA-256 of the public key (SubjectPublicKeyInfo, DER): tells whether a ticket comes again with the same key.
    #[must_use]
    pub fn public_key_sha256(&self) -> [u8; 32] {
        Sha256::digest(self.public_key.subject_public_key_info()).into()
    }
}
