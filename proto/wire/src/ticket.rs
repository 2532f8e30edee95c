//! What an operator hands to a new node: a one-use secret, and the key of the CA that it may show it to.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nemordp_types::{Entropy, Failure, Reason};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

const PREFIX: &str = "nrt1.";

/// An enrollment ticket, as text `nrt1.<secret>.<SHA-256 of the CA's key>`, both parts base64url.
#[derive(Debug, Clone)]
pub struct EnrollmentTicket {
    /// The secret part, 32 random bytes in base64url; the control plane stores only its hash.
    pub secret: SecretString,
    /// SHA-256 of the CA's public key; checked before the secret is sent.
    pub ca_key_sha256: [u8; 32],
}

impl EnrollmentTicket {
    /// A fresh ticket.
    #[must_use]
    pub fn new(entropy: &dyn Entropy, ca_key_sha256: [u8; 32]) -> Self {
        let mut secret = zeroize::Zeroizing::new([0u8; 32]);
        entropy.fill(&mut *secret);
        Self { secret: URL_SAFE_NO_PAD.encode(*secret).into(), ca_key_sha256 }
    }

    /// Reads the text; a broken one is refused before anything is sent.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let bad = || {
            Failure::new(Reason::TicketInvalid, "use the whole ticket as `nemordp node ticket` printed it, nrt1.….…")
                .with_field("ticket")
        };
        let (secret, pin) = text.trim().strip_prefix(PREFIX).and_then(|rest| rest.split_once('.')).ok_or_else(bad)?;
        if URL_SAFE_NO_PAD.decode(secret).map_err(|_| bad())?.len() != 32 {
            return Err(bad());
        }
        let pin = URL_SAFE_NO_PAD.decode(pin).map_err(|_| bad())?;
        Ok(Self { secret: secret.into(), ca_key_sha256: pin.try_into().map_err(|_| bad())? })
    }

    /// The text that the operator copies.
    #[must_use]
    pub fn to_text(&self) -> SecretString {
        format!("{PREFIX}{}.{}", self.secret.expose_secret(), URL_SAFE_NO_PAD.encode(self.ca_key_sha256)).into()
    }

    /// What the control plane stores of the secret.
    #[must_use]
    pub fn secret_sha256(&self) -> [u8; 32] {
        secret_sha256(self.secret.expose_secret())
    }
}

/// The stored form of a ticket's secret that a node presented.
#[must_use]
pub fn secret_sha256(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use nemordp_types::SeededEntropy;

    use super::*;

    #[test]
    fn a_ticket_survives_its_text_and_hides_in_debug() {
        let ticket = EnrollmentTicket::new(&SeededEntropy::new(1), [7; 32]);
        let read = EnrollmentTicket::parse(ticket.to_text().expose_secret()).unwrap();
        assert_eq!(read.secret_sha256(), ticket.secret_sha256());
        assert_eq!(read.ca_key_sha256, [7; 32]);
        assert!(!format!("{ticket:?}").contains(ticket.secret.expose_secret()));
    }

    #[test]
    fn broken_tickets_are_refused() {
        for bad in ["", "nrt1.", "nrt1.x.y", "nrt2.AAAA.AAAA", "nrt1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA.AA"] {
            assert_eq!(EnrollmentTicket::parse(bad).unwrap_err().reason, Reason::TicketInvalid, "{bad}");
        }
    }
}
