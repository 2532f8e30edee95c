//! SHA-256 of the first certificate of a PEM file, over its DER, as a client sees it in the handshake.

use nemordp_types::{Failure, Reason};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use sha2::{Digest, Sha256};

/// None while there is no file; a file without a certificate is a failure.
pub fn sha256(pem: &str) -> Result<Option<[u8; 32]>, Failure> {
    if pem.trim().is_empty() {
        return Ok(None);
    }
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| {
        Failure::new(
            Reason::GuestAgentFailure,
            "the guest's RDP certificate cannot be read; let the guest make a new one",
        )
        .with_context(format!("{error:?}"))
    })?;
    Ok(Some(Sha256::digest(&certificate).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_that_of_the_der_bytes() {
        let pem = "text before\n-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex::encode(sha256(pem).unwrap().unwrap()), expected);
        assert_eq!(sha256("\n").unwrap(), None);
        assert!(sha256("nonsense").is_err());
    }
}
