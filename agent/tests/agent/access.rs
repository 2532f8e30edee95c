//! Who may call: every RPC demands the role control-plane and a certificate that was not revoked.

use nemordp_types::{Failure, Reason};
use nemordp_wire::identity::{Role, serial_of};
use nemordp_wire::mtls::Credentials;
use nemordp_wire::v1::agent_client::AgentClient;
use nemordp_wire::{status, v1};
use tonic::{Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;

use crate::support::{Node, eventually};

fn said<T>(answer: Result<Response<T>, Status>) -> Option<Failure> {
    answer.err().map(|status| status::from_status(&status))
}

/// Every RPC of every service on the agent's server, with what each answers.
async fn every_rpc(node: &Node, credentials: &Credentials) -> Vec<(&'static str, Option<Failure>)> {
    let channel = node.channel(credentials);
    let mut agent = AgentClient::new(channel.clone());
    let mut answers = Vec::new();
    macro_rules! ask {
        ($($method:ident($request:ident)),* $(,)?) => {$(
            answers.push((stringify!($method), said(agent.$method(v1::$request::default()).await)));
        )*};
    }
    ask!(
        get_inventory(GetInventoryRequest),
        list_templates(ListTemplatesRequest),
        prepare_template(PrepareTemplateRequest),
        ensure_instance(EnsureInstanceRequest),
        power_instance(PowerInstanceRequest),
        delete_instance(DeleteInstanceRequest),
        set_password(SetPasswordRequest),
        end_sessions(EndSessionsRequest),
        get_operation(GetOperationRequest),
        watch_operation(WatchOperationRequest),
        get_instance(GetInstanceRequest),
        list_instances(ListInstancesRequest),
        watch_instances(WatchInstancesRequest),
        get_account(GetAccountRequest),
        list_sessions(ListSessionsRequest),
    );
    let health = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await;
    answers.push(("health", said(health)));
    let question = tokio_stream::once(ServerReflectionRequest {
        host: String::new(),
        message_request: Some(tonic_reflection::pb::v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    });
    answers.push(("reflection", said(ServerReflectionClient::new(channel).server_reflection_info(question).await)));
    answers
}

#[tokio::test]
async fn every_rpc_refuses_nodes_and_monitoring_and_answers_the_control_plane() {
    let mut node = Node::start("").await;
    for role in [Role::Node, Role::Monitoring] {
        let answers = every_rpc(&node, &node.control.state.ca.issue(role)).await;
        assert_eq!(answers.len(), 17);
        for (method, failure) in answers {
            assert_eq!(failure.map(|f| f.reason), Some(Reason::Forbidden), "{method} for {role}");
        }
    }
    for (method, failure) in every_rpc(&node, &node.control.state.ca.issue(Role::ControlPlane)).await {
        assert!(failure.as_ref().is_none_or(|f| f.reason == Reason::InvalidArgument), "{method}: {failure:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn another_installations_control_plane_does_not_get_in() {
    let node = Node::start("").await;
    let stranger = crate::control::Ca::new();
    let mut credentials = stranger.issue(Role::ControlPlane);
    credentials.ca = node.control.state.ca.certificate.clone();
    let answer = AgentClient::new(node.channel(&credentials)).get_inventory(v1::GetInventoryRequest {}).await;
    assert!(answer.is_err());
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_on_its_open_connection_and_after_a_restart() {
    let mut node = Node::start("").await;
    let credentials = node.control.state.ca.issue(Role::ControlPlane);
    let mut agent = AgentClient::new(node.channel(&credentials));
    agent.get_inventory(v1::GetInventoryRequest {}).await.unwrap();
    let serial = serial_of(&credentials.chain[0]).unwrap();
    *node.control.state.revocations.lock().unwrap() =
        Some(v1::RevocationList { number: 3, serials: vec![serial.into()] });
    eventually("the revoked certificate is refused", || {
        let mut agent = agent.clone();
        async move {
            said(agent.get_inventory(v1::GetInventoryRequest {}).await)
                .is_some_and(|failure| failure.reason == Reason::CertificateRevoked)
        }
    })
    .await;
    node.stop().await;
    node.control.state.answers_heartbeats.store(false, std::sync::atomic::Ordering::SeqCst);
    node.boot().await;
    let mut agent = AgentClient::new(node.channel(&credentials));
    let refused = said(agent.get_inventory(v1::GetInventoryRequest {}).await).unwrap();
    assert_eq!(refused.reason, Reason::CertificateRevoked, "the list survives a restart");
    node.stop().await;
}
