//! What a handshake that failed over time means, in words that name the fix.

use std::error::Error;
use std::io;

use rustls::{AlertDescription, CertificateError, Error as TlsError};

/// Why a connection failed, when clocks or expired certificates are the cause; none for anything else.
#[must_use]
pub fn validity(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(text) = tls_error(error).and_then(words) {
            return Some(text);
        }
        // HTTP/2 keeps only the text of what its connection said.
        let refused = TlsError::AlertReceived(AlertDescription::CertificateExpired);
        if error.to_string().contains(&refused.to_string()) {
            return words(&refused);
        }
        next = error.source();
    }
    None
}

/// TLS errors travel inside of IO errors, which do not show them as their source.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    if let Some(found) = error.downcast_ref::<TlsError>() {
        return Some(found);
    }
    let inner: &(dyn Error + 'static) = error.downcast_ref::<io::Error>()?.get_ref()?;
    tls_error(inner)
}

fn words(error: &TlsError) -> Option<String> {
    const CLOCK: &str = "compare this machine's clock with the other side's (timedatectl), and synchronise it";
    if let TlsError::InvalidCertificate(CertificateError::NotValidYetContext { time, not_before }) = error {
        let behind = not_before.as_secs().saturating_sub(time.as_secs());
        return Some(format!(
            "the other side's certificate is not valid for another {behind} s by this machine's clock: {CLOCK}"
        ));
    }
    if let TlsError::InvalidCertificate(CertificateError::ExpiredContext { time, not_after }) = error {
        let ahead = time.as_secs().saturating_sub(not_after.as_secs());
        return Some(format!(
            "the other side's certificate expired {ahead} s ago by this machine's clock: {CLOCK}; if it is right, the \
             other side has to renew its certificate"
        ));
    }
    if let TlsError::AlertReceived(AlertDescription::CertificateExpired) = error {
        return Some(format!(
            "the other side's clock says that our certificate has expired, or is not valid yet: {CLOCK}; a node whose \
             certificate has really expired enrolls again, with a ticket bound to its id"
        ));
    }
    None
}
