//! A login as an RDP client makes it: negotiation, TLS, CredSSP with NTLM, early user authorization.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ironrdp_connector::sspi::credssp::{
    ClientMode, ClientState, CredSspClient, CredSspMode, EarlyUserAuthResult, TsRequest,
};
use ironrdp_connector::sspi::ntlm::NtlmConfig;
use ironrdp_connector::sspi::{AuthIdentity, Credentials, Username};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// How a login ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Login {
    Accepted,
    /// NTSTATUS.
    Refused(u32),
}

/// Takes the certificate as it is; the test compares it with what the agent read.
#[derive(Debug)]
struct Any;

impl ServerCertVerifier for Any {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Logs in; gives the outcome and the SHA-256 of the server's certificate.
pub(crate) async fn login(address: SocketAddr, user: &str, password: &str) -> io::Result<(Login, [u8; 32])> {
    let mut tcp = TcpStream::connect(address).await?;
    // X.224 Connection Request with RDP_NEG_REQ for SSL, HYBRID and HYBRID_EX.
    tcp.write_all(&[3, 0, 0, 19, 14, 0xe0, 0, 0, 0, 0, 0, 1, 0, 8, 0, 11, 0, 0, 0]).await?;
    let mut confirm = [0u8; 19];
    tcp.read_exact(&mut confirm).await?;
    assert_eq!(confirm[11], 2, "negotiation was refused");
    assert_eq!(confirm[15], 8, "HYBRID_EX was not selected");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any))
        .with_no_client_auth();
    let name = ServerName::IpAddress(address.ip().into());
    let mut tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    let certificate = tls.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let (_, parsed) = X509Certificate::from_der(&certificate).unwrap();
    let identity = AuthIdentity { username: Username::new(user, None).unwrap(), password: password.to_owned().into() };
    let mut credssp = CredSspClient::new(
        parsed.public_key().subject_public_key.data.to_vec(),
        Credentials::AuthIdentity(identity),
        CredSspMode::WithCredentials,
        ClientMode::Ntlm(NtlmConfig::default()),
        "TERMSRV/desk".to_owned(),
    )
    .unwrap();
    let mut request = TsRequest::default();
    let outcome = loop {
        let state = match credssp.process(request).resolve_to_result() {
            Ok(state) => state,
            Err(error) => break Login::Refused(error.nstatus.map_or(0, |status| status.0)),
        };
        let (reply, last) = match state {
            ClientState::ReplyNeeded(reply) => (reply, false),
            ClientState::FinalMessage(reply) => (reply, true),
        };
        let mut bytes = Vec::new();
        reply.encode_ts_request(&mut bytes)?;
        tls.write_all(&bytes).await?;
        if last {
            let mut early = [0u8; 4];
            tls.read_exact(&mut early).await?;
            match EarlyUserAuthResult::from_buffer(&early[..])? {
                EarlyUserAuthResult::Success => break Login::Accepted,
                EarlyUserAuthResult::AccessDenied => break Login::Refused(5),
            }
        }
        let mut head = vec![0u8; 4];
        tls.read_exact(&mut head).await?;
        let length = TsRequest::read_length(&head[..])?;
        head.resize(length, 0);
        tls.read_exact(&mut head[4..]).await?;
        request = TsRequest::from_buffer(&head)?;
    };
    Ok((outcome, Sha256::digest(&certificate).into()))
}
