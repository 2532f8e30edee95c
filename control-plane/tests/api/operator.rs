//! Keys, nodes, events, health, pages.

use reqwest::Method;
use serde_json::json;

use crate::harness::Plane;

#[tokio::test]
async fn a_key_works_until_it_is_revoked_and_its_secret_is_shown_once() {
    let plane = Plane::start().await;
    let body = json!({ "name": "storefront", "scopes": ["read"] });
    let created = plane.post("/v1/keys", "a", &body).await.expect(201);
    let secret = created["secret"].as_str().unwrap().to_owned();
    let again = plane.post("/v1/keys", "a", &body).await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    let again = again.expect(201);
    assert_eq!(again["id"], created["id"]);
    assert!(again["secret"].is_null(), "a secret is never kept for repetitions");
    plane.get_as(&secret, "/v1/plans").await.expect(200);
    let listed = plane.get("/v1/keys").await;
    assert!(!listed.text.contains(&secret));
    let path = format!("/v1/keys/{}", created["id"].as_str().unwrap());
    assert_eq!(plane.delete(&path).await.status.as_u16(), 204);
    assert_eq!(plane.delete(&path).await.status.as_u16(), 204);
    plane.get_as(&secret, "/v1/plans").await.refused(401, "unauthenticated", None);
    plane.post("/v1/keys", "b", &json!({ "name": "x", "scopes": [] })).await.refused(
        400,
        "invalid_argument",
        Some("scopes"),
    );
    let unknown = json!({ "name": "x", "scopes": ["read"], "tenant": "nobody" });
    plane.post("/v1/keys", "c", &unknown).await.refused(404, "not_found", Some("tenant"));
}

#[tokio::test]
async fn keys_are_taken_from_the_authorization_header_only() {
    let plane = Plane::start().await;
    plane.send(plane.bare(Method::GET, "/v1/plans")).await.refused(401, "unauthenticated", None);
    let query = plane.send(plane.bare(Method::GET, &format!("/v1/plans?key={}", plane.key))).await;
    query.refused(401, "unauthenticated", None);
    let basic = plane.bare(Method::GET, "/v1/plans").basic_auth("x", Some(&plane.key));
    plane.send(basic).await.refused(401, "unauthenticated", None);
    let twice = plane.request(Method::GET, "/v1/plans").header("Authorization", format!("Bearer {}", plane.key));
    plane.send(twice).await.refused(401, "unauthenticated", None);
}

#[tokio::test]
async fn whoever_fails_too_often_waits() {
    let plane = Plane::start().await;
    for _ in 0..20 {
        plane.get_as("nrk1.guess", "/v1/plans").await.refused(401, "unauthenticated", None);
    }
    let limited = plane.get_as("nrk1.guess", "/v1/plans").await;
    assert_eq!(limited.headers["retry-after"], "60");
    limited.refused(429, "rate_limited", None);
    plane.clock.advance(std::time::Duration::from_secs(61));
    plane.get("/v1/plans").await.expect(200);
}

#[tokio::test]
async fn a_node_is_shown_cordoned_and_uncordoned() {
    let plane = Plane::start().await;
    let agent = plane.stocked().await;
    let path = format!("/v1/nodes/{}", agent.node_id);
    let node = plane.get(&path).await.expect(200);
    assert_eq!((node["availability"].as_str(), node["policy"].as_str()), (Some("available"), Some("active")));
    assert_eq!(plane.get("/v1/nodes").await.expect(200)["items"][0]["id"], node["id"]);
    assert_eq!(plane.post(&format!("{path}/cordon"), "a", &json!({})).await.expect(200)["policy"], "cordoned");
    plane.post("/v1/orders", "b", &plane.order_body()).await.refused(409, "capacity_exhausted", None);
    assert_eq!(plane.post(&format!("{path}/uncordon"), "c", &json!({})).await.expect(200)["policy"], "active");
    plane.post("/v1/orders", "d", &plane.order_body()).await.expect(202);
    let tenant = plane.key_for("reseller", &["orders", "read"]).await;
    plane.get_as(&tenant, &path).await.refused(403, "forbidden", None);
    let order = plane.post_as(&tenant, "/v1/orders", "e", &plane.order_body()).await.expect(202);
    let instance = format!("/v1/instances/{}", order["instance_id"].as_str().unwrap());
    assert!(plane.get_as(&tenant, &instance).await.expect(200)["node_id"].is_null(), "nodes are the operator's affair");
    assert!(plane.get(&instance).await.expect(200)["node_id"].is_string());
}

#[tokio::test]
async fn everything_that_happened_is_listed_in_order() {
    let plane = Plane::start().await;
    plane.stocked().await;
    plane.clock.advance(std::time::Duration::from_millis(5));
    plane.delivered("a").await;
    let mut kinds = Vec::new();
    let mut path = "/v1/events?limit=2".to_owned();
    loop {
        let page = plane.get(&path).await.expect(200);
        kinds.extend(page["items"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap().to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/events?limit=2&cursor={cursor}");
    }
    let at = |kind: &str| kinds.iter().position(|k| k == kind).unwrap_or_else(|| panic!("{kind} in {kinds:?}"));
    assert!(at("node.enrolled") < at("order.accepted") && at("order.accepted") < at("order.active"));
}

#[tokio::test]
async fn what_a_restore_froze_is_shown_and_settled() {
    let plane = Plane::start().await;
    let agent = plane.stocked().await;
    let (_, id) = plane.delivered("a").await;
    let path = format!("/v1/instances/{id}");
    let adopt = format!("{path}/adopt");
    let how = |how: &str| json!({ "how": how });
    plane.post(&adopt, "b", &how("keep")).await.refused(409, "conflict", Some("how"));
    plane.running.app.store.mark_restored().await.unwrap();
    assert_eq!(plane.get(&path).await.expect(200)["frozen"], "unverified");
    plane.post(&format!("{path}/stop"), "c", &json!({})).await.refused(409, "store_behind_node", Some("state"));
    plane.post(&adopt, "d", &how("gone")).await.refused(409, "conflict", Some("how"));
    agent.beat(&plane).await;
    assert_eq!(plane.get(&path).await.expect(200)["frozen"], "missing");
    plane.post(&adopt, "e", &how("somehow")).await.refused(400, "invalid_argument", Some("how"));
    assert_eq!(plane.post(&adopt, "f", &how("gone")).await.expect(200)["lifecycle"], "deleted");
    assert!(plane.get(&path).await.expect(200)["frozen"].is_null());
    assert_eq!(plane.post(&adopt, "f", &how("gone")).await.headers["idempotent-replayed"], "true");
    let node = plane.get(&format!("/v1/nodes/{}", agent.node_id)).await.expect(200);
    assert_eq!(node["policy"], "cordoned", "until the operator has looked");
    plane.post("/v1/audit", "unused", &json!({})).await.expect(200);
}

#[tokio::test]
async fn health_documents_and_unknown_paths_need_no_key() {
    let plane = Plane::start().await;
    let open = async |path: &str| plane.send(plane.bare(Method::GET, path)).await;
    assert_eq!(open("/healthz").await.expect(200)["status"], "ok");
    assert_eq!(open("/readyz").await.expect(200)["status"], "ok");
    assert_eq!(open("/openapi.json").await.expect(200)["openapi"], "3.1.0");
    let docs = open("/docs").await;
    assert!(docs.text.contains("/openapi.json") && !docs.text.contains("https://"), "rendered here, from here");
    assert!(open("/problems").await.text.contains("capacity_exhausted"));
    assert!(open("/problems/capacity_exhausted").await.text.contains("409"));
    open("/problems/nonsense").await.refused(404, "not_found", None);
    open("/v2/orders").await.refused(404, "not_found", None);
    open("/metrics").await.refused(404, "not_found", None);
    plane.send(plane.bare(Method::PATCH, "/v1/plans")).await.refused(405, "invalid_argument", None);
}

#[tokio::test]
async fn the_process_ends_when_it_is_asked_to() {
    let plane = Plane::start().await;
    let address = plane.running.http_addr;
    plane.get("/v1/plans").await.expect(200);
    tokio::time::timeout(std::time::Duration::from_secs(15), plane.running.stop()).await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
