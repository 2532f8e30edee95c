//! How a machine becomes a node, over real mTLS.

use std::time::Duration;

use nemordp_types::Reason;
use nemordp_wire::identity::{Identity, Role};
use nemordp_wire::mtls::enrollment_client_config;
use nemordp_wire::status::from_status;
use nemordp_wire::v1;
use rcgen::KeyPair;
use rustls_pki_types::CertificateDer;
use serde_json::json;

use crate::harness::{Agent, Plane, channel, digest, inventory, request};

fn reason<T: std::fmt::Debug>(result: Result<T, tonic::Status>) -> Reason {
    from_status(&result.unwrap_err()).reason
}

#[tokio::test]
async fn a_machine_with_a_ticket_becomes_a_node_and_its_heartbeats_make_it_available() {
    let plane = Plane::start().await;
    let agent = plane.node("node-1").await;
    let certificate = CertificateDer::from(agent.certificate.clone());
    let identity = Identity::of_certificate(&certificate).unwrap();
    assert_eq!((identity.role, identity.id.to_string()), (Role::Node, agent.node_id.clone()));
    let shown = async || plane.get(&format!("/v1/nodes/{}", agent.node_id)).await.expect(200);
    assert_eq!(shown().await["availability"], "unknown");
    let answer = agent.beat(&plane).await;
    assert_eq!((answer.heartbeat_seconds, answer.renew), (10, false));
    let node = shown().await;
    assert_eq!((node["availability"].as_str(), node["region"].as_str()), (Some("available"), Some("fsn1")));
    assert_eq!(node["name"], "node-1");
}

#[tokio::test]
async fn the_same_ticket_with_the_same_key_gives_the_same_certificate() {
    let plane = Plane::start().await;
    let ticket = plane.ticket(json!({ "region": "fsn1" })).await;
    let pair = KeyPair::generate().unwrap();
    let first = Agent::enroll(&plane, "node-1", &ticket, &pair).await.unwrap();
    let again = Agent::enroll(&plane, "node-1", &ticket, &pair).await.unwrap();
    assert_eq!((&first.node_id, &first.certificate), (&again.node_id, &again.certificate));
    plane.clock.advance(Duration::from_secs(3_601));
    let late = Agent::enroll(&plane, "node-1", &ticket, &pair).await.err().unwrap();
    assert_eq!(late.reason, Reason::TicketExpired);
}

#[tokio::test]
async fn the_same_ticket_with_another_key_is_refused_and_told() {
    let plane = Plane::start().await;
    let ticket = plane.ticket(json!({ "region": "fsn1" })).await;
    Agent::enroll(&plane, "node-1", &ticket, &KeyPair::generate().unwrap()).await.unwrap();
    let thief = Agent::enroll(&plane, "node-2", &ticket, &KeyPair::generate().unwrap()).await.err().unwrap();
    assert_eq!(thief.reason, Reason::TicketReused);
    assert!(plane.get("/v1/events?limit=200").await.text.contains("ticket.reused"));
    assert_eq!(plane.get("/v1/nodes").await.expect(200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn unknown_and_expired_tickets_are_refused() {
    let plane = Plane::start().await;
    let other = Plane::start().await;
    let pair = KeyPair::generate().unwrap();
    let mut foreign = other.ticket(json!({ "region": "fsn1" })).await;
    // The other installation's secret behind this one's pin: the connection stands, the ticket is unknown here.
    let own = plane.ticket(json!({ "region": "fsn1", "lifetime_minutes": 5 })).await;
    let pin = own.rsplit_once('.').unwrap().1;
    foreign = format!("{}.{pin}", foreign.rsplit_once('.').unwrap().0);
    let unknown = Agent::enroll(&plane, "n", &foreign, &pair).await.err().unwrap();
    assert_eq!(unknown.reason, Reason::TicketInvalid);
    plane.clock.advance(Duration::from_secs(301));
    let expired = Agent::enroll(&plane, "n", &own, &pair).await.err().unwrap();
    assert_eq!(expired.reason, Reason::TicketExpired);
}

#[tokio::test]
async fn a_ticket_that_pins_another_ca_is_never_sent() {
    let plane = Plane::start().await;
    let mut client = channel(&plane, enrollment_client_config([7; 32]).unwrap());
    let ask = v1::EnrollRequest { ticket: "secret".to_owned(), ..v1::EnrollRequest::default() };
    assert_eq!(reason(client.enroll(ask).await), Reason::NodeUnreachable);
    assert_eq!(plane.get("/v1/nodes").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_bound_ticket_brings_a_node_back_under_its_own_id() {
    let plane = Plane::start().await;
    let lost = plane.node("node-1").await;
    let wrong = json!({ "region": "hel1", "node_id": lost.node_id });
    plane.post("/v1/nodes/tickets", "w", &wrong).await.refused(400, "unknown_region", Some("region"));
    let nobody = json!({ "region": "fsn1", "node_id": "01890000-0000-7000-8000-000000000001" });
    plane.post("/v1/nodes/tickets", "n", &nobody).await.refused(404, "not_found", Some("node_id"));
    let ticket = plane.ticket(json!({ "region": "fsn1", "node_id": lost.node_id })).await;
    let back = Agent::enroll(&plane, "node-1", &ticket, &KeyPair::generate().unwrap()).await.unwrap();
    assert_eq!(back.node_id, lost.node_id);
    back.beat(&plane).await;
}

#[tokio::test]
async fn a_ticket_text_is_shown_once() {
    let plane = Plane::start().await;
    let body = json!({ "region": "fsn1" });
    let created = plane.post("/v1/nodes/tickets", "a", &body).await.expect(201);
    let again = plane.post("/v1/nodes/tickets", "a", &body).await.expect(201);
    assert_eq!(created["id"], again["id"]);
    assert!(created["text"].is_string() && again["text"].is_null());
    let listed = plane.get("/v1/nodes/tickets").await;
    assert!(!listed.text.contains(created["text"].as_str().unwrap()));
    let long = json!({ "region": "fsn1", "lifetime_minutes": 99_999 });
    plane.post("/v1/nodes/tickets", "b", &long).await.refused(400, "invalid_argument", Some("lifetime_minutes"));
    let wild = json!({ "region": "fsn1", "overcommit": { "vcpu_percent": 0, "memory_percent": 100 } });
    plane.post("/v1/nodes/tickets", "c", &wild).await.refused(400, "invalid_argument", Some("overcommit.vcpu_percent"));
}

#[tokio::test]
async fn nothing_but_enrollment_works_without_a_certificate() {
    let plane = Plane::start().await;
    let pin = plane.running.app.pki.authority().key_sha256();
    let mut bare = channel(&plane, enrollment_client_config(pin).unwrap());
    assert_eq!(reason(bare.heartbeat(Agent::heartbeat()).await), Reason::Unauthenticated);
    assert_eq!(reason(bare.renew(v1::RenewRequest::default()).await), Reason::Unauthenticated);
    assert_eq!(reason(bare.fetch_template(v1::FetchTemplateRequest::default()).await), Reason::Unauthenticated);
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(nemordp_wire::mtls::channel(
            plane.running.grpc_addr,
            nemordp_wire::mtls::Expected::Role(Role::ControlPlane),
            std::sync::Arc::new(arc_swap::ArcSwap::new(enrollment_client_config(pin).unwrap())),
        ));
    let asked = futures::stream::iter([tonic_reflection::pb::v1::ServerReflectionRequest::default()]);
    assert_eq!(reason(reflection.server_reflection_info(asked).await), Reason::Unauthenticated);
}

#[tokio::test]
async fn a_control_planes_certificate_is_no_nodes() {
    let plane = Plane::start().await;
    let mut client = channel(&plane, plane.running.app.pki.client().load_full());
    assert_eq!(reason(client.heartbeat(Agent::heartbeat()).await), Reason::Forbidden);
}

#[tokio::test]
async fn a_heartbeat_speaks_for_the_node_in_the_certificate_only() {
    let plane = Plane::start().await;
    let (one, two) = (plane.node("node-1").await, plane.node("node-2").await);
    one.beat(&plane).await;
    let availability = async |agent: &Agent| {
        plane.get(&format!("/v1/nodes/{}", agent.node_id)).await.expect(200)["availability"].clone()
    };
    assert_eq!(availability(&one).await, "available");
    assert_eq!(availability(&two).await, "unknown");
}

#[tokio::test]
async fn a_heartbeat_that_cannot_be_believed_names_its_field() {
    let plane = Plane::start().await;
    let agent = plane.node("node-1").await;
    type Spoil = fn(&mut v1::HeartbeatRequest);
    let cases: [(&str, Spoil); 4] = [
        ("agent_address", |beat| beat.agent_address = "0.0.0.0:1".to_owned()),
        ("agent_address", |beat| beat.agent_address = "nonsense".to_owned()),
        ("inventory", |beat| beat.inventory = None),
        ("load.cpu_pressure", |beat| beat.load.as_mut().unwrap().cpu_pressure = 900.0),
    ];
    for (field, spoil) in cases {
        let mut beat = Agent::heartbeat();
        spoil(&mut beat);
        let failure = from_status(&agent.client.clone().heartbeat(beat).await.unwrap_err());
        assert_eq!((failure.reason, failure.field.as_deref()), (Reason::InvalidArgument, Some(field)));
    }
}

#[tokio::test]
async fn a_certificate_is_renewed_for_the_node_in_the_present_one() {
    let plane = Plane::start().await;
    let agent = plane.node("node-1").await;
    let pair = KeyPair::generate().unwrap();
    let ask = v1::RenewRequest { csr_der: request(&pair).into() };
    let answer = agent.client.clone().renew(ask).await.unwrap().into_inner();
    let renewed = CertificateDer::from(answer.certificate_chain_der[0].to_vec());
    assert_eq!(Identity::of_certificate(&renewed).unwrap().id.to_string(), agent.node_id);
    assert_ne!(renewed.as_ref(), agent.certificate);
    assert!(!agent.beat(&plane).await.renew, "a connection outlives a renewal");
    let mut forged = request(&pair);
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let refused =
        from_status(&agent.client.clone().renew(v1::RenewRequest { csr_der: forged.into() }).await.unwrap_err());
    assert_eq!((refused.reason, refused.field.as_deref()), (Reason::InvalidArgument, Some("csr_der")));
}

#[tokio::test]
async fn a_revoked_certificate_is_refused_on_the_next_call_of_a_live_connection() {
    let plane = Plane::start().await;
    let (stolen, other) = (plane.node("node-1").await, plane.node("node-2").await);
    stolen.beat(&plane).await;
    let revoked = plane.post(&format!("/v1/nodes/{}/revoke", stolen.node_id), "r", &json!({})).await.expect(200);
    assert_eq!(revoked["policy"], "cordoned");
    assert_eq!(reason(stolen.client.clone().heartbeat(Agent::heartbeat()).await), Reason::CertificateRevoked);
    let list = other.beat(&plane).await.revocations.unwrap();
    let serial = nemordp_wire::identity::serial_of(&CertificateDer::from(stolen.certificate.clone())).unwrap();
    assert_eq!(list.serials, [bytes::Bytes::from(serial)]);
    let mut known = Agent::heartbeat();
    known.revocation_number = list.number;
    assert!(other.client.clone().heartbeat(known).await.unwrap().into_inner().revocations.is_none());
    let ticket = plane.ticket(json!({ "region": "fsn1", "node_id": stolen.node_id })).await;
    Agent::enroll(&plane, "node-1", &ticket, &KeyPair::generate().unwrap()).await.unwrap().beat(&plane).await;
}

#[tokio::test]
async fn a_node_fetches_a_template_from_any_offset() {
    let plane = Plane::start().await;
    let agent = plane.node("node-1").await;
    let bytes: Vec<u8> = (0..700_000u32).map(|n| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
    plane.template("debian", &bytes, 10 << 30).await;
    let fetch = async |digest: &str, offset: u64| {
        let digest = hex::decode(digest.strip_prefix("sha256:").unwrap()).unwrap().into();
        let asked = v1::FetchTemplateRequest { digest, offset };
        let mut stream = agent.client.clone().fetch_template(asked).await?.into_inner();
        let mut found = Vec::new();
        while let Some(chunk) = stream.message().await? {
            found.extend_from_slice(&chunk.data);
        }
        Ok::<_, tonic::Status>(found)
    };
    assert!(fetch(&digest(&bytes), 0).await.unwrap() == bytes);
    assert!(fetch(&digest(&bytes), 699_990).await.unwrap() == bytes[699_990..]);
    assert_eq!(reason(fetch(&digest(&bytes), 700_001).await), Reason::InvalidArgument);
    assert_eq!(reason(fetch(&digest(b"other"), 0).await), Reason::TemplateMissing);
}

#[tokio::test]
async fn an_inventory_that_cannot_be_believed_enrolls_nobody() {
    let plane = Plane::start().await;
    let ticket = plane.ticket(json!({ "region": "fsn1" })).await;
    let pin = plane.running.app.pki.authority().key_sha256();
    let mut client = channel(&plane, enrollment_client_config(pin).unwrap());
    let mut bad = v1::NodeInventory::from(&inventory());
    bad.private_subnet.as_mut().unwrap().prefix = 33;
    let ask = v1::EnrollRequest {
        ticket,
        csr_der: request(&KeyPair::generate().unwrap()).into(),
        node_name: "node-1".to_owned(),
        agent_address: "192.0.2.9:7444".to_owned(),
        inventory: Some(bad),
    };
    let failure = from_status(&client.enroll(ask).await.unwrap_err());
    assert_eq!(failure.reason, Reason::InvalidArgument);
    assert!(failure.field.unwrap().starts_with("inventory"));
    assert_eq!(plane.get("/v1/nodes").await.expect(200)["items"], json!([]));
}
