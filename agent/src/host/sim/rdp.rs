//! The RDP server of a simulated guest, as far as a login with network level authentication goes: X.224 negotiation
//! (MS-RDPBCGR 2.2.1.1), TLS, CredSSP (MS-CSSP) with NTLM, early user authorization. No desktop follows.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ironrdp_connector::sspi::credssp::{
    CredSspServer, CredentialsProxy, EarlyUserAuthResult, ServerMode, ServerState, TsRequest,
};
use ironrdp_connector::sspi::ntlm::NtlmConfig;
use ironrdp_connector::sspi::{AuthIdentity, Username};
use nemordp_types::{Clock, LoginName};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::guest::{Account, RdpServer};

/// How long one login may take.
const DEADLINE: Duration = Duration::from_secs(20);
/// Logins at once at one guest; more are closed.
const LOGINS: usize = 16;
/// The longest message of CredSSP that is read.
const MESSAGE_MAX: usize = 64 << 10;
/// MS-RDPBCGR 2.2.1.1.1: CredSSP, and CredSSP with early user authorization.
const HYBRID: u32 = 2;
const HYBRID_EX: u32 = 8;
/// NTSTATUS (MS-ERREF 2.3.1): wrong password or unknown user.
const LOGON_FAILURE: u32 = 0xc000_006d;

/// One guest's RDP server.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) account: Arc<Account>,
    pub(super) clock: Arc<dyn Clock>,
    tls: TlsAcceptor,
    /// What CredSSP binds to (MS-CSSP 3.1.5): the bits of the certificate's subjectPublicKey.
    public_key: Vec<u8>,
}

impl Server {
    pub(super) fn new(
        address: SocketAddr,
        rdp: &RdpServer,
        account: Arc<Account>,
        clock: Arc<dyn Clock>,
    ) -> io::Result<Self> {
        let (_, parsed) = X509Certificate::from_der(&rdp.certificate).map_err(io::Error::other)?;
        let public_key = parsed.public_key().subject_public_key.data.to_vec();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(
                vec![CertificateDer::from(rdp.certificate.clone())],
                PrivatePkcs8KeyDer::from(rdp.key.clone()).into(),
            )
            .map_err(io::Error::other)?;
        Ok(Self { address, account, clock, tls: TlsAcceptor::from(Arc::new(config)), public_key })
    }

    /// Answers until it is dropped.
    pub(super) async fn serve(self: Arc<Self>) {
        let listener = self.listen().await;
        let mut logins = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) if logins.len() < LOGINS => {
                        let server = Arc::clone(&self);
                        logins.spawn(async move {
                            match tokio::time::timeout(DEADLINE, server.login(stream)).await {
                                Ok(Ok(())) => {}
                                Ok(Err(error)) => tracing::debug!(address = %server.address, %error, "simulated login ended"),
                                Err(_) => tracing::debug!(address = %server.address, "simulated login took too long"),
                            }
                        });
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(address = %self.address, %error, "simulated guest cannot accept");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
                _ = logins.join_next(), if !logins.is_empty() => {}
            }
        }
    }

    /// The port may still be held for a moment by what ran here before.
    async fn listen(&self) -> TcpListener {
        let mut pause = Duration::from_millis(20);
        loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => return listener,
                Err(error) => {
                    tracing::warn!(address = %self.address, %error, "simulated guest cannot listen yet");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(2));
                }
            }
        }
    }

    async fn login(&self, mut tcp: TcpStream) -> io::Result<()> {
        let requested = connection_request(&mut tcp).await?;
        let selected = if requested & HYBRID_EX != 0 { HYBRID_EX } else { requested & HYBRID };
        if selected == 0 {
            // RDP_NEG_FAILURE: HYBRID_REQUIRED_BY_SERVER.
            return tcp.write_all(&confirm(3, 5)).await;
        }
        tcp.write_all(&confirm(2, selected)).await?;
        let mut tls = self.tls.accept(tcp).await?;
        let accounts = Accounts(self.account.credential());
        let mut credssp =
            CredSspServer::new(self.public_key.clone(), accounts, ServerMode::Ntlm(NtlmConfig::default()))
                .map_err(io::Error::other)?;
        loop {
            let request = ts_request(&mut tls).await?;
            match credssp.process(request).resolve_to_result() {
                Ok(ServerState::ReplyNeeded(reply)) => {
                    let mut bytes = Vec::new();
                    reply.encode_ts_request(&mut bytes)?;
                    tls.write_all(&bytes).await?;
                }
                Ok(ServerState::Finished(_)) => {
                    if selected == HYBRID_EX {
                        let mut bytes = Vec::new();
                        EarlyUserAuthResult::Success.to_buffer(&mut bytes)?;
                        tls.write_all(&bytes).await?;
                    }
                    return tls.shutdown().await;
                }
                Err(error) => {
                    self.account.refused(self.clock.now());
                    tracing::debug!(address = %self.address, error = %error.error, "simulated guest refuses a login");
                    tls.write_all(&refusal(LOGON_FAILURE)).await?;
                    return tls.shutdown().await;
                }
            }
        }
    }
}

/// The one account of the guest.
struct Accounts(Option<(LoginName, SecretString)>);

impl CredentialsProxy for Accounts {
    type AuthenticationData = AuthIdentity;

    fn auth_data_by_user(&mut self, user: &Username) -> io::Result<AuthIdentity> {
        match &self.0 {
            Some((login, password)) if user.account_name().eq_ignore_ascii_case(login.as_str()) => {
                Ok(AuthIdentity { username: user.clone(), password: password.expose_secret().to_owned().into() })
            }
            Some(_) | None => Err(io::Error::other("no such account, or it has no password")),
        }
    }

    fn auth_data(&mut self) -> io::Result<Vec<AuthIdentity>> {
        match &self.0 {
            Some((login, password)) => {
                let username = Username::new(login.as_str(), None).map_err(io::Error::other)?;
                Ok(vec![AuthIdentity { username, password: password.expose_secret().to_owned().into() }])
            }
            None => Ok(Vec::new()),
        }
    }
}

/// Reads the X.224 Connection Request and gives the security protocols that it asks for.
async fn connection_request(stream: &mut TcpStream) -> io::Result<u32> {
    let not_rdp = || io::Error::new(io::ErrorKind::InvalidData, "not an RDP connection request");
    let mut head = [0u8; 4];
    stream.read_exact(&mut head).await?;
    let length = usize::from(u16::from_be_bytes([head[2], head[3]]));
    if head[0] != 3 || !(11..=1_024).contains(&length) {
        return Err(not_rdp());
    }
    let mut body = vec![0u8; length - 4];
    stream.read_exact(&mut body).await?;
    if body[1] & 0xf0 != 0xe0 {
        return Err(not_rdp());
    }
    // RDP_NEG_REQ, if there is one, is the last eight bytes: type 1, flags, length 8, protocols.
    match body.len().checked_sub(8).and_then(|start| body.get(start..)) {
        Some([1, _, 8, 0, a, b, c, d]) if body.len() >= 15 => Ok(u32::from_le_bytes([*a, *b, *c, *d])),
        Some(_) | None => Ok(0),
    }
}

/// X.224 Connection Confirm with RDP_NEG_RSP (2) or RDP_NEG_FAILURE (3).
fn confirm(kind: u8, value: u32) -> [u8; 19] {
    let [a, b, c, d] = value.to_le_bytes();
    [3, 0, 0, 19, 14, 0xd0, 0, 0, 0x12, 0x34, 0, kind, 0, 8, 0, a, b, c, d]
}

async fn ts_request(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<TsRequest> {
    let mut bytes = vec![0u8; 4];
    stream.read_exact(&mut bytes).await?;
    let length = TsRequest::read_length(&bytes[..])?;
    if !(4..=MESSAGE_MAX).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a CredSSP message of an impossible length"));
    }
    bytes.resize(length, 0);
    stream.read_exact(&mut bytes[4..]).await?;
    TsRequest::from_buffer(&bytes)
}

/// TSRequest { version 6, errorCode } in the byte form that Windows uses: a four-byte INTEGER.
fn refusal(status: u32) -> Vec<u8> {
    [&[0x30, 0x0d, 0xa0, 3, 2, 1, 6, 0xa4, 6, 2, 4][..], &status.to_be_bytes()].concat()
}
