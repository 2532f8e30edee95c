//! TLS mode against a server that does what xrdp does: it completes the connection sequence with any password, and only
//! then lets the session speak, or ends the connection.
#![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]

use std::borrow::Cow;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ironrdp_core::{Encode, decode, encode_vec};
use ironrdp_pdu::gcc::{
    ConferenceCreateResponse, RdpVersion, ServerCoreData, ServerCoreOptionalData, ServerGccBlocks, ServerNetworkData,
    ServerSecurityData,
};
use ironrdp_pdu::mcs::{
    AttachUserConfirm, ChannelJoinConfirm, ConnectInitial, ConnectResponse, DisconnectProviderUltimatum,
    DisconnectReason, DomainParameters, McsMessage, SendDataIndication,
};
use ironrdp_pdu::rdp::ClientInfoPdu;
use ironrdp_pdu::rdp::capability_sets::{DemandActive, ServerDemandActive};
use ironrdp_pdu::rdp::client_info::{ClientInfoFlags, CompressionType};
use ironrdp_pdu::rdp::finalization_messages::{ControlAction, ControlPdu, FontPdu, SynchronizePdu};
use ironrdp_pdu::rdp::headers::{
    CompressionFlags, ShareControlHeader, ShareControlPdu, ShareDataHeader, ShareDataPdu, StreamPriority,
};
use ironrdp_pdu::x224::{X224, X224Data};
use nemordp_proof::{CertificatePin, Credential, Evidence, PROOF_SHELL, Stage, Target, Verdict, prove};
use nemordp_types::LoginName;
use nemordp_types::template::RdpSecurity;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::server::TlsStream;

const USER: u16 = 1002;
const IO: u16 = 1003;
const CLIPBOARD: u16 = 1004;
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server does once the connection sequence is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// Lets the session's channel server speak.
    Speak,
    /// Paints, and says other things on the clipboard channel.
    Paint,
    /// Ends the connection as xrdp does after PAM refused.
    Ultimatum,
    /// Closes without a word.
    Close,
}

/// What the server learnt of the client.
#[derive(Debug)]
struct Seen {
    user: String,
    password: String,
    shell: String,
    autologon: bool,
    channels: usize,
}

struct Connection(TlsStream<TcpStream>);

impl Connection {
    async fn receive(&mut self) -> Vec<u8> {
        let mut frame = vec![0; 4];
        self.0.read_exact(&mut frame).await.unwrap();
        assert_eq!(frame[0], 3);
        frame.resize(usize::from(u16::from_be_bytes([frame[2], frame[3]])), 0);
        self.0.read_exact(&mut frame[4..]).await.unwrap();
        frame
    }

    async fn send(&mut self, pdu: impl Encode) {
        self.0.write_all(&encode_vec(&pdu).unwrap()).await.unwrap();
    }

    async fn indicate(&mut self, channel_id: u16, data: Vec<u8>) {
        self.send(X224(SendDataIndication { initiator_id: USER, channel_id, user_data: Cow::Owned(data) })).await;
    }

    async fn share(&mut self, pdu: ShareControlPdu) {
        let header = ShareControlHeader { share_control_pdu: pdu, pdu_source: USER, share_id: 0x1_03ea };
        self.indicate(IO, encode_vec(&header).unwrap()).await;
    }

    async fn data(&mut self, pdu: ShareDataPdu) {
        self.share(ShareControlPdu::Data(ShareDataHeader {
            share_data_pdu: pdu,
            stream_priority: StreamPriority::Medium,
            compression_flags: CompressionFlags::empty(),
            compression_type: CompressionType::K8,
        }))
        .await;
    }

    /// Basic settings and channels (MS-RDPBCGR 1.3.1.1); gives the number of channels that the client asked for.
    async fn settle(&mut self) -> usize {
        let initial = self.receive().await;
        let X224(initial) = decode::<X224<X224Data<'_>>>(&initial).unwrap();
        let initial = decode::<ConnectInitial>(&initial.data).unwrap();
        let channels = initial.channel_names().map_or(0, |names| names.len());
        let blocks = ServerGccBlocks {
            core: ServerCoreData { version: RdpVersion::V5_PLUS, optional_data: ServerCoreOptionalData::default() },
            network: ServerNetworkData { channel_ids: vec![CLIPBOARD], io_channel: IO },
            security: ServerSecurityData::no_security(),
            message_channel: None,
            multi_transport_channel: None,
        };
        let response = ConnectResponse {
            conference_create_response: ConferenceCreateResponse::new(USER, blocks).unwrap(),
            called_connect_id: 1,
            domain_parameters: DomainParameters::target(),
        };
        self.send(X224(X224Data { data: Cow::Owned(encode_vec(&response).unwrap()) })).await;
        let mut joined = 0;
        while joined < 3 {
            let frame = self.receive().await;
            match decode::<X224<McsMessage<'_>>>(&frame).unwrap().0 {
                McsMessage::ErectDomainRequest(_) => {}
                McsMessage::AttachUserRequest(_) => {
                    self.send(X224(AttachUserConfirm { result: 0, initiator_id: USER })).await;
                }
                McsMessage::ChannelJoinRequest(join) => {
                    let (initiator_id, channel_id) = (join.initiator_id, join.channel_id);
                    let requested_channel_id = channel_id;
                    self.send(X224(ChannelJoinConfirm { result: 0, initiator_id, requested_channel_id, channel_id }))
                        .await;
                    joined += 1;
                }
                McsMessage::AttachUserConfirm(_)
                | McsMessage::ChannelJoinConfirm(_)
                | McsMessage::SendDataRequest(_)
                | McsMessage::SendDataIndication(_)
                | McsMessage::DisconnectProviderUltimatum(_) => panic!("not expected while channels are joined"),
            }
        }
        channels
    }

    async fn client_info(&mut self, channels: usize) -> Seen {
        let frame = self.receive().await;
        let X224(McsMessage::SendDataRequest(request)) = decode::<X224<McsMessage<'_>>>(&frame).unwrap() else {
            panic!("no Client Info");
        };
        let info = decode::<ClientInfoPdu>(&request.user_data).unwrap().client_info;
        Seen {
            user: info.credentials.username,
            password: info.credentials.password,
            shell: info.alternate_shell,
            autologon: info.flags.contains(ClientInfoFlags::AUTOLOGON),
            channels,
        }
    }

    /// Licence, capabilities, finalization: the same for every password.
    async fn activate(&mut self) {
        // LICENSE_ERROR_MESSAGE, STATUS_VALID_CLIENT (MS-RDPBCGR 2.2.1.12), as every server without licences sends it.
        let valid = [0x80, 0, 0, 0, 0xff, 3, 16, 0, 7, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0];
        self.indicate(IO, valid.to_vec()).await;
        let demand = DemandActive { source_descriptor: "RDP".to_owned(), capability_sets: Vec::new() };
        self.share(ShareControlPdu::ServerDemandActive(ServerDemandActive { pdu: demand })).await;
        // Confirm Active, Synchronize, Cooperate, Request Control, Font List.
        for _ in 0..5 {
            self.receive().await;
        }
        self.data(ShareDataPdu::Synchronize(SynchronizePdu { target_user_id: USER })).await;
        for (action, grant_id, control_id) in
            [(ControlAction::Cooperate, 0, 0), (ControlAction::GrantedControl, USER, 0x3ea)]
        {
            self.data(ShareDataPdu::Control(ControlPdu { action, grant_id, control_id })).await;
        }
        self.data(ShareDataPdu::FontMap(FontPdu::default())).await;
    }

    /// A message of this type on the clipboard channel, in one chunk.
    async fn clipboard(&mut self, kind: u8) {
        self.indicate(CLIPBOARD, vec![8, 0, 0, 0, 3, 0, 0, 0, kind, 0, 0, 0, 0, 0, 0, 0]).await;
    }

    async fn finish(mut self, then: Then) -> io::Result<()> {
        // Fast-path pictures come with every password.
        self.0.write_all(&[0x00, 0x06, 1, 2, 3, 4, 0x00, 0x80, 0x05, 6, 7]).await?;
        match then {
            Then::Speak => self.clipboard(7).await,
            Then::Paint => self.clipboard(2).await,
            Then::Ultimatum => {
                self.send(X224(DisconnectProviderUltimatum::from_reason(DisconnectReason::UserRequested))).await;
            }
            Then::Close => return self.0.shutdown().await,
        }
        tokio::io::copy(&mut self.0, &mut tokio::io::sink()).await.map(|_| ())
    }
}

/// Serves one client; `early` lets the clipboard channel speak in the middle of the sequence.
async fn serve(then: Then, early: Option<u8>) -> (Target, JoinHandle<Seen>) {
    let made = rcgen::generate_simple_self_signed(vec!["desk-1".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let pin = CertificatePin::of_der(&certificate);
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.read_exact(&mut [0; 19]).await.unwrap();
        tcp.write_all(&[3, 0, 0, 19, 14, 0xd0, 0, 0, 0x12, 0x34, 0, 2, 1, 8, 0, 1, 0, 0, 0]).await.unwrap();
        let mut connection = Connection(acceptor.accept(tcp).await.unwrap());
        let channels = connection.settle().await;
        let seen = connection.client_info(channels).await;
        if let Some(kind) = early {
            connection.clipboard(kind).await;
        }
        if early != Some(7) {
            connection.activate().await;
            // The client may be gone by then.
            let _ = connection.finish(then).await;
        }
        seen
    });
    let target = Target { address, security: RdpSecurity::Tls, certificate: pin, require_authorization: false };
    (target, server)
}

fn credential() -> Credential {
    Credential { login_name: LoginName::new("user").unwrap(), password: "S3cret ✓".into() }
}

#[tokio::test]
async fn a_session_that_speaks_proves_the_login() {
    let (target, server) = serve(Then::Speak, None).await;
    let accepted = Verdict::Accepted { evidence: Evidence::SessionChannel };
    assert_eq!(prove(&target, &credential(), PATIENCE).await, accepted);
    let seen = server.await.unwrap();
    assert_eq!((seen.user.as_str(), seen.password.as_str()), ("user", "S3cret ✓"));
    assert_eq!((seen.shell.as_str(), seen.autologon, seen.channels), (PROOF_SHELL, true, 1));
}

#[tokio::test]
async fn a_session_may_speak_before_the_sequence_is_complete() {
    let (target, _server) = serve(Then::Close, Some(7)).await;
    let accepted = Verdict::Accepted { evidence: Evidence::SessionChannel };
    assert_eq!(prove(&target, &credential(), PATIENCE).await, accepted);
}

#[tokio::test]
async fn a_complete_sequence_without_the_session_proves_nothing() {
    for (then, early) in [(Then::Ultimatum, None), (Then::Close, None), (Then::Ultimatum, Some(2))] {
        let (target, _server) = serve(then, early).await;
        let verdict = prove(&target, &credential(), PATIENCE).await;
        assert_eq!(verdict, Verdict::Dropped { stage: Stage::Activated }, "{then:?}");
        assert!(verdict.wants_explanation());
    }
    let (target, _server) = serve(Then::Paint, None).await;
    let verdict = prove(&target, &credential(), Duration::from_secs(2)).await;
    assert_eq!(verdict, Verdict::TimedOut { stage: Stage::Activated });
}

/// Everything that is logged on this thread, at every level.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().map_err(|_| io::Error::other("poisoned"))?.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn nothing_of_the_exchange_reaches_a_log() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let (target, server) = serve(Then::Speak, None).await;
    assert!(prove(&target, &credential(), PATIENCE).await.is_accepted());
    assert_eq!(server.await.unwrap().password, "S3cret ✓");
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("login proof"), "{text}");
    for secret in ["S3cret", "ironrdp", "sspi"] {
        assert!(!text.contains(secret), "{secret} stands in the log: {text}");
    }
}
