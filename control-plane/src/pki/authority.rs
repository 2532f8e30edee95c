//! The CA: makes itself once, issues certificates by role.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_types::{Entropy, Failure};
use nemordp_wire::identity::{Identity, Role, spki_sha256};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

use super::file;

/// Ten years: a new CA means that every node enrolls again.
const CA_LIFETIME: Duration = Duration::from_secs(3_650 * 86_400);
/// Clocks of nodes may be this far behind.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// The CA of one installation.
pub struct Authority {
    certificate: CertificateDer<'static>,
    key_sha256: [u8; 32],
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("key_sha256", &hex::encode(self.key_sha256)).finish_non_exhaustive()
    }
}

/// A certificate that was just issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// Its serial number, big-endian, without leading zeros.
    pub serial: Vec<u8>,
    /// When it ends.
    pub not_after: Timestamp,
}

impl Authority {
    /// Reads the CA of a folder, or makes one where none is.
    ///
    /// # Errors
    /// When the files cannot be read or written, or do not belong together.
    pub fn ensure(folder: &Path, now: Timestamp, entropy: &dyn Entropy) -> Result<Self, Failure> {
        file::private_folder(folder)?;
        let (certificate, key) = (folder.join("ca.crt"), folder.join("ca.key"));
        // The key is written first: a certificate without its key could never be mended.
        if !certificate.exists() {
            let pair = match key.exists() {
                true => KeyPair::from_pem(&file::read_key_pem(&key)?).map_err(Failure::internal)?,
                false => KeyPair::generate().map_err(Failure::internal)?,
            };
            file::replace(&key, pair.serialize_pem().as_bytes(), 0o600)?;
            let ca = params(now, CA_LIFETIME, entropy)?.ca().self_signed(&pair).map_err(Failure::internal)?;
            file::replace(&certificate, ca.pem().as_bytes(), 0o644)?;
        }
        Self::load(folder)
    }

    /// Reads the CA of a folder.
    ///
    /// # Errors
    /// When the files are missing or do not belong together.
    pub fn load(folder: &Path) -> Result<Self, Failure> {
        let (certificate_path, key_path) = (folder.join("ca.crt"), folder.join("ca.key"));
        let certificate = file::read_certificate(&certificate_path)?;
        let pem = file::read_key_pem(&key_path)?;
        let pair =
            KeyPair::from_pem(&pem).map_err(|error| file::unusable(&key_path, format!("holds no key: {error}")))?;
        let key_sha256 = spki_sha256(&certificate)?;
        let own: [u8; 32] = Sha256::digest(pair.subject_public_key_info()).into();
        if own != key_sha256 {
            return Err(file::unusable(&key_path, "is not the key of ca.crt beside it"));
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, pair).map_err(Failure::internal)?;
        Ok(Self { certificate, key_sha256, issuer })
    }

    /// Its own certificate.
    #[must_use]
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of its public key: what a ticket pins.
    #[must_use]
    pub const fn key_sha256(&self) -> [u8; 32] {
        self.key_sha256
    }

    /// Issues a certificate for a public key. `names` are DNS names and addresses beside those of the identity.
    ///
    /// # Errors
    /// When a name cannot stand in a certificate.
    pub fn issue(
        &self,
        identity: Identity,
        names: &[String],
        public_key: &impl PublicKeyData,
        lifetime: Duration,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Issued, Failure> {
        let template = params(now, lifetime, entropy)?.leaf(identity, names)?;
        let serial = template.serial.clone();
        let certificate = template.params.signed_by(public_key, &self.issuer).map_err(Failure::internal)?;
        let not_after = now.checked_add(lifetime).map_err(Failure::internal)?;
        Ok(Issued { der: certificate.der().clone(), serial, not_after })
    }
}

struct Draft {
    params: CertificateParams,
    serial: Vec<u8>,
}

/// What every certificate has: validity, and a serial number of 128 random bits.
fn params(now: Timestamp, lifetime: Duration, entropy: &dyn Entropy) -> Result<Draft, Failure> {
    let mut serial = [0u8; 16];
    entropy.fill(&mut serial);
    // Positive and without a leading zero, whatever was drawn.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = Duration::from_secs(u64::try_from(now.as_second()).map_err(Failure::internal)?);
    params.not_before = epoch + since.saturating_sub(CLOCK_SKEW);
    params.not_after = epoch + since + lifetime;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.use_authority_key_identifier_extension = true;
    Ok(Draft { params, serial: serial.to_vec() })
}

impl Draft {
    fn ca(mut self) -> CertificateParams {
        self.params.distinguished_name = named("NemoRDP CA");
        self.params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        self.params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        self.params
    }

    fn leaf(mut self, identity: Identity, names: &[String]) -> Result<Self, Failure> {
        let bad = |name: &str| Failure::field("names", format!("`{name}` cannot stand in a certificate"));
        let (uri, dns) = (identity.uri(), identity.dns_name());
        self.params.distinguished_name = named(&identity.to_string());
        self.params.subject_alt_names = vec![
            SanType::URI(uri.clone().try_into().map_err(|_| bad(&uri))?),
            SanType::DnsName(dns.clone().try_into().map_err(|_| bad(&dns))?),
        ];
        for name in names {
            self.params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName(name.clone().try_into().map_err(|_| bad(name))?),
            });
        }
        self.params.is_ca = IsCa::ExplicitNoCa;
        self.params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        self.params.extended_key_usages = match identity.role {
            // Nodes and control planes serve and call; a monitoring system only calls.
            Role::ControlPlane | Role::Node => {
                vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth]
            }
            Role::Monitoring => vec![ExtendedKeyUsagePurpose::ClientAuth],
        };
        Ok(self)
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

#[cfg(test)]
mod tests {
    use nemordp_types::SeededEntropy;
    use nemordp_wire::identity::serial_of;
    use uuid::Uuid;
    use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn issue(authority: &Authority, role: Role) -> Issued {
        let pair = KeyPair::generate().unwrap();
        let identity = Identity { role, id: Uuid::from_u128(7) };
        let names = ["cp.example".to_owned(), "192.0.2.1".to_owned()];
        authority
            .issue(identity, &names, &pair, Duration::from_secs(86_400), at(1_800_000_000), &SeededEntropy::new(3))
            .unwrap()
    }

    #[test]
    fn a_ca_is_made_once_and_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let first = Authority::ensure(folder.path(), at(1_800_000_000), &SeededEntropy::new(1)).unwrap();
        let again = Authority::ensure(folder.path(), at(1_800_000_001), &SeededEntropy::new(2)).unwrap();
        assert_eq!(first.certificate(), again.certificate());
        std::fs::remove_file(folder.path().join("ca.crt")).unwrap();
        let mended = Authority::ensure(folder.path(), at(1_800_000_002), &SeededEntropy::new(3)).unwrap();
        assert_eq!(mended.key_sha256(), first.key_sha256(), "the key outlives a lost certificate");
    }

    #[test]
    fn an_open_or_foreign_key_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        Authority::ensure(folder.path(), at(1_800_000_000), &SeededEntropy::new(1)).unwrap();
        let key = folder.path().join("ca.key");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Authority::load(folder.path()).unwrap_err().message.contains("chmod 600"));
        file::replace(&key, KeyPair::generate().unwrap().serialize_pem().as_bytes(), 0o600).unwrap();
        assert!(Authority::load(folder.path()).unwrap_err().message.contains("not the key"));
    }

    #[test]
    fn a_certificate_carries_identity_serial_and_the_usages_of_its_role() {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::ensure(folder.path(), at(1_800_000_000), &SeededEntropy::new(1)).unwrap();
        for (role, serves) in [(Role::Node, true), (Role::ControlPlane, true), (Role::Monitoring, false)] {
            let issued = issue(&authority, role);
            assert_eq!(Identity::of_certificate(&issued.der).unwrap(), Identity { role, id: Uuid::from_u128(7) });
            assert_eq!(serial_of(&issued.der).unwrap(), issued.serial);
            let (_, parsed) = X509Certificate::from_der(&issued.der).unwrap();
            let usage = parsed.extended_key_usage().unwrap().unwrap().value;
            assert_eq!((usage.server_auth, usage.client_auth), (serves, true), "{role}");
            assert!(!parsed.is_ca());
            let identified = |wanted: fn(&ParsedExtension<'_>) -> bool| {
                parsed.extensions().iter().any(|extension| wanted(extension.parsed_extension()))
            };
            assert!(identified(|e| matches!(e, ParsedExtension::AuthorityKeyIdentifier(_))));
        }
    }
}
