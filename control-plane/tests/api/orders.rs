//! Orders: what is accepted, what is refused, and what a repetition gets.

use reqwest::Method;
use serde_json::json;

use crate::harness::Plane;

#[tokio::test]
async fn an_order_is_accepted_and_can_be_followed() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let mut body = plane.order_body();
    body["host_name"] = json!("desk-1");
    body["time_zone"] = json!("Europe/Berlin");
    body["keyboard"] = json!("de");
    body["external_reference"] = json!("invoice-7");
    let answer = plane.post("/v1/orders", "invoice-7", &body).await;
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    assert!(answer.headers.get("idempotent-replayed").is_none());
    let order = answer.expect(202);
    assert_eq!(order["state"], "accepted");
    let id = order["id"].as_str().unwrap();
    assert_eq!(plane.get(&format!("/v1/orders/{id}")).await.expect(200), order);
    let found = plane.get("/v1/orders?state=accepted&external_reference=invoice-7").await.expect(200);
    assert_eq!(found["items"][0]["id"], order["id"]);
    let operation = plane.get(&location).await.expect(200);
    assert_eq!((operation["kind"].as_str(), operation["status"].as_str()), (Some("provision"), Some("running")));
    assert_eq!(operation["steps"][0]["name"], "clone");
    assert_eq!(operation["order_id"], order["id"]);
    let instance = plane.get(&format!("/v1/instances/{}", order["instance_id"].as_str().unwrap())).await.expect(200);
    assert_eq!(instance["host_name"], "desk-1");
    assert_eq!(
        (instance["endpoint_address"].as_str(), instance["power"].as_str()),
        (Some("203.0.113.7"), Some("unknown"))
    );
}

#[tokio::test]
async fn an_order_without_a_host_name_gets_one() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let order = plane.post("/v1/orders", "a", &plane.order_body()).await.expect(202);
    assert!(order["host_name"].as_str().unwrap().starts_with("desk-"));
}

#[tokio::test]
async fn what_cannot_be_built_is_refused_with_field_and_fix_and_nothing_is_stored() {
    let plane = Plane::start().await;
    plane.stocked().await;
    plane.plan("tiny", 5).await;
    let cases = [
        ("plan", json!("none"), "unknown_plan"),
        ("plan", json!("tiny"), "disk_too_small"),
        ("template", json!("none"), "unknown_template"),
        ("region", json!("mars"), "unknown_region"),
        ("host_name", json!("a b"), "invalid_argument"),
        ("time_zone", json!("../etc/passwd"), "invalid_argument"),
        ("time_zone", json!("Europe/Atlantis"), "invalid_argument"),
        ("keyboard", json!("de; reboot"), "invalid_argument"),
        ("external_reference", json!(" "), "invalid_argument"),
    ];
    for (number, (field, value, reason)) in cases.into_iter().enumerate() {
        if value == "Europe/Atlantis" && jiff::tz::db().available().next().is_none() {
            continue;
        }
        let mut body = plane.order_body();
        body[field] = value;
        let problem = plane.post("/v1/orders", &format!("k{number}"), &body).await.refused(400, reason, Some(field));
        assert!(
            problem["detail"].as_str().unwrap().contains(':') || problem["detail"].as_str().unwrap().starts_with("use")
        );
    }
    assert_eq!(plane.get("/v1/orders").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_full_fleet_answers_409_and_stores_nothing() {
    let plane = Plane::start().await;
    plane.stocked().await;
    for order in ["a", "b", "c"] {
        plane.post("/v1/orders", order, &plane.order_body()).await.expect(202);
    }
    let problem = plane.post("/v1/orders", "d", &plane.order_body()).await.refused(409, "capacity_exhausted", None);
    assert!(!problem.to_string().contains("node-1"), "the fleet stays inside");
    assert_eq!(plane.get("/v1/orders").await.expect(200)["items"].as_array().unwrap().len(), 3);
    let mut elsewhere = plane.order_body();
    elsewhere["region"] = json!("hel1");
    plane.post("/v1/orders", "e", &elsewhere).await.refused(409, "capacity_exhausted", None);
    // A refusal is not kept: the same intention may succeed once there is room.
    let order = &plane.get("/v1/orders").await.expect(200)["items"][0];
    let instance = order["instance_id"].as_str().unwrap().parse().unwrap();
    plane.running.app.store.order_release(instance).await.unwrap();
    plane.post("/v1/orders", "d", &plane.order_body()).await.expect(202);
}

#[tokio::test]
async fn orders_that_race_for_the_last_room_never_oversell() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let orders = (0..12).map(|number| {
        let plane = &plane;
        async move { plane.post("/v1/orders", &format!("race-{number}"), &plane.order_body()).await.status.as_u16() }
    });
    let answers = futures::future::join_all(orders).await;
    assert_eq!(answers.iter().filter(|status| **status == 202).count(), 3, "{answers:?}");
    assert_eq!(answers.iter().filter(|status| **status == 409).count(), 9, "{answers:?}");
    let instances = plane.get("/v1/instances").await.expect(200);
    let mut ports: Vec<u64> =
        instances["items"].as_array().unwrap().iter().map(|i| i["endpoint_port"].as_u64().unwrap()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 3);
}

#[tokio::test]
async fn a_repetition_gets_the_first_answer_and_another_body_is_refused() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let first = plane.post("/v1/orders", "invoice-7", &plane.order_body()).await;
    let again = plane.post("/v1/orders", "invoice-7", &plane.order_body()).await;
    assert_eq!(again.headers["idempotent-replayed"], "true");
    assert_eq!(again.headers["location"], first.headers["location"]);
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    let mut other = plane.order_body();
    other["host_name"] = json!("other");
    plane.post("/v1/orders", "invoice-7", &other).await.refused(422, "idempotency_key_reused", None);
    let elsewhere = plane.post("/v1/plans", "invoice-7", &json!({})).await;
    elsewhere.refused(422, "idempotency_key_reused", None);
    assert_eq!(plane.get("/v1/orders").await.expect(200)["items"].as_array().unwrap().len(), 1);
    // Another tenant's key may carry the same name.
    let foreign = plane.key_for("reseller", &["orders"]).await;
    let theirs = plane.post_as(&foreign, "/v1/orders", "invoice-7", &plane.order_body()).await;
    assert!(theirs.headers.get("idempotent-replayed").is_none());
    theirs.expect(202);
}

#[tokio::test]
async fn simultaneous_repetitions_make_one_order() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let body = plane.order_body();
    let answers = futures::future::join_all((0..8).map(|_| plane.post("/v1/orders", "one", &body))).await;
    for answer in &answers {
        match answer.status.as_u16() {
            202 => {}
            409 => assert_eq!(answer.json()["reason"], "idempotency_key_in_use"),
            other => panic!("{other}: {}", answer.text),
        }
    }
    assert_eq!(plane.get("/v1/orders").await.expect(200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_post_without_its_key_is_refused() {
    let plane = Plane::start().await;
    let request = plane.request(Method::POST, "/v1/orders").json(&plane.order_body());
    plane.send(request).await.refused(400, "idempotency_key_missing", Some("Idempotency-Key"));
    let long = "x".repeat(256);
    plane.post("/v1/orders", &long, &plane.order_body()).await.refused(
        400,
        "invalid_argument",
        Some("Idempotency-Key"),
    );
}

#[tokio::test]
async fn bodies_are_bounded_and_must_be_json() {
    let plane = Plane::start().await;
    let send = |body: String| {
        let request = plane.request(Method::POST, "/v1/orders").header("Idempotency-Key", "a");
        plane.send(request.header("content-type", "application/json").body(body))
    };
    send(format!("\"{}\"", "x".repeat(70_000))).await.refused(413, "payload_too_large", None);
    send("{".to_owned()).await.refused(400, "invalid_argument", None);
}

#[tokio::test]
async fn an_order_is_called_off_once() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let order = plane.post("/v1/orders", "a", &plane.order_body()).await.expect(202);
    let path = format!("/v1/orders/{}/cancel", order["id"].as_str().unwrap());
    let cancelled = plane.post(&path, "b", &json!({})).await.expect(202);
    assert_eq!(cancelled["state"], "cancelling");
    let bodyless = plane.request(Method::POST, &path).header("Idempotency-Key", "c");
    assert_eq!(plane.send(bodyless).await.expect(202)["state"], "cancelling", "a repetition changes nothing");
    let (delivered, _) = {
        let store = &plane.running.app.store;
        let leased = store.saga_claim("test", std::time::Duration::from_secs(9_999)).await.unwrap().unwrap();
        assert!(leased.saga.cancel_requested_at.is_some());
        plane.delivered("d").await
    };
    let late = plane.post(&format!("/v1/orders/{delivered}/cancel"), "e", &json!({})).await;
    assert!(late.refused(409, "conflict", Some("state"))["detail"].as_str().unwrap().contains("delete its instance"));
}

#[tokio::test]
async fn another_tenants_things_do_not_exist() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let (order, instance) = plane.delivered("a").await;
    let operation = plane.get("/v1/operations").await.expect(200)["items"][0]["id"].as_str().unwrap().to_owned();
    let foreign = plane.key_for("reseller", &["orders", "read"]).await;
    for path in [
        format!("/v1/orders/{order}"),
        format!("/v1/instances/{instance}"),
        format!("/v1/instances/{instance}/rdp-file"),
        format!("/v1/operations/{operation}"),
        format!("/v1/operations/{operation}/events"),
    ] {
        plane.get_as(&foreign, &path).await.refused(404, "not_found", None);
    }
    for action in ["start", "stop", "restart", "password-reset", "credentials"] {
        let path = format!("/v1/instances/{instance}/{action}");
        plane.post_as(&foreign, &path, action, &json!({})).await.refused(404, "not_found", None);
    }
    let cancel = format!("/v1/orders/{order}/cancel");
    plane.post_as(&foreign, &cancel, "cancel", &json!({})).await.refused(404, "not_found", None);
    let delete = plane.bare(Method::DELETE, &format!("/v1/instances/{instance}")).bearer_auth(&foreign);
    plane.send(delete).await.refused(404, "not_found", None);
    for list in ["orders", "instances", "operations"] {
        assert_eq!(plane.get_as(&foreign, &format!("/v1/{list}")).await.expect(200)["items"], json!([]), "{list}");
    }
}
