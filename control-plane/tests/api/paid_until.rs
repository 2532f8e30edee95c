//! Until when instances are paid for: told with the order or later, and orders that end together lie together.

use serde_json::{Value, json};

use crate::harness::{Agent, Plane};

fn order(plan: &str, paid_until: &str) -> Value {
    json!({ "plan": plan, "template": "debian", "region": "fsn1", "paid_until": paid_until })
}

async fn instance(plane: &Plane, order: &Value) -> Value {
    plane.get(&format!("/v1/instances/{}", order["instance_id"].as_str().unwrap())).await.expect(200)
}

const SOON: &str = "2099-01-01T00:00:00Z";
const LATE: &str = "2100-01-01T00:00:00Z";

/// Two nodes of which each has one instance, the first one's paid until soon, the other's for a year longer.
async fn two_nodes() -> (Plane, [Agent; 2], [Value; 2]) {
    let plane = Plane::start().await;
    let first = plane.stocked().await;
    let path = format!("/v1/nodes/{}", first.node_id);
    let soon = plane.post("/v1/orders", "soon", &order("basic", SOON)).await.expect(202);
    plane.post(&format!("{path}/cordon"), "cordon", &json!({})).await.expect(200);
    let second = plane.node("node-2").await;
    second.beat(&plane).await;
    let late = plane.post("/v1/orders", "late", &order("basic", LATE)).await.expect(202);
    plane.post(&format!("{path}/uncordon"), "uncordon", &json!({})).await.expect(200);
    (plane, [first, second], [soon, late])
}

#[tokio::test]
async fn orders_that_end_together_lie_together() {
    let (plane, nodes, [soon, _]) = two_nodes().await;
    for (name, paid_until, node) in [("a", SOON, 0), ("b", LATE, 1), ("c", SOON, 0)] {
        let placed = plane.post("/v1/orders", name, &order("basic", paid_until)).await.expect(202);
        let shown = instance(&plane, &placed).await;
        assert_eq!((&shown["node_id"], &shown["paid_until"]), (&json!(nodes[node].node_id), &json!(paid_until)));
    }
    let decided = plane.get(&format!("/v1/orders/{}/placement", soon["id"].as_str().unwrap())).await.expect(200);
    let terms = |id: &str| {
        let nodes = decided["now"]["nodes"].as_array().unwrap();
        nodes.iter().find(|node| node["node_id"] == id).unwrap()["terms"]["lifetime"].as_u64().unwrap_or(0)
    };
    assert_eq!(terms(&nodes[0].node_id), 0, "it ends with the others there");
    assert!(terms(&nodes[1].node_id) > 100_000, "{decided}");
    let ask = json!({ "region": "fsn1", "plan": "basic", "paid_until": LATE });
    let answer = plane.post("/v1/placements/what-if", "w", &ask).await.expect(200);
    assert_eq!(answer["now"]["node_id"], json!(nodes[1].node_id));
}

#[tokio::test]
async fn a_renewal_is_shown_and_nonsense_names_its_field() {
    let (plane, _nodes, [soon, _]) = two_nodes().await;
    let path = format!("/v1/instances/{}/paid-until", soon["instance_id"].as_str().unwrap());
    let renewed = plane.post(&path, "r1", &json!({ "paid_until": LATE })).await.expect(200);
    assert_eq!(renewed["paid_until"], json!(LATE));
    assert_eq!(instance(&plane, &soon).await["paid_until"], json!(LATE));
    let unknown = plane.post(&path, "r2", &json!({ "paid_until": null })).await.expect(200);
    assert_eq!(unknown["paid_until"], Value::Null);
    let events = plane.get("/v1/events?limit=200").await.expect(200).to_string();
    assert_eq!(events.matches("instance.renewed").count(), 2);
    plane.post(&path, "r3", &json!({})).await.refused(400, "invalid_argument", Some("paid_until"));
    plane.post(&path, "r4", &json!({ "paid_until": "soon" })).await.refused(
        400,
        "invalid_argument",
        Some("paid_until"),
    );
    let past = order("basic", "2001-01-01T00:00:00Z");
    plane.post("/v1/orders", "past", &past).await.refused(400, "invalid_argument", Some("paid_until"));
    let stranger = plane.key_for("stranger", &["orders"]).await;
    let hidden = plane.post_as(&stranger, &path, "r5", &json!({ "paid_until": LATE })).await;
    hidden.refused(404, "not_found", None);
}
