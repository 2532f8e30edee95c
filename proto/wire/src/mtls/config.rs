//! TLS configurations from credentials.

use std::sync::Arc;

use nemordp_types::{Failure, Reason};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, ServerConfig,
    SignatureScheme,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use crate::identity::{Identity, Role, spki_sha256};

/// A certificate with its key, and the CA that both sides trust.
#[derive(Debug)]
pub struct Credentials {
    /// Leaf first, without the CA.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
    /// Our own CA.
    pub ca: CertificateDer<'static>,
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key(), ca: self.ca.clone() }
    }
}

/// Whether a server takes clients without a certificate into the handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate, no connection.
    Required,
    /// A client may come without one: enrollment. Each call still demands its role.
    Optional,
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn broken(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Reason::IdentityMismatch, "certificate, key and CA do not belong together; enroll again")
        .with_context(error)
}

fn roots(ca: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, Failure> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone()).map_err(|error| broken(&error))?;
    Ok(Arc::new(roots))
}

/// A server that shows its certificate together with the CA's, and accepts only clients of that CA.
pub fn server_config(credentials: &Credentials, client_auth: ClientAuth) -> Result<Arc<ServerConfig>, Failure> {
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(&credentials.ca)?, provider());
    let verifier = match client_auth {
        ClientAuth::Required => verifier,
        ClientAuth::Optional => verifier.allow_unauthenticated(),
    };
    let verifier = verifier.build().map_err(|error| broken(&error))?;
    let mut chain = credentials.chain.clone();
    chain.push(credentials.ca.clone());
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| broken(&error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, credentials.key.clone_key())
        .map_err(|error| broken(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// A client that shows its certificate and accepts only servers of its CA, whose names agree with their identity.
pub fn client_config(credentials: &Credentials) -> Result<Arc<ClientConfig>, Failure> {
    let verifier = OurServers { inner: server_verifier(roots(&credentials.ca)?)? };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| broken(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(credentials.chain.clone(), credentials.key.clone_key())
        .map_err(|error| broken(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

/// A client without a certificate that accepts only a control plane whose CA has the pinned key.
pub fn enrollment_client_config(ca_key_sha256: [u8; 32]) -> Result<Arc<ClientConfig>, Failure> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| broken(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedCa {
            ca_key_sha256,
            algorithms: provider().signature_verification_algorithms,
        }))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn server_verifier(roots: Arc<RootCertStore>) -> Result<Arc<WebPkiServerVerifier>, Failure> {
    WebPkiServerVerifier::builder_with_provider(roots, provider()).build().map_err(|error| broken(&error))
}

/// The name that a certificate must carry: that of the identity it claims. Servers are reached by address, so the name
/// asked for says nothing; which identity may answer is checked after the handshake, before any data.
fn own_name(certificate: &CertificateDer<'_>) -> Result<(Identity, ServerName<'static>), TlsError> {
    let unfit = TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
    let identity = Identity::of_certificate(certificate).map_err(|_| unfit.clone())?;
    let name = ServerName::try_from(identity.dns_name()).map_err(|_| unfit)?;
    Ok((identity, name))
}

#[derive(Debug)]
struct OurServers {
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for OurServers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _asked_for: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let (_, name) = own_name(end_entity)?;
        self.inner.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct PinnedCa {
    ca_key_sha256: [u8; 32],
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for PinnedCa {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _asked_for: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let unknown = TlsError::InvalidCertificate(CertificateError::UnknownIssuer);
        let ca = intermediates
            .iter()
            .find(|certificate| spki_sha256(certificate).is_ok_and(|key| key == self.ca_key_sha256))
            .ok_or_else(|| unknown.clone())?;
        let (identity, name) = own_name(end_entity)?;
        if identity.role != Role::ControlPlane {
            return Err(TlsError::InvalidCertificate(CertificateError::ApplicationVerificationFailure));
        }
        let roots = roots(&ca.clone().into_owned()).map_err(|_| unknown.clone())?;
        let verifier = server_verifier(roots).map_err(|_| unknown)?;
        verifier.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
