//! What the guest does with logins.

use std::time::Duration;

use arc_swap::ArcSwap;
use nemordp_proof::{CertificatePin, Credential, Target, Verdict, prove};
use nemordp_tests::trial::Delivered;
use nemordp_types::guest::{Account, GuestSession, LoginRefusal};
use nemordp_types::template::RdpSecurity;
use nemordp_types::{InstanceId, LoginName};
use nemordp_wire::identity::Role;
use nemordp_wire::mtls::{Credentials, Expected, channel, client_config};
use nemordp_wire::v1::agent_client::AgentClient;
use nemordp_wire::{id, v1};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::Installation;

/// One login into an emulated guest.
const DEADLINE: Duration = Duration::from_secs(60);

/// A client of the agent with the control plane's own certificate.
async fn agent(installation: &Installation) -> AgentClient<tonic::transport::Channel> {
    let pki = installation.dir.join("control-plane/pki");
    let credentials = Credentials {
        chain: vec![CertificateDer::from_pem_file(pki.join("control-plane.crt")).unwrap()],
        key: PrivateKeyDer::from_pem_file(pki.join("control-plane.key")).unwrap(),
        ca: CertificateDer::from_pem_file(pki.join("ca.crt")).unwrap(),
    };
    let address = (installation.host().address().unwrap(), installation.ports()[3]).into();
    let config = std::sync::Arc::new(ArcSwap::new(client_config(&credentials).unwrap()));
    AgentClient::new(channel(address, Expected::Role(Role::Node), config))
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn target(installation: &Installation, desktop: &Delivered) -> Target {
    let shown = installation.cli().json(&["instance", "show", &desktop.instance]).unwrap();
    let pin = hex::decode(shown["rdp_certificate_sha256"].as_str().unwrap()).unwrap();
    Target {
        address: desktop.endpoint,
        security: RdpSecurity::Tls,
        certificate: CertificatePin::from_bytes(pin.try_into().unwrap()),
        require_authorization: false,
    }
}

/// The wrong password ends as dropped, the agent's word makes it a wrong password; another certificate gets no password.
pub(crate) fn refuses_a_wrong_password_and_the_agent_says_why(installation: &Installation, desktop: &Delivered) {
    let target = target(installation, desktop);
    let credential =
        Credential { login_name: LoginName::new("user").unwrap(), password: "Certainly-Wrong-1".to_owned().into() };
    runtime().block_on(async {
        let since = jiff_now();
        let verdict = prove(&target, &credential, DEADLINE).await;
        assert!(matches!(verdict, Verdict::Dropped { .. }), "{verdict:?}");
        let instance: InstanceId = desktop.instance.parse().unwrap();
        let request = v1::GetAccountRequest {
            instance_id: id::encode(&instance),
            login_name: "user".to_owned(),
            since_us: since,
        };
        let answer = agent(installation).await.get_account(request).await.unwrap().into_inner();
        let account = Account::try_from(answer).unwrap();
        assert_eq!(account.last_refusal, Some(LoginRefusal::Authentication), "{account:?}");
        let explained = verdict.explained_by(&account);
        assert!(matches!(explained, Verdict::WrongPassword), "{explained:?}");

        let elsewhere = Target { certificate: CertificatePin::from_bytes([7; 32]), ..target };
        let verdict = prove(&elsewhere, &credential, DEADLINE).await;
        assert!(matches!(verdict, Verdict::CertificateMismatch { .. }), "{verdict:?}");
    });
}

/// The proof's session, and the picture's, are gone: the customer finds a fresh desktop.
pub(crate) fn finds_a_fresh_desktop(installation: &Installation, desktop: &Delivered) {
    let instance: InstanceId = desktop.instance.parse().unwrap();
    let sessions = runtime().block_on(async {
        let request = v1::ListSessionsRequest { instance_id: id::encode(&instance) };
        agent(installation).await.list_sessions(request).await.unwrap().into_inner().sessions
    });
    let sessions: Vec<GuestSession> = sessions.into_iter().map(|session| session.try_into().unwrap()).collect();
    assert!(sessions.is_empty(), "{sessions:?}");
}

/// Microseconds since the epoch, as the guest's clock roughly has it too.
fn jiff_now() -> i64 {
    use nemordp_types::Clock as _;
    nemordp_types::SystemClock.now().as_microsecond() - 2_000_000
}
