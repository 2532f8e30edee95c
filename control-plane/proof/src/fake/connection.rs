//! One connection of a fake server, from the connection request to the answer that ends a login.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use ironrdp_connector::sspi::credssp::{CredSspServer, CredentialsProxy, ServerMode, ServerState, TsRequest};
use ironrdp_connector::sspi::ntlm::NtlmConfig;
use ironrdp_connector::sspi::{AuthIdentity, Username};
use ironrdp_core::{decode, encode_vec};
use ironrdp_pdu::nego::{ConnectionConfirm, ConnectionRequest, FailureCode, ResponseFlags, SecurityProtocol};
use ironrdp_pdu::x224::X224;
use secrecy::ExposeSecret as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::accounts::{Accounts, Answer};
use super::{Counters, FakeOptions, FakeProtocol, HangAt};
use crate::frame::{FrameError, read_tpkt, read_ts_request};
use crate::nla::SIGNATURE_BYTES;
use crate::verdict::NtStatus;

/// What all connections of a server share.
pub(super) struct Server {
    pub(super) tls: TlsAcceptor,
    pub(super) key: Vec<u8>,
    pub(super) accounts: Accounts,
    pub(super) options: FakeOptions,
    pub(super) counters: Arc<Counters>,
}

/// Serves one client; an error only says why the connection ended.
pub(super) async fn serve(server: &Server, mut tcp: TcpStream) -> io::Result<()> {
    if server.options.hang == Some(HangAt::Accept) {
        return hang(&mut tcp).await;
    }
    let request = read_tpkt(&mut tcp).await.map_err(as_io)?;
    let X224(request) = decode::<X224<ConnectionRequest>>(&request).map_err(io::Error::other)?;
    let (protocol, refusal) = match server.options.protocol {
        FakeProtocol::HybridEx => (SecurityProtocol::HYBRID_EX, FailureCode::HYBRID_REQUIRED_BY_SERVER),
        FakeProtocol::Hybrid => (SecurityProtocol::HYBRID, FailureCode::HYBRID_REQUIRED_BY_SERVER),
        FakeProtocol::Tls => (SecurityProtocol::SSL, FailureCode::SSL_REQUIRED_BY_SERVER),
    };
    if !request.protocol.contains(protocol) {
        let confirm = encode_vec(&X224(ConnectionConfirm::Failure { code: refusal })).map_err(io::Error::other)?;
        tcp.write_all(&confirm).await?;
        return tcp.shutdown().await;
    }
    let confirm = ConnectionConfirm::Response { flags: ResponseFlags::empty(), protocol };
    tcp.write_all(&encode_vec(&X224(confirm)).map_err(io::Error::other)?).await?;
    if server.options.hang == Some(HangAt::Confirm) {
        return hang(&mut tcp).await;
    }
    let mut stream = server.tls.accept(tcp).await?;
    match server.options.protocol {
        FakeProtocol::HybridEx | FakeProtocol::Hybrid => nla(server, &mut stream).await,
        FakeProtocol::Tls => {
            let mut bytes = [0; 4096];
            let read = stream.read(&mut bytes).await?;
            count_bytes(server, read);
            stream.shutdown().await
        }
    }
}

/// CredSSP until the login is answered.
async fn nla(server: &Server, stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
    let looked_up = Arc::new(Mutex::new(Answer::Honest));
    let directory = Directory { accounts: server.accounts.clone(), answer: looked_up.clone() };
    let mut credssp = CredSspServer::new(server.key.clone(), directory, ServerMode::Ntlm(NtlmConfig::default()))
        .map_err(io::Error::other)?;
    let mut challenged = false;
    loop {
        let request = receive(server, stream).await?;
        let authenticates = request.pub_key_auth.is_some();
        if authenticates {
            server.counters.authenticates.fetch_add(1, Ordering::Relaxed);
        } else if !challenged && server.options.hang == Some(HangAt::Challenge) {
            return hang(stream).await;
        }
        challenged = true;
        // The account is looked up inside; what it answers is known afterwards.
        let state = credssp.process(request).resolve_to_result();
        let answer = *looked_up.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Answer::Status(status) => return refuse(stream, status).await,
            Answer::Forged(length) => {
                let forged = TsRequest { pub_key_auth: Some(vec![1; length]), ..TsRequest::default() };
                return send(stream, &forged).await;
            }
            Answer::Drop => return stream.shutdown().await,
            Answer::Hang => return hang(stream).await,
            Answer::Honest | Answer::NotAuthorized => {}
        }
        match state {
            Ok(ServerState::ReplyNeeded(reply)) => {
                if authenticates {
                    server.counters.proven.fetch_add(1, Ordering::Relaxed);
                }
                send(stream, &reply).await?;
            }
            Ok(ServerState::Finished(_)) => {
                if server.options.protocol == FakeProtocol::HybridEx {
                    let word: u32 = if answer == Answer::NotAuthorized { 5 } else { 0 };
                    stream.write_all(&word.to_le_bytes()).await?;
                }
                return stream.shutdown().await;
            }
            Err(_refused) => return refuse(stream, NtStatus::LOGON_FAILURE).await,
        }
    }
}

async fn receive(server: &Server, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<TsRequest> {
    let bytes = read_ts_request(stream).await.map_err(as_io)?;
    count_bytes(server, bytes.len());
    let request = TsRequest::from_buffer(&bytes)?;
    let short = |field: &Option<Vec<u8>>| field.as_ref().is_some_and(|bytes| bytes.len() < SIGNATURE_BYTES);
    if short(&request.pub_key_auth) || short(&request.auth_info) {
        return Err(io::Error::other("a sealed field shorter than its signature"));
    }
    Ok(request)
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), reply: &TsRequest) -> io::Result<()> {
    let mut bytes = Vec::new();
    reply.encode_ts_request(&mut bytes)?;
    stream.write_all(&bytes).await?;
    stream.flush().await
}

/// `TSRequest { version 6, errorCode }` in the form that Windows uses: a four-byte INTEGER.
async fn refuse(stream: &mut (impl AsyncWrite + Unpin), status: NtStatus) -> io::Result<()> {
    let head = [0x30, 0x0d, 0xa0, 0x03, 0x02, 0x01, 0x06, 0xa4, 0x06, 0x02, 0x04];
    stream.write_all(&[&head[..], &status.0.to_be_bytes()].concat()).await?;
    stream.shutdown().await
}

/// Says nothing more until the client leaves.
async fn hang(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
    tokio::io::copy(stream, &mut tokio::io::sink()).await.map(|_| ())
}

fn count_bytes(server: &Server, bytes: usize) {
    server.counters.secured_bytes.fetch_add(bytes.try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
}

fn as_io(error: FrameError) -> io::Error {
    match error {
        FrameError::Ended => io::ErrorKind::UnexpectedEof.into(),
        FrameError::Foreign(detail) => io::Error::new(io::ErrorKind::InvalidData, detail),
        FrameError::Io(error) => error,
    }
}

/// The accounts as CredSSP asks for them; keeps what the account that was asked for answers.
struct Directory {
    accounts: Accounts,
    answer: Arc<Mutex<Answer>>,
}

impl CredentialsProxy for Directory {
    type AuthenticationData = AuthIdentity;

    fn auth_data_by_user(&mut self, username: &Username) -> io::Result<AuthIdentity> {
        let entry = self.accounts.find(username.account_name()).ok_or_else(|| io::Error::other("no such account"))?;
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = entry.answer;
        let password = entry.password.expose_secret().to_owned().into();
        Ok(AuthIdentity { username: username.clone(), password })
    }

    fn auth_data(&mut self) -> io::Result<Vec<AuthIdentity>> {
        Err(io::Error::other("accounts are only looked up by name"))
    }
}
