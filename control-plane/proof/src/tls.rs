//! TLS with one certificate: the leaf is pinned by its SHA-256 and must sign the handshake.
//!
//! A pin alone is none if the signature is not checked: certificates are public, anybody can show one.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::stage::Stage;
use crate::target::CertificatePin;
use crate::verdict::Verdict;

/// Connects with the pinned certificate; gives the stream and the server's public key as CredSSP binds it.
pub(crate) async fn secure(
    tcp: TcpStream,
    address: SocketAddr,
    pin: CertificatePin,
) -> Result<(TlsStream<TcpStream>, Vec<u8>), Verdict> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Arc::new(PinnedLeaf { pin, presented: OnceLock::new(), provider: provider.clone() });
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Verdict::Broken { detail: format!("TLS: {error}") })?
        .dangerous()
        .with_custom_certificate_verifier(verifier.clone())
        .with_no_client_auth();
    // A resumed session shows no certificate.
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    let name = ServerName::IpAddress(address.ip().into());
    match TlsConnector::from(Arc::new(config)).connect(name, tcp).await {
        Ok(stream) => {
            let key = public_key(&stream).ok_or_else(|| Verdict::NotRdp {
                stage: Stage::Negotiated,
                detail: "its certificate cannot be read".to_owned(),
            })?;
            Ok((stream, key))
        }
        Err(error) => Err(match verifier.presented.get() {
            Some(presented) if *presented != pin => Verdict::CertificateMismatch { presented: *presented },
            Some(_) | None => Verdict::NotRdp { stage: Stage::Negotiated, detail: format!("TLS: {error}") },
        }),
    }
}

/// The content of the leaf's `subjectPublicKey` (MS-CSSP 3.1.5: what `pubKeyAuth` covers).
fn public_key(stream: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let leaf = stream.get_ref().1.peer_certificates()?.first()?;
    subject_public_key(leaf)
}

/// The content of a certificate's `subjectPublicKey`.
pub(crate) fn subject_public_key(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(certificate.public_key().subject_public_key.data.to_vec())
}

#[derive(Debug)]
struct PinnedLeaf {
    pin: CertificatePin,
    presented: OnceLock<CertificatePin>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedLeaf {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = *self.presented.get_or_init(|| CertificatePin::of_der(leaf));
        if presented == self.pin {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
