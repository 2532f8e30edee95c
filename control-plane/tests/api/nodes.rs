//! Nodes that are off, that come back, that speak with two mouths, or whose clock is wrong: over HTTP and real mTLS.

use nemordp_types::NodeId;
use nemordp_types::node::NodeAvailability;
use nemordp_wire::v1;
use serde_json::json;

use crate::harness::{Agent, Plane};

async fn lost(plane: &Plane, agent: &Agent) {
    let id: NodeId = agent.node_id.parse().unwrap();
    let (up, lost) = (NodeAvailability::Available, NodeAvailability::Lost);
    assert!(plane.running.app.store.node_set_availability(id, up, lost).await.unwrap());
}

#[tokio::test]
async fn an_operator_states_that_a_lost_node_is_off_and_later_that_it_may_work_again() {
    let plane = Plane::start().await;
    let agent = plane.node("node-1").await;
    let path = format!("/v1/nodes/{}", agent.node_id);
    let (fence, sure) = (format!("{path}/fence"), json!({ "confirmed_off": true }));
    plane.post(&fence, "a", &sure).await.refused(409, "conflict", Some("availability"));
    agent.beat(&plane).await;
    let speaks = plane.post(&fence, "b", &sure).await.refused(409, "conflict", Some("availability"));
    assert!(speaks["detail"].as_str().unwrap().contains("still sends heartbeats"), "{speaks}");
    lost(&plane, &agent).await;
    plane.post(&fence, "c", &json!({})).await.refused(400, "invalid_argument", Some("confirmed_off"));
    let unsure = json!({ "confirmed_off": false });
    plane.post(&fence, "d", &unsure).await.refused(400, "invalid_argument", Some("confirmed_off"));
    assert_eq!(plane.post(&fence, "e", &sure).await.expect(200)["availability"], "fenced");
    assert_eq!(plane.post(&fence, "e", &sure).await.headers["idempotent-replayed"], "true");
    assert!(agent.beat(&plane).await.fenced, "it learns that it is fenced");
    assert_eq!(plane.get(&path).await.expect(200)["availability"], "fenced");
    assert_eq!(plane.post(&format!("{path}/unfence"), "f", &json!({})).await.expect(200)["availability"], "unknown");
    assert!(!agent.beat(&plane).await.fenced);
    assert_eq!(plane.get(&path).await.expect(200)["availability"], "available");
}

#[tokio::test]
async fn two_agents_with_one_certificate_are_found_cordoned_and_alarmed() {
    let plane = Plane::start().await;
    let agent = plane.stocked().await;
    let path = format!("/v1/nodes/{}", agent.node_id);
    let beat = async |session: u8, beat: u64| {
        let request = v1::HeartbeatRequest {
            session_id: vec![session; 16].into(),
            beat,
            agent_address: format!("192.0.2.{session}:7444"),
            ..Agent::heartbeat()
        };
        plane.clock.advance(std::time::Duration::from_secs(10));
        agent.client.clone().heartbeat(request).await.unwrap().into_inner()
    };
    // The copy starts after the second heartbeat; the genuine agent goes on.
    for (session, number) in [(1, 1), (1, 2), (2, 1), (1, 3), (2, 2)] {
        assert!(!beat(session, number).await.doubled);
    }
    assert!(beat(1, 4).await.doubled);
    assert!(beat(2, 3).await.doubled, "each of them learns it");
    let node = plane.get(&path).await.expect(200);
    assert_eq!(node["policy"], "cordoned");
    assert!(node["doubled_at"].is_string(), "{node}");
    assert_eq!(node["agent_address"], "192.0.2.1:7444");
    assert!(plane.get("/v1/events?limit=200").await.text.contains("node.doubled"));
    let metric = format!("nemordp_control_plane_node_doubled{{node=\"{}\"}} 1", agent.node_id);
    let shown = reqwest::get(format!("http://{}/metrics", plane.running.metrics_addr)).await.unwrap();
    assert!(shown.text().await.unwrap().contains(&metric), "{metric}");
    let back = plane.post(&format!("{path}/uncordon"), "a", &json!({})).await;
    back.refused(409, "conflict", Some("policy"));
    plane.post("/v1/orders", "b", &plane.order_body()).await.refused(409, "capacity_exhausted", None);
    // Revoked and enrolled with a new key, it works again.
    plane.post(&format!("{path}/revoke"), "c", &json!({})).await.expect(200);
    let ticket = plane.ticket(json!({ "region": "fsn1", "node_id": agent.node_id })).await;
    let pair = rcgen::KeyPair::generate().unwrap();
    let renewed = Agent::enroll(&plane, "node-1", &ticket, &pair).await.unwrap();
    assert!(!renewed.beat(&plane).await.doubled);
    let node = plane.post(&format!("{path}/uncordon"), "d", &json!({})).await.expect(200);
    assert!(node["doubled_at"].is_null(), "{node}");
}

#[tokio::test]
async fn a_clock_that_is_hours_off_is_told_to_the_agent_the_operator_and_prometheus() {
    let plane = Plane::start().await;
    let agent = plane.node("node-1").await;
    let now = nemordp_types::Clock::now(plane.clock.as_ref());
    let request =
        v1::HeartbeatRequest { sent_at_us: nemordp_wire::time::encode(now) - 3 * 3_600_000_000, ..Agent::heartbeat() };
    let answer = agent.client.clone().heartbeat(request).await.unwrap().into_inner();
    assert_eq!(answer.clock_skew_us, -3 * 3_600_000_000);
    let node = plane.get(&format!("/v1/nodes/{}", agent.node_id)).await.expect(200);
    assert_eq!(node["clock_skew_seconds"], -10_800.0);
    assert_eq!(node["availability"], "available", "a wrong clock is no reason to give a node up");
    assert!(plane.get("/v1/events?limit=200").await.text.contains("node.clock_skewed"));
    let metric = format!("nemordp_control_plane_node_clock_skew_seconds{{node=\"{}\"}} -10800", agent.node_id);
    let shown = reqwest::get(format!("http://{}/metrics", plane.running.metrics_addr)).await.unwrap();
    assert!(shown.text().await.unwrap().contains(&metric), "{metric}");
    let silent = agent.beat(&plane).await;
    assert_eq!(silent.clock_skew_us, 0, "an agent that does not say is not judged");
}

#[tokio::test]
async fn templates_on_a_node_and_on_their_way_are_shown() {
    let plane = Plane::start().await;
    let agent = plane.node("node-1").await;
    let shown = async || plane.get(&format!("/v1/nodes/{}", agent.node_id)).await.expect(200)["templates"].clone();
    let presence = |state: v1::TemplateState, fetched_bytes: u64| v1::TemplatePresence {
        digest: vec![7; 32].into(),
        state: state.into(),
        fetched_bytes,
        failure: None,
    };
    for (state, word, bytes) in
        [(v1::TemplateState::Fetching, "fetching", 4096), (v1::TemplateState::Ready, "ready", 0)]
    {
        let request = v1::HeartbeatRequest { templates: vec![presence(state, bytes)], ..Agent::heartbeat() };
        agent.client.clone().heartbeat(request).await.unwrap();
        let templates = shown().await;
        assert_eq!((templates[0]["state"].as_str(), templates[0]["fetched_bytes"].as_u64()), (Some(word), Some(bytes)));
    }
    let nonsense =
        v1::HeartbeatRequest { templates: vec![presence(v1::TemplateState::Unspecified, 0)], ..Agent::heartbeat() };
    let refused = nemordp_wire::status::from_status(&agent.client.clone().heartbeat(nonsense).await.unwrap_err());
    assert_eq!(refused.field.as_deref(), Some("templates.state"));
}
