//! What customers and operators want of an instance that is there, and what they are told when that cannot be.

use nemordp_store::Effect;
use serde_json::json;

use crate::harness::Plane;

#[tokio::test]
async fn a_suspended_instance_says_so_and_refuses_to_start_until_that_ends() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let (_, instance) = plane.delivered("order").await;
    let path = format!("/v1/instances/{instance}");
    let suspend = plane.post(&format!("{path}/suspend"), "a", &json!({})).await.expect(202);
    assert_eq!(suspend["kind"], "suspend");
    plane.end_saga(&[]).await;
    let shown = plane.get(&path).await.expect(200);
    assert!(shown["suspended_at"].is_string() && shown["wanted_on"] == true, "{shown}");
    plane.post(&format!("{path}/start"), "b", &json!({})).await.refused(409, "conflict", Some("suspended"));
    plane.post(&format!("{path}/suspend"), "c", &json!({})).await.refused(409, "conflict", Some("suspended"));
    plane.post(&format!("{path}/unsuspend"), "d", &json!({})).await.expect(202);
    plane.end_saga(&[]).await;
    assert!(plane.get(&path).await.expect(200).get("suspended_at").is_none());
}

#[tokio::test]
async fn a_size_grows_or_the_answer_names_the_field() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let (_, instance) = plane.delivered("order").await;
    let path = format!("/v1/instances/{instance}");
    let before = plane.get(&path).await.expect(200);
    let disk = before["disk_gib"].as_u64().unwrap();
    let resize = format!("{path}/resize");
    for (key, body, status, reason, field) in [
        ("a", json!({ "disk_gib": disk - 1 }), 400, "disk_too_small", Some("disk_gib")),
        ("b", json!({ "vcpu": 0 }), 400, "invalid_argument", Some("vcpu")),
        ("c", json!({}), 400, "invalid_argument", Some("vcpu")),
        ("d", json!({ "memory_mib": 1_000_000_000 }), 409, "capacity_exhausted", Some("memory_mib")),
        ("e", json!({ "disk": 5 }), 400, "invalid_argument", Some("disk")),
    ] {
        plane.post(&resize, key, &body).await.refused(status, reason, field);
    }
    assert_eq!(plane.get(&path).await.expect(200), before, "a refusal changes nothing");
    plane.post(&resize, "f", &json!({ "vcpu": before["vcpu"].as_u64().unwrap() + 1 })).await.expect(202);
    let busy = plane.post(&format!("{path}/reinstall"), "g", &json!({})).await.refused(409, "conflict", None);
    assert!(busy["detail"].as_str().unwrap().contains("resize"), "{busy}");
    plane.end_saga(&[]).await;
    assert_eq!(plane.get(&path).await.expect(200)["vcpu"], before["vcpu"].as_u64().unwrap() + 1);
}

#[tokio::test]
async fn a_name_a_fresh_disk_and_a_rescue_system_are_wanted_one_after_the_other() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let (_, instance) = plane.delivered("order").await;
    let path = format!("/v1/instances/{instance}");
    plane.post(&format!("{path}/rename"), "a", &json!({ "host_name": "a b" })).await.refused(
        400,
        "invalid_argument",
        Some("host_name"),
    );
    plane.post(&format!("{path}/rename"), "b", &json!({ "host_name": "other" })).await.expect(202);
    plane.end_saga(&[]).await;
    assert_eq!(plane.get(&path).await.expect(200)["host_name"], "other");
    plane.post(&format!("{path}/reinstall"), "c", &json!({ "template": "nothing" })).await.refused(
        400,
        "unknown_template",
        Some("template"),
    );
    let reinstall = plane.post(&format!("{path}/reinstall"), "d", &json!({})).await.expect(202);
    assert_eq!(reinstall["kind"], "reinstall");
    plane.end_saga(&[Effect::Settle { instance_id: instance }]).await;
    plane.post(&format!("{path}/unrescue"), "e", &json!({})).await.refused(409, "conflict", Some("rescued"));
    plane.post(&format!("{path}/rescue"), "f", &json!({})).await.expect(202);
    plane.end_saga(&[]).await;
    assert_eq!(plane.get(&path).await.expect(200)["rescued"], true);
    plane.post(&format!("{path}/password-reset"), "g", &json!({})).await.refused(409, "conflict", Some("rescued"));
    plane.post(&format!("{path}/unrescue"), "h", &json!({})).await.expect(202);
    plane.end_saga(&[Effect::Settle { instance_id: instance }]).await;
    assert_eq!(plane.get(&path).await.expect(200)["rescued"], false);
}

#[tokio::test]
async fn a_deletion_with_grace_can_be_taken_back_and_one_without_cannot() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let (_, instance) = plane.delivered("order").await;
    let path = format!("/v1/instances/{instance}");
    plane.post(&format!("{path}/restore"), "a", &json!({})).await.refused(409, "conflict", Some("delete_after"));
    plane.delete(&format!("{path}?grace_seconds=99999999999")).await.refused(
        400,
        "invalid_argument",
        Some("grace_seconds"),
    );
    let later = plane.delete(&format!("{path}?grace_seconds=3600")).await.expect(202);
    assert_eq!(later["kind"], "delete_later");
    plane.end_saga(&[]).await;
    let shown = plane.get(&path).await.expect(200);
    assert!(shown["delete_after"].is_string() && shown["lifecycle"] == "active", "{shown}");
    plane.post(&format!("{path}/start"), "b", &json!({})).await.refused(409, "conflict", Some("delete_after"));
    plane.post(&format!("{path}/restore"), "c", &json!({})).await.expect(202);
    plane.end_saga(&[Effect::Settle { instance_id: instance }]).await;
    assert!(plane.get(&path).await.expect(200).get("delete_after").is_none());
    assert_eq!(plane.delete(&path).await.expect(202)["kind"], "delete", "at once, unless the operator set a grace");
    plane.post(&format!("{path}/restore"), "d", &json!({})).await.refused(409, "conflict", Some("state"));
}
