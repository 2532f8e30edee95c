//! Suspensions at a time, and what instances use: told by nodes over real mTLS.

use std::time::Duration;

use nemordp_types::Clock as _;
use nemordp_wire::{id, time, v1};
use serde_json::json;

use crate::harness::{Agent, Plane};

#[tokio::test]
async fn a_suspension_is_scheduled_shown_and_taken_back() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let (_, instance) = plane.delivered("a").await;
    let path = format!("/v1/instances/{instance}/suspension");
    plane.get(&path).await.refused(404, "not_found", None);
    let past = json!({ "at": "2020-01-01T00:00:00Z" });
    plane.post(&path, "b", &past).await.refused(400, "invalid_argument", Some("at"));
    let body = json!({ "at": "2099-01-01T00:00:00Z" });
    let scheduled = plane.post(&path, "c", &body).await.expect(200);
    assert_eq!((scheduled["at"].as_str(), scheduled["state"].as_str()), (Some("2099-01-01T00:00:00Z"), Some("wanted")));
    assert_eq!(plane.get(&path).await.expect(200)["instance_id"], instance.to_string());
    let stranger = plane.key_for("reseller", &["orders", "read"]).await;
    plane.get_as(&stranger, &path).await.refused(404, "not_found", None);
    assert_eq!(plane.delete(&path).await.status.as_u16(), 204);
    assert_eq!(plane.delete(&path).await.status.as_u16(), 204);
    plane.get(&path).await.refused(404, "not_found", None);
}

#[tokio::test]
async fn a_suspension_that_happened_becomes_a_change_of_the_instance_and_is_received_once() {
    let plane = Plane::start().await;
    let agent = plane.stocked().await;
    let (_, instance) = plane.delivered("a").await;
    let at = plane.clock.now().checked_add(Duration::from_secs(60)).unwrap();
    plane.post(&format!("/v1/instances/{instance}/suspension"), "b", &json!({ "at": at })).await.expect(200);
    let known = plane.running.app.store.suspension_untold().await.unwrap();
    let operation = known[0].operation_id;
    let report = v1::SuspensionReport {
        instance_id: id::encode(&instance),
        operation_id: id::encode(&operation),
        done_at_us: time::encode(at),
    };
    let request = || v1::HeartbeatRequest { suspensions: vec![report.clone()], ..Agent::heartbeat() };
    for _ in 0..2 {
        let answer = agent.client.clone().heartbeat(request()).await.unwrap().into_inner();
        assert_eq!(answer.suspension_receipts, [id::encode(&operation)]);
    }
    let operations = plane.get("/v1/operations?limit=200").await.expect(200);
    let suspends = operations["items"].as_array().unwrap().iter().filter(|o| o["kind"] == "suspend").count();
    assert_eq!(suspends, 1, "{operations}");
}

#[tokio::test]
async fn a_suspension_that_was_called_off_too_late_becomes_the_way_back() {
    let plane = Plane::start().await;
    let agent = plane.stocked().await;
    let (_, instance) = plane.delivered("a").await;
    let path = format!("/v1/instances/{instance}/suspension");
    let at = plane.clock.now().checked_add(Duration::from_secs(60)).unwrap();
    plane.post(&path, "b", &json!({ "at": at })).await.expect(200);
    let operation = plane.running.app.store.suspension_untold().await.unwrap()[0].operation_id;
    assert_eq!(plane.delete(&path).await.status.as_u16(), 204);
    let report = v1::SuspensionReport {
        instance_id: id::encode(&instance),
        operation_id: id::encode(&operation),
        done_at_us: time::encode(at),
    };
    for _ in 0..2 {
        let request = v1::HeartbeatRequest { suspensions: vec![report.clone()], ..Agent::heartbeat() };
        let answer = agent.client.clone().heartbeat(request).await.unwrap().into_inner();
        assert_eq!(answer.suspension_receipts, [id::encode(&operation)]);
    }
    let operations = plane.get("/v1/operations?limit=200").await.expect(200);
    let kinds: Vec<&str> = operations["items"].as_array().unwrap().iter().filter_map(|o| o["kind"].as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "realign").count(), 1, "{kinds:?}");
    assert!(!kinds.contains(&"suspend"));
}

#[tokio::test]
async fn what_an_instance_used_is_shown_however_often_it_was_reported() {
    let plane = Plane::start().await;
    let agent = plane.stocked().await;
    let (_, instance) = plane.delivered("a").await;
    let path = format!("/v1/instances/{instance}/usage");
    assert_eq!(
        plane.get(&path).await.expect(200),
        json!({ "received_bytes": 0, "sent_bytes": 0, "running_seconds": 0 })
    );
    let entry = |sequence: u64, received_bytes: u64| v1::UsageEntry {
        instance_id: id::encode(&instance),
        meter_id: vec![7; 16].into(),
        sequence,
        from_us: 1_000_000,
        until_us: 61_000_000,
        received_bytes,
        sent_bytes: 5,
        running_ms: 60_000,
    };
    let request = || v1::HeartbeatRequest { usage: vec![entry(1, 100), entry(2, 20)], ..Agent::heartbeat() };
    for _ in 0..2 {
        let answer = agent.client.clone().heartbeat(request()).await.unwrap().into_inner();
        let receipts: Vec<u64> = answer.usage_receipts.iter().map(|receipt| receipt.sequence).collect();
        assert_eq!(receipts, [2]);
    }
    let shown = plane.get(&path).await.expect(200);
    let expected = json!({
        "received_bytes": 120, "sent_bytes": 10, "running_seconds": 120, "until": "1970-01-01T00:01:01Z",
    });
    assert_eq!(shown, expected);
    let backwards =
        v1::HeartbeatRequest { usage: vec![v1::UsageEntry { until_us: 1, ..entry(3, 1) }], ..Agent::heartbeat() };
    let refused = nemordp_wire::status::from_status(&agent.client.clone().heartbeat(backwards).await.unwrap_err());
    assert_eq!(refused.field.as_deref(), Some("usage.until_us"));
}
