//! What the store keeps of a certificate, so that it can be revoked by its serial number.

use jiff::Timestamp;
use nemordp_store::NewCertificate;
use nemordp_types::Failure;
use nemordp_wire::identity::serial_of;
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Reads out of a certificate of ours what is kept of it.
///
/// # Errors
/// When it cannot be read.
pub fn record(certificate: &CertificateDer<'_>) -> Result<NewCertificate, Failure> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(Failure::internal)?;
    let not_after = parsed.validity().not_after.timestamp();
    Ok(NewCertificate {
        serial: serial_of(certificate)?,
        public_key_sha256: Sha256::digest(parsed.public_key().raw).into(),
        der: certificate.to_vec(),
        not_after: Timestamp::from_second(not_after).map_err(Failure::internal)?,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use nemordp_types::{ManualClock, SeededEntropy};

    use super::*;
    use crate::pki::Pki;

    #[test]
    fn what_is_kept_is_what_was_issued() {
        let folder = tempfile::tempdir().unwrap();
        let (clock, entropy) = (Arc::new(ManualClock::at_second(1_800_000_000)), Arc::new(SeededEntropy::new(3)));
        let pki = Pki::ensure(folder.path().join("pki"), Vec::new(), clock, entropy).unwrap();
        let (issued, _) = pki.issue_monitoring().unwrap();
        let kept = record(&issued.der).unwrap();
        assert_eq!((kept.serial, kept.not_after), (issued.serial, issued.not_after));
        assert!(record(&pki.own_certificate().unwrap()).is_ok());
        assert!(record(&CertificateDer::from(vec![1, 2, 3])).is_err());
    }
}
