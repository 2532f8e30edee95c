//! The control plane's own certificate, and everything that is made from it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use nemordp_types::id::uuid_v7;
use nemordp_types::{Clock, Entropy, Failure};
use nemordp_wire::identity::{Identity, Role};
use nemordp_wire::mtls::{ClientAuth, Credentials, Revocations, client_config, server_config};
use rcgen::KeyPair;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::authority::{Authority, Issued};
use super::file;
use super::request::SigningRequest;

/// The control plane's own certificate is good for this long, and made anew after two thirds.
const OWN_LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// Prometheus' certificate is replaced by hand.
const MONITORING_LIFETIME: Duration = Duration::from_secs(366 * 86_400);

/// The installation's CA, and the control plane's own place in it.
#[derive(Debug)]
pub struct Pki {
    folder: PathBuf,
    names: Vec<String>,
    authority: Authority,
    identity: Identity,
    agents: Arc<ArcSwap<ServerConfig>>,
    metrics: Arc<ArcSwap<ServerConfig>>,
    client: Arc<ArcSwap<ClientConfig>>,
    revocations: Revocations,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Pki {
    /// Reads CA and certificate of a folder; what is missing or due is made. `names` stand in the certificate beside
    /// the identity.
    ///
    /// # Errors
    /// When the files cannot be read or written, or do not belong together.
    pub fn ensure(
        folder: PathBuf,
        names: Vec<String>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, Failure> {
        let authority = Authority::ensure(&folder, clock.now(), entropy.as_ref())?;
        let certificate = folder.join("control-plane.crt");
        let identity = match certificate.exists() {
            true => Identity::of_certificate(&file::read_certificate(&certificate)?)?,
            false => Identity { role: Role::ControlPlane, id: uuid_v7(clock.as_ref(), entropy.as_ref()) },
        };
        let credentials = credentials(&folder, &names, &authority, identity, clock.as_ref(), entropy.as_ref())?;
        Ok(Self {
            agents: Arc::new(ArcSwap::new(server_config(&credentials, ClientAuth::Optional)?)),
            metrics: Arc::new(ArcSwap::new(server_config(&credentials, ClientAuth::Required)?)),
            client: Arc::new(ArcSwap::new(client_config(&credentials)?)),
            revocations: Revocations::new(),
            folder,
            names,
            authority,
            identity,
            clock,
            entropy,
        })
    }

    /// Makes the own certificate anew when it is due, and uses it for every new connection. True when it did.
    ///
    /// # Errors
    /// When the files cannot be written; the old certificate stays in use.
    pub fn renew_if_due(&self) -> Result<bool, Failure> {
        if !own_is_due(&self.folder, &self.names, self.clock.now()) {
            return Ok(false);
        }
        let (clock, entropy) = (self.clock.as_ref(), self.entropy.as_ref());
        let credentials = credentials(&self.folder, &self.names, &self.authority, self.identity, clock, entropy)?;
        self.agents.store(server_config(&credentials, ClientAuth::Optional)?);
        self.metrics.store(server_config(&credentials, ClientAuth::Required)?);
        self.client.store(client_config(&credentials)?);
        Ok(true)
    }

    /// Issues a node's certificate for the key of its request.
    ///
    /// # Errors
    /// Only when signing itself fails.
    pub fn issue_node(&self, id: uuid::Uuid, request: &SigningRequest, lifetime: Duration) -> Result<Issued, Failure> {
        let identity = Identity { role: Role::Node, id };
        let (now, entropy) = (self.clock.now(), self.entropy.as_ref());
        self.authority.issue(identity, &[], &request.public_key, lifetime, now, entropy)
    }

    /// Makes a certificate with its key (PEM both) for a monitoring system: it may read metrics, nothing else.
    ///
    /// # Errors
    /// Only when signing itself fails.
    pub fn issue_monitoring(&self) -> Result<(Issued, String), Failure> {
        let identity = Identity { role: Role::Monitoring, id: uuid_v7(self.clock.as_ref(), self.entropy.as_ref()) };
        let pair = KeyPair::generate().map_err(Failure::internal)?;
        let (now, entropy) = (self.clock.now(), self.entropy.as_ref());
        let issued = self.authority.issue(identity, &[], &pair, MONITORING_LIFETIME, now, entropy)?;
        Ok((issued, pair.serialize_pem()))
    }

    /// The control plane's own certificate.
    ///
    /// # Errors
    /// When its file cannot be read.
    pub fn own_certificate(&self) -> Result<CertificateDer<'static>, Failure> {
        file::read_certificate(&self.folder.join("control-plane.crt"))
    }

    /// Who this control plane is.
    #[must_use]
    pub const fn identity(&self) -> Identity {
        self.identity
    }

    /// The CA.
    #[must_use]
    pub const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// For the agents' listener: takes clients without a certificate, for enrollment.
    #[must_use]
    pub fn agents(&self) -> Arc<ArcSwap<ServerConfig>> {
        Arc::clone(&self.agents)
    }

    /// For the metrics' listener: no certificate, no connection.
    #[must_use]
    pub fn metrics(&self) -> Arc<ArcSwap<ServerConfig>> {
        Arc::clone(&self.metrics)
    }

    /// For calling agents.
    #[must_use]
    pub fn client(&self) -> Arc<ArcSwap<ClientConfig>> {
        Arc::clone(&self.client)
    }

    /// Certificates that are refused.
    #[must_use]
    pub const fn revocations(&self) -> &Revocations {
        &self.revocations
    }
}

/// A certificate as PEM.
pub fn to_pem(der: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

fn credentials(
    folder: &std::path::Path,
    names: &[String],
    authority: &Authority,
    identity: Identity,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<Credentials, Failure> {
    let (certificate_path, key_path) = (folder.join("control-plane.crt"), folder.join("control-plane.key"));
    if own_is_due(folder, names, clock.now()) {
        let pair = KeyPair::generate().map_err(Failure::internal)?;
        let issued = authority.issue(identity, names, &pair, OWN_LIFETIME, clock.now(), entropy)?;
        // A crash between the two leaves a pair that does not fit, which is due again.
        file::replace(&key_path, pair.serialize_pem().as_bytes(), 0o600)?;
        file::replace(&certificate_path, to_pem(&issued.der).as_bytes(), 0o644)?;
    }
    let key = file::parse_key(&key_path, &file::read_key_pem(&key_path)?)?;
    let chain = vec![file::read_certificate(&certificate_path)?];
    Ok(Credentials { chain, key, ca: authority.certificate().clone() })
}

/// Whether the own certificate is missing, unreadable, not of its key, past two thirds of its life, or lacks a name.
fn own_is_due(folder: &std::path::Path, names: &[String], now: Timestamp) -> bool {
    let (certificate_path, key_path) = (folder.join("control-plane.crt"), folder.join("control-plane.key"));
    let Ok(der) = file::read_certificate(&certificate_path) else { return true };
    let Ok((_, certificate)) = X509Certificate::from_der(&der) else { return true };
    let pair = file::read_key_pem(&key_path).ok().and_then(|pem| KeyPair::from_pem(&pem).ok());
    let fits =
        pair.is_some_and(|pair| certificate.public_key().subject_public_key.data.as_ref() == pair.public_key_raw());
    let left = certificate.validity().not_after.timestamp().saturating_sub(now.as_second());
    let due = left < i64::try_from(OWN_LIFETIME.as_secs() / 3).unwrap_or(i64::MAX);
    let named = names.iter().all(|name| has_name(&certificate, name));
    !fits || due || !named
}

fn has_name(certificate: &X509Certificate<'_>, name: &str) -> bool {
    use x509_parser::extensions::GeneralName;
    let address: Option<Vec<u8>> = name.parse().ok().map(|address: std::net::IpAddr| match address {
        std::net::IpAddr::V4(v4) => v4.octets().to_vec(),
        std::net::IpAddr::V6(v6) => v6.octets().to_vec(),
    });
    let names = certificate.subject_alternative_name().ok().flatten();
    names.is_some_and(|extension| {
        extension.value.general_names.iter().any(|general| {
            if let GeneralName::DNSName(dns) = general {
                *dns == name
            } else if let GeneralName::IPAddress(bytes) = general {
                address.as_deref() == Some(*bytes)
            } else {
                false
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use nemordp_types::{ManualClock, SeededEntropy};

    use super::*;

    #[test]
    fn the_own_certificate_is_renewed_after_two_thirds_and_keeps_its_identity() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at_second(1_800_000_000));
        let ensure = |names: &[&str]| {
            let names = names.iter().map(|name| (*name).to_owned()).collect();
            Pki::ensure(folder.path().join("pki"), names, clock.clone(), Arc::new(SeededEntropy::new(1))).unwrap()
        };
        let pki = ensure(&[]);
        assert!(!pki.renew_if_due().unwrap());
        clock.advance(OWN_LIFETIME / 2);
        assert!(!pki.renew_if_due().unwrap());
        let before = pki.agents().load_full();
        clock.advance(OWN_LIFETIME / 4);
        assert!(pki.renew_if_due().unwrap());
        assert!(!Arc::ptr_eq(&before, &pki.agents().load_full()), "new connections get the new certificate");
        assert!(!pki.renew_if_due().unwrap());
        let named = ensure(&["cp.example", "192.0.2.7"]);
        assert_eq!(named.identity(), pki.identity());
        let der = file::read_certificate(&folder.path().join("pki/control-plane.crt")).unwrap();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        assert!(has_name(&certificate, "cp.example") && has_name(&certificate, "192.0.2.7"));
    }
}
