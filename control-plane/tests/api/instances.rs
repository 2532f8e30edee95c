//! What is done with an instance, and how its password leaves.

use nemordp_store::Effect;
use reqwest::Method;
use serde_json::json;

use crate::harness::{PASSWORD, Plane};

#[tokio::test]
async fn each_change_answers_with_its_operation() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let (_, instance) = plane.delivered("order").await;
    for (action, kind, wanted_on) in [
        ("stop", "stop", false),
        ("start", "start", true),
        ("restart", "restart", true),
        ("reset", "reset", true),
        ("password-reset", "password_reset", true),
    ] {
        let answer = plane.post(&format!("/v1/instances/{instance}/{action}"), action, &json!({})).await;
        let location = answer.headers["location"].to_str().unwrap().to_owned();
        let operation = answer.expect(202);
        assert_eq!((operation["kind"].as_str(), operation["status"].as_str()), (Some(kind), Some("running")));
        assert_eq!(plane.get(&location).await.expect(200)["id"], operation["id"]);
        let shown = plane.get(&format!("/v1/instances/{instance}")).await.expect(200);
        assert_eq!(shown["wanted_on"], wanted_on, "{action}");
        let busy =
            plane.post(&format!("/v1/instances/{instance}/restart"), &format!("{action}-busy"), &json!({})).await;
        assert_eq!(busy.status.as_u16(), 409, "one piece of work at a time");
        plane.end_saga(&[]).await;
    }
}

#[tokio::test]
async fn deletion_wins_and_a_second_one_finds_the_first() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let (_, instance) = plane.delivered("order").await;
    plane.post(&format!("/v1/instances/{instance}/restart"), "a", &json!({})).await.expect(202);
    let path = format!("/v1/instances/{instance}");
    let first = plane.delete(&path).await.expect(202);
    assert_eq!(first["kind"], "delete");
    assert_eq!(plane.delete(&path).await.expect(202)["id"], first["id"]);
    assert_eq!(plane.get(&path).await.expect(200)["lifecycle"], "deleting");
    plane.post(&format!("{path}/start"), "b", &json!({})).await.refused(409, "conflict", Some("state"));
    plane.end_saga(&[Effect::InstanceDeleted { instance_id: instance }]).await;
    let gone = plane.get(&path).await.expect(200);
    assert_eq!((gone["lifecycle"].as_str(), gone["power"].as_str()), (Some("deleted"), Some("absent")));
}

#[tokio::test]
async fn an_instance_that_was_not_handed_over_takes_no_changes() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let order = plane.post("/v1/orders", "a", &plane.order_body()).await.expect(202);
    let path = format!("/v1/instances/{}", order["instance_id"].as_str().unwrap());
    plane.post(&format!("{path}/start"), "b", &json!({})).await.refused(409, "conflict", Some("state"));
    plane.get(&format!("{path}/rdp-file")).await.refused(409, "conflict", Some("state"));
    plane.send(plane.request(Method::POST, &format!("{path}/credentials"))).await.refused(
        409,
        "conflict",
        Some("state"),
    );
    plane.get("/v1/instances/nonsense").await.refused(400, "invalid_argument", None);
    plane.get("/v1/instances/01890000-0000-7000-8000-000000000001").await.refused(404, "not_found", None);
}

#[tokio::test]
async fn the_rdp_file_carries_endpoint_and_user_and_no_password() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let (_, instance) = plane.delivered("order").await;
    let port = plane.get(&format!("/v1/instances/{instance}")).await.expect(200)["endpoint_port"].clone();
    let file = plane.get(&format!("/v1/instances/{instance}/rdp-file")).await;
    assert_eq!(file.status.as_u16(), 200);
    assert_eq!(file.headers["content-type"], "application/x-rdp");
    assert!(file.text.contains(&format!("full address:s:203.0.113.7:{port}\r\n")), "{}", file.text);
    assert!(file.text.contains("username:s:user\r\n"));
    assert!(!file.text.contains(PASSWORD));
}

#[tokio::test]
async fn the_password_is_shown_once_and_then_nobody_has_it() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let (_, instance) = plane.delivered("order").await;
    let path = format!("/v1/instances/{instance}/credentials");
    let older = plane.send(plane.request(Method::POST, &path)).await.expect(201);
    let answer = plane.send(plane.request(Method::POST, &path)).await;
    assert_eq!(answer.headers["cache-control"], "no-store");
    let link = answer.expect(201);
    let token = |link: &serde_json::Value| link["url"].as_str().unwrap().split_once("/c#").unwrap().1.to_owned();
    let reveal =
        |token: String| plane.send(plane.bare(Method::POST, "/v1/credentials/reveal").json(&json!({ "token": token })));
    reveal(token(&older)).await.refused(404, "not_found", Some("token"));
    reveal("nrc1.guess".to_owned()).await.refused(404, "not_found", Some("token"));
    let shown = reveal(token(&link)).await;
    assert_eq!(shown.headers["cache-control"], "no-store");
    assert_eq!(shown.headers["referrer-policy"], "no-referrer");
    let shown = shown.expect(200);
    assert_eq!(shown["password"], PASSWORD);
    assert_eq!((shown["login_name"].as_str(), shown["endpoint_address"].as_str()), (Some("user"), Some("203.0.113.7")));
    assert_eq!(shown["rdp_certificate_sha256"], "07".repeat(32));
    reveal(token(&link)).await.refused(410, "already_revealed", None);
    plane.send(plane.request(Method::POST, &path)).await.refused(410, "already_revealed", None);
    let everything = std::fs::read(plane.dir.path().join("data/store.sqlite")).unwrap();
    assert!(!everything.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes()));
}

#[tokio::test]
async fn a_link_expires_and_one_that_cannot_be_opened_is_not_consumed() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let (_, instance) = plane.delivered("order").await;
    let path = format!("/v1/instances/{instance}/credentials");
    let link = async || {
        let link = plane.send(plane.request(Method::POST, &path)).await.expect(201);
        link["url"].as_str().unwrap().split_once('#').unwrap().1.to_owned()
    };
    let reveal = async |token: &str| {
        plane.send(plane.bare(Method::POST, "/v1/credentials/reveal").json(&json!({ "token": token }))).await
    };
    let old = link().await;
    plane.clock.advance(std::time::Duration::from_secs(73 * 3_600));
    reveal(&old).await.refused(404, "not_found", Some("token"));
    // What another installation's key sealed does not open here: the operator's affair, and the link stays good.
    plane.post(&format!("/v1/instances/{instance}/password-reset"), "reset", &json!({})).await.expect(202);
    let id = instance;
    plane.end_saga(&[Effect::SealSecret { instance_id: id, sealed: vec![9; 60] }]).await;
    let fresh = link().await;
    for _ in 0..2 {
        let problem = reveal(&fresh).await.refused(500, "internal", None);
        assert!(!problem["detail"].as_str().unwrap().contains("sealed"), "the context stays inside");
    }
}

#[tokio::test]
async fn the_credentials_page_reveals_nothing_by_itself() {
    let plane = Plane::start().await;
    let page = plane.send(plane.bare(Method::GET, "/c")).await;
    assert_eq!(page.status.as_u16(), 200);
    assert_eq!(page.headers["cache-control"], "no-store");
    assert_eq!(page.headers["referrer-policy"], "no-referrer");
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("script-src 'sha256-") && policy.contains("default-src 'none'"), "{policy}");
    assert!(!page.text.contains("src="), "nothing is loaded from elsewhere");
}

#[tokio::test]
async fn an_operation_is_streamed_to_its_end() {
    use futures::StreamExt as _;
    let plane = Plane::start().await;
    plane.stocked().await;
    let order = plane.post("/v1/orders", "a", &plane.order_body()).await.expect(202);
    let path = format!("/v1/operations/{}/events", order["operation_id"].as_str().unwrap());
    let response = plane.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut stream = response.bytes_stream();
    let first = String::from_utf8(stream.next().await.unwrap().unwrap().to_vec()).unwrap();
    assert!(first.starts_with("event: operation\n") && first.contains("\"status\":\"running\""), "{first}");
    plane.end_saga(&[]).await;
    let mut rest = String::new();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), async {
        while let Some(chunk) = stream.next().await {
            rest.push_str(&String::from_utf8_lossy(&chunk.unwrap()));
        }
    });
    ended.await.unwrap();
    assert!(rest.contains("\"status\":\"done\""), "{rest}");
}
