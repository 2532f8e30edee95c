//! Every row of the verdict table, against servers on loopback that do exactly that.
#![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nemordp_proof::fake::{Accounts, Answer, Counts, FakeIdentity, FakeNla, FakeOptions, FakeProtocol, HangAt};
use nemordp_proof::{
    AccountCause, CertificatePin, Credential, Evidence, NegotiationCause, NtStatus, Readiness, Stage, Target, Verdict,
    prove, readiness, wait_until_ready,
};
use nemordp_types::template::RdpSecurity;
use nemordp_types::{LoginName, Reason};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

const PATIENCE: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(400);

fn user() -> LoginName {
    LoginName::new("user").unwrap()
}

fn credential(password: &str) -> Credential {
    Credential { login_name: user(), password: password.into() }
}

fn identity() -> FakeIdentity {
    let made = rcgen::generate_simple_self_signed(vec!["desk-1".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    FakeIdentity { certificate: made.cert.der().clone(), key }
}

async fn loopback() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// A fake with one account, `user` / `right`.
async fn fake(options: FakeOptions) -> (FakeNla, Accounts) {
    let accounts = Accounts::new();
    accounts.set_password(&user(), "right".into());
    (FakeNla::start(loopback().await, identity(), accounts.clone(), options).unwrap(), accounts)
}

fn windows(fake: &FakeNla) -> Target {
    Target {
        address: fake.address(),
        security: RdpSecurity::Nla,
        certificate: fake.certificate(),
        require_authorization: true,
    }
}

fn anything(address: SocketAddr, security: RdpSecurity) -> Target {
    Target { address, security, certificate: CertificatePin::from_bytes([0; 32]), require_authorization: false }
}

/// A server that does this with its one connection.
async fn server<F>(behaviour: impl FnOnce(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = loopback().await;
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (tcp, _) = listener.accept().await.unwrap();
        behaviour(tcp).await;
    });
    address
}

/// Reads the connection request, writes these bytes, and keeps the connection until the client leaves.
async fn answering(bytes: &'static [u8]) -> SocketAddr {
    server(move |mut tcp| async move {
        let mut request = [0; 19];
        tcp.read_exact(&mut request).await.unwrap();
        tcp.write_all(bytes).await.unwrap();
        let _ = tokio::io::copy(&mut tcp, &mut tokio::io::sink()).await;
    })
    .await
}

const MODES: [RdpSecurity; 2] = [RdpSecurity::Nla, RdpSecurity::Tls];

#[tokio::test]
async fn the_right_password_is_accepted_and_the_wrong_one_and_the_unknown_user_are_not() {
    let (fake, accounts) = fake(FakeOptions::default()).await;
    let accepted = Verdict::Accepted { evidence: Evidence::LogonAuthorized };
    assert_eq!(prove(&windows(&fake), &credential("right"), PATIENCE).await, accepted);
    for wrong in ["wrong", "Right", "right ", ""] {
        assert_eq!(prove(&windows(&fake), &credential(wrong), PATIENCE).await, Verdict::WrongPassword, "{wrong:?}");
    }
    let counts = fake.counts();
    assert_eq!((counts.connections, counts.authenticates, counts.proven), (5, 5, 1));

    accounts.set_password(&user(), "newer ✓".into());
    assert_eq!(prove(&windows(&fake), &credential("right"), PATIENCE).await, Verdict::WrongPassword);
    assert_eq!(prove(&windows(&fake), &credential("newer ✓"), PATIENCE).await, accepted);
    assert!(accounts.remove(&user()));
    assert_eq!(prove(&windows(&fake), &credential("newer ✓"), PATIENCE).await, Verdict::WrongPassword);
}

#[tokio::test]
async fn each_status_code_is_told_apart() {
    let (fake, accounts) = fake(FakeOptions::default()).await;
    for code in [0xc000_006a, 0xc000_0064, 0xc000_006d] {
        assert!(accounts.set_answer(&user(), Answer::Status(NtStatus(code))));
        assert_eq!(prove(&windows(&fake), &credential("right"), PATIENCE).await, Verdict::WrongPassword);
    }
    for code in [
        0xc000_0234,
        0xc000_0072,
        0xc000_0071,
        0xc000_0224,
        0xc000_0193,
        0xc000_006f,
        0xc000_015b,
        0xc000_006e,
        0xc000_0418,
        0xc0de_c0de,
    ] {
        let status = NtStatus(code);
        assert!(accounts.set_answer(&user(), Answer::Status(status)));
        let verdict = prove(&windows(&fake), &credential("right"), PATIENCE).await;
        assert_eq!(verdict, Verdict::AccountState { cause: AccountCause::Status(status) });
        let failure = verdict.into_result().unwrap_err();
        assert_eq!(failure.reason, Reason::LoginAccountState);
        assert!(failure.message.contains(&status.to_string()), "{failure}");
    }
    assert!(accounts.lock(&user()));
    let locked = Verdict::AccountState { cause: AccountCause::Status(NtStatus::ACCOUNT_LOCKED_OUT) };
    assert_eq!(prove(&windows(&fake), &credential("right"), PATIENCE).await, locked);
}

#[tokio::test]
async fn a_right_password_without_the_right_to_log_on_is_not_accepted() {
    let (fake, accounts) = fake(FakeOptions::default()).await;
    accounts.set_answer(&user(), Answer::NotAuthorized);
    let denied = Verdict::AccountState { cause: AccountCause::NotAuthorized(5) };
    assert_eq!(prove(&windows(&fake), &credential("right"), PATIENCE).await, denied);
    assert_eq!(fake.counts().proven, 1);
    assert_eq!(prove(&windows(&fake), &credential("wrong"), PATIENCE).await, Verdict::WrongPassword);
}

#[tokio::test]
async fn a_server_that_does_not_know_the_password_cannot_make_up_the_proof() {
    let (fake, accounts) = fake(FakeOptions::default()).await;
    // A signature has 16 bytes, a hash 32; what is shorter than a signature must not break anything either.
    for length in [0, 3, 16, 48, 300] {
        accounts.set_answer(&user(), Answer::Forged(length));
        let verdict = prove(&windows(&fake), &credential("right"), PATIENCE).await;
        assert!(matches!(verdict, Verdict::NotRdp { stage: Stage::CredentialSent, .. }), "{length}: {verdict}");
        assert!(!verdict.to_string().contains("library"), "{length}: {verdict}");
    }
}

#[tokio::test]
async fn without_authorization_result_the_password_is_proven_unless_the_target_demands_more() {
    let (fake, _accounts) = fake(FakeOptions { protocol: FakeProtocol::Hybrid, ..FakeOptions::default() }).await;
    let demanding = windows(&fake);
    let refused = Verdict::NegotiationRefused { cause: NegotiationCause::NoAuthorization };
    assert_eq!(prove(&demanding, &credential("right"), PATIENCE).await, refused);
    assert_eq!(fake.counts().secured_bytes, 0);

    let target = Target { require_authorization: false, ..demanding };
    let accepted = Verdict::Accepted { evidence: Evidence::PasswordProven };
    assert_eq!(prove(&target, &credential("right"), PATIENCE).await, accepted);
    assert_eq!(prove(&target, &credential("wrong"), PATIENCE).await, Verdict::WrongPassword);
}

#[tokio::test]
async fn a_drop_and_a_hang_after_the_password_name_their_stage() {
    let (fake, accounts) = fake(FakeOptions::default()).await;
    accounts.set_answer(&user(), Answer::Drop);
    let dropped = Verdict::Dropped { stage: Stage::CredentialSent };
    assert_eq!(prove(&windows(&fake), &credential("right"), PATIENCE).await, dropped);
    accounts.set_answer(&user(), Answer::Hang);
    let hung = Verdict::TimedOut { stage: Stage::CredentialSent };
    assert_eq!(prove(&windows(&fake), &credential("right"), Duration::from_secs(2)).await, hung);
}

#[tokio::test]
async fn the_deadline_holds_at_every_stage() {
    for (hang, stage) in
        [(HangAt::Accept, Stage::Connected), (HangAt::Confirm, Stage::Negotiated), (HangAt::Challenge, Stage::Secured)]
    {
        let (fake, _accounts) = fake(FakeOptions { hang: Some(hang), ..FakeOptions::default() }).await;
        let began = Instant::now();
        let verdict = prove(&windows(&fake), &credential("right"), Duration::from_secs(1)).await;
        assert_eq!(verdict, Verdict::TimedOut { stage }, "{hang:?}");
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(fake.counts().authenticates, 0);
    }
}

#[tokio::test]
async fn another_certificate_gets_nothing_in_either_mode() {
    for (protocol, security) in [(FakeProtocol::HybridEx, RdpSecurity::Nla), (FakeProtocol::Tls, RdpSecurity::Tls)] {
        let (guest, _) = fake(FakeOptions { protocol, ..FakeOptions::default() }).await;
        let (thief, _) = fake(FakeOptions { protocol, ..FakeOptions::default() }).await;
        let target = Target { security, ..windows(&guest) };
        let aside = Target { address: thief.address(), ..target };
        let mismatch = Verdict::CertificateMismatch { presented: thief.certificate() };
        assert_eq!(prove(&aside, &credential("right"), PATIENCE).await, mismatch);
        assert_eq!(thief.counts(), Counts { connections: 1, ..Counts::default() }, "{security:?}");
        // With the pinned certificate the same server does hear something: the counter counts.
        let verdict = prove(&target, &credential("right"), PATIENCE).await;
        assert!(guest.counts().secured_bytes > 0, "{verdict}");
    }
}

/// The certificate is public; whoever shows it without its key must not get through.
#[tokio::test]
async fn a_copied_certificate_without_its_key_gets_nothing() {
    let (real, other) = (identity(), identity());
    let certificate = real.certificate.clone();
    let signer = rustls::crypto::aws_lc_rs::sign::any_supported_type(&other.key).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let copied = rustls::sign::CertifiedKey::new(vec![certificate.clone()], signer);
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(std::sync::Arc::new(rustls::sign::SingleCertAndKey::from(copied)));
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let address = server(move |mut tcp| async move {
        tcp.read_exact(&mut [0; 19]).await.unwrap();
        tcp.write_all(&[3, 0, 0, 19, 14, 0xd0, 0, 0, 0, 0, 0, 2, 0, 8, 0, 1, 0, 0, 0]).await.unwrap();
        assert!(acceptor.accept(tcp).await.is_err(), "the client must refuse the handshake");
    })
    .await;
    let pin = CertificatePin::of_der(&certificate);
    let target = Target { certificate: pin, ..anything(address, RdpSecurity::Tls) };
    let verdict = prove(&target, &credential("right"), PATIENCE).await;
    assert!(matches!(verdict, Verdict::NotRdp { stage: Stage::Negotiated, .. }), "{verdict}");
}

#[tokio::test]
async fn a_closed_port_is_no_answer() {
    let address = loopback().await.local_addr().unwrap();
    for security in MODES {
        let verdict = prove(&anything(address, security), &credential("right"), PATIENCE).await;
        assert!(matches!(verdict, Verdict::NoAnswer { .. }), "{verdict}");
        assert_eq!(verdict.reason(), Some(Reason::LoginNoAnswer));
    }
    assert!(matches!(readiness(address, PATIENCE).await, Readiness::NoAnswer { .. }));
}

#[tokio::test]
async fn a_silent_server_is_a_timeout() {
    let address = answering(b"").await;
    let verdict = prove(&anything(address, RdpSecurity::Tls), &credential("right"), SHORT).await;
    assert_eq!(verdict, Verdict::TimedOut { stage: Stage::Connected });
    let address = answering(b"").await;
    assert_eq!(readiness(address, SHORT).await, Readiness::Silent);
}

#[tokio::test]
async fn other_protocols_are_not_rdp() {
    const SAID: [&[u8]; 4] = [
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[21, 3, 3, 0, 2, 2, 70],
        &[3, 0, 0, 9, 1, 2, 3, 4, 5],
    ];
    for said in SAID {
        for security in MODES {
            let verdict = prove(&anything(answering(said).await, security), &credential("right"), PATIENCE).await;
            assert!(matches!(verdict, Verdict::NotRdp { stage: Stage::Connected, .. }), "{said:?}: {verdict}");
        }
        assert!(matches!(readiness(answering(said).await, PATIENCE).await, Readiness::NotRdp { .. }));
    }
    let hangs_up = server(|tcp| async move { drop(tcp) }).await;
    let verdict = prove(&anything(hangs_up, RdpSecurity::Tls), &credential("right"), PATIENCE).await;
    assert!(matches!(verdict, Verdict::NotRdp { .. }), "{verdict}");
}

#[tokio::test]
async fn a_confirm_and_then_no_tls_is_not_rdp() {
    // Confirms TLS, then speaks something else.
    const SAID: &[u8] = b"\x03\x00\x00\x13\x0e\xd0\x00\x00\x00\x00\x00\x02\x00\x08\x00\x01\x00\x00\x00HTTP/1.1 400";
    let verdict = prove(&anything(answering(SAID).await, RdpSecurity::Tls), &credential("right"), PATIENCE).await;
    assert!(matches!(verdict, Verdict::NotRdp { stage: Stage::Negotiated, .. }), "{verdict}");
}

#[tokio::test]
async fn no_server_gets_another_mode_than_the_templates() {
    let (nla, _) = fake(FakeOptions::default()).await;
    let target = Target { security: RdpSecurity::Tls, ..windows(&nla) };
    let refused = Verdict::NegotiationRefused { cause: NegotiationCause::Code(5) };
    assert_eq!(prove(&target, &credential("right"), PATIENCE).await, refused);
    let (tls, _) = fake(FakeOptions { protocol: FakeProtocol::Tls, ..FakeOptions::default() }).await;
    let refused = Verdict::NegotiationRefused { cause: NegotiationCause::Code(1) };
    assert_eq!(prove(&windows(&tls), &credential("right"), PATIENCE).await, refused);
    // A server that selects what was not asked for.
    const TLS: &[u8] = &[3, 0, 0, 19, 14, 0xd0, 0, 0, 0, 0, 0, 2, 0, 8, 0, 1, 0, 0, 0];
    const PLAIN: &[u8] = &[3, 0, 0, 11, 6, 0xd0, 0, 0, 0, 0, 0];
    for (said, flags) in [(TLS, 1), (PLAIN, 0)] {
        let verdict = prove(&anything(answering(said).await, RdpSecurity::Nla), &credential("right"), PATIENCE).await;
        assert_eq!(verdict, Verdict::NegotiationRefused { cause: NegotiationCause::Selected(flags) });
    }
    for fake in [nla, tls] {
        assert_eq!(fake.counts().secured_bytes, 0);
    }
}

#[tokio::test]
async fn a_tls_mode_server_that_hangs_up_is_a_drop() {
    let (fake, _) = fake(FakeOptions { protocol: FakeProtocol::Tls, ..FakeOptions::default() }).await;
    let target = Target { security: RdpSecurity::Tls, ..windows(&fake) };
    let verdict = prove(&target, &credential("right"), PATIENCE).await;
    assert_eq!(verdict, Verdict::Dropped { stage: Stage::Secured });
    assert!(!verdict.wants_explanation());
}

#[tokio::test]
async fn waiting_ends_when_the_server_comes_up() {
    let listener = loopback().await;
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut server = None;
    let mut looks = 0;
    let accounts = Accounts::new();
    let seen = wait_until_ready(address, PATIENCE, |seen| {
        looks += 1;
        if looks == 3 {
            assert!(!seen.is_ready());
            let listener = std::net::TcpListener::bind(address).unwrap();
            listener.set_nonblocking(true).unwrap();
            let listener = TcpListener::from_std(listener).unwrap();
            server = Some(FakeNla::start(listener, identity(), accounts.clone(), FakeOptions::default()).unwrap());
        }
    })
    .await;
    assert_eq!((seen, looks), (Readiness::Ready, 4));
    let fake = server.unwrap();
    assert_eq!((fake.counts().connections, fake.counts().secured_bytes), (1, 0));
}

#[tokio::test]
async fn waiting_in_vain_ends_at_the_deadline_with_what_was_seen() {
    let address = loopback().await.local_addr().unwrap();
    let began = Instant::now();
    let seen = wait_until_ready(address, SHORT, |_| ()).await;
    assert!(matches!(seen, Readiness::NoAnswer { .. }));
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn many_logins_at_once_are_all_told_right() {
    let (fake, _accounts) = fake(FakeOptions { connections: 8, ..FakeOptions::default() }).await;
    let target = windows(&fake);
    let proofs = (0..24).map(|turn| async move {
        let right = turn % 2 == 0;
        (right, prove(&target, &credential(if right { "right" } else { "wrong" }), PATIENCE).await)
    });
    for (right, verdict) in futures::future::join_all(proofs).await {
        assert_eq!(verdict.is_accepted(), right, "{verdict}");
    }
    assert_eq!(fake.counts().proven, 12);
}

#[tokio::test]
async fn a_dropped_fake_ends_its_connections() {
    let (fake, _accounts) = fake(FakeOptions { hang: Some(HangAt::Accept), ..FakeOptions::default() }).await;
    let address = fake.address();
    let mut tcp = TcpStream::connect(address).await.unwrap();
    while fake.counts().connections == 0 {
        tokio::task::yield_now().await;
    }
    drop(fake);
    assert_eq!(tcp.read(&mut [0; 1]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(address).await.is_err());
}
