//! Sagas as operators see and steer them.

use nemordp_model::{OrderChange, SagaStatus};
use nemordp_store::Effect;
use serde_json::json;

use crate::harness::Plane;

#[tokio::test]
async fn a_stuck_saga_is_found_sent_on_and_given_up() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let order = plane.post("/v1/orders", "a", &plane.order_body()).await.expect(202);
    let id = order["operation_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/sagas/{id}");
    let shown = plane.get(&path).await.expect(200);
    assert_eq!((shown["status"].as_str(), shown["kind"].as_str()), (Some("running"), Some("provision")));
    assert!(shown["steps"].is_array() && shown["next_run_at"].is_string(), "{shown}");
    plane.post(&format!("{path}/retry"), "b", &json!({})).await.refused(409, "conflict", Some("status"));
    plane.post(&format!("{path}/abandon"), "c", &json!({ "cleaned_up": true })).await.refused(
        409,
        "conflict",
        Some("status"),
    );
    assert!(plane.get("/v1/sagas?status=stuck").await.expect(200)["items"].as_array().unwrap().is_empty());
    let order_id = order["id"].as_str().unwrap().parse().unwrap();
    plane.write_saga(SagaStatus::Stuck, &[Effect::Order { order_id, change: OrderChange::Provision }]).await;
    let found = plane.get("/v1/sagas?status=stuck").await.expect(200);
    assert_eq!(found["items"][0]["id"].as_str(), Some(id.as_str()));
    let going = plane.post(&format!("{path}/retry"), "d", &json!({ "direction": "back" })).await.expect(200);
    assert_eq!(going["status"], "unwinding");
    plane.write_saga(SagaStatus::Stuck, &[]).await;
    plane.post(&format!("{path}/abandon"), "e", &json!({ "cleaned_up": false })).await.refused(
        400,
        "invalid_argument",
        Some("cleaned_up"),
    );
    let ended = plane.post(&format!("{path}/abandon"), "f", &json!({ "cleaned_up": true })).await.expect(200);
    assert_eq!(ended["status"], "unwound");
    assert_eq!(plane.post(&format!("{path}/abandon"), "f", &json!({ "cleaned_up": true })).await.expect(200), ended);
    let order = plane.get(&format!("/v1/orders/{}", order["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(order["state"], "failed");
    plane.get("/v1/sagas?status=nonsense").await.refused(400, "invalid_argument", Some("query"));
}
