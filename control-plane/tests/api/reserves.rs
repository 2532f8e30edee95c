//! What is not sold: held back on a node for maintenance, or held for scarce plans; and who is told so.

use nemordp_types::GpuModel;
use nemordp_types::node::{GpuInventory, NodeInventory};
use nemordp_wire::v1;
use serde_json::{Value, json};

use crate::harness::{Agent, Plane, inventory};

/// One node with two GPUs that takes three instances, and the plans `basic` and `gpu`.
async fn gpu_node() -> (Plane, Agent) {
    let plane = Plane::start().await;
    let agent = plane.stocked().await;
    let gpus = vec![GpuInventory { model: GpuModel::new("l40s").unwrap(), count: 2 }];
    let mut beat = Agent::heartbeat();
    beat.inventory = Some(v1::NodeInventory::from(&NodeInventory { gpus, ..inventory() }));
    agent.client.clone().heartbeat(beat).await.unwrap();
    let plan = json!({
        "name": "gpu", "vcpu": 2, "memory_mib": 4_096, "disk_gib": 50, "storage_class": "nvme",
        "gpus": { "count": 1, "model": "l40s" },
    });
    plane.post("/v1/plans", "gpu", &plan).await.expect(200);
    (plane, agent)
}

fn order(plan: &str) -> Value {
    json!({ "plan": plan, "template": "debian", "region": "fsn1" })
}

async fn more(plane: &Plane, plan: &str) -> Value {
    plane.get(&format!("/v1/capacity?region=fsn1&plan={plan}")).await.expect(200)["items"][0]["more"].clone()
}

#[tokio::test]
async fn slots_that_are_held_are_refused_to_cheaper_plans() {
    let (plane, _agent) = gpu_node().await;
    let reserve = json!({ "region": "fsn1", "plan": "gpu", "slots": 2 });
    let set = plane.post("/v1/reserves", "r1", &reserve).await.expect(200);
    assert_eq!((&set["plan"], &set["slots"]), (&json!("gpu"), &json!(2)));
    assert_eq!(plane.get("/v1/reserves").await.expect(200)["items"], json!([set]));
    assert_eq!((more(&plane, "basic").await, more(&plane, "gpu").await), (json!(1), json!(2)));
    plane.post("/v1/orders", "o1", &order("basic")).await.expect(202);
    let full = plane.post("/v1/orders", "o2", &order("basic")).await.refused(409, "capacity_exhausted", None);
    assert!(full["detail"].as_str().unwrap().contains("reserve 1"), "{full}");
    let ask = json!({ "region": "fsn1", "plan": "basic" });
    let answer = plane.post("/v1/placements/what-if", "w", &ask).await.expect(200);
    assert_eq!(answer["now"]["refusals"], json!({ "reserve": 1 }));
    plane.post("/v1/orders", "o3", &order("gpu")).await.expect(202);
    let lifted = json!({ "region": "fsn1", "plan": "gpu", "slots": 0 });
    assert_eq!(plane.post("/v1/reserves", "r2", &lifted).await.expect(200)["slots"], json!(0));
    assert_eq!(plane.get("/v1/reserves").await.expect(200)["items"], json!([]));
    plane.post("/v1/orders", "o4", &order("basic")).await.expect(202);
}

#[tokio::test]
async fn reserves_that_make_no_sense_name_their_field() {
    let (plane, _agent) = gpu_node().await;
    let set = |region: &str, plan: &str, slots: u32| json!({ "region": region, "plan": plan, "slots": slots });
    for (name, body, status, reason, field) in [
        ("a", set("mars", "gpu", 1), 404, "unknown_region", "region"),
        ("b", set("fsn1", "none", 1), 404, "unknown_plan", "plan"),
        ("c", set("fsn1", "basic", 1), 400, "invalid_argument", "plan"),
        ("d", set("fsn1", "gpu", 100_001), 400, "invalid_argument", "slots"),
        ("e", json!({ "region": "fsn1", "plan": "gpu" }), 400, "invalid_argument", "slots"),
        ("f", json!({ "region": "fsn1", "plan": "gpu", "slots": -1 }), 400, "invalid_argument", "slots"),
    ] {
        let answer = plane.post("/v1/reserves", name, &body).await;
        assert!(answer.status.is_client_error());
        let problem = answer.json();
        assert_eq!((&problem["reason"], &problem["field"]), (&json!(reason), &json!(field)), "{status} {problem}");
    }
}

#[tokio::test]
async fn what_is_held_back_is_shown_and_refused() {
    let (plane, agent) = gpu_node().await;
    let path = format!("/v1/nodes/{}/held-back", agent.node_id);
    assert_eq!(more(&plane, "basic").await, json!(3));
    let node = plane.post(&path, "h1", &json!({ "memory_mib": 4_096 })).await.expect(200);
    assert_eq!(node["held_back"], json!({ "vcpu": 0, "memory_mib": 4_096, "disk_gib": 0 }));
    assert_eq!(more(&plane, "basic").await, json!(2));
    for name in ["o1", "o2"] {
        plane.post("/v1/orders", name, &order("basic")).await.expect(202);
    }
    let full = plane.post("/v1/orders", "o3", &order("basic")).await.refused(409, "capacity_exhausted", None);
    assert!(full["detail"].as_str().unwrap().contains("held_back 1"), "{full}");
    let list = plane.get("/v1/nodes").await.expect(200);
    assert_eq!(list["items"][0]["held_back"]["memory_mib"], json!(4_096));
    let node = plane.post(&path, "h2", &json!({})).await.expect(200);
    assert_eq!(node["held_back"], Value::Null);
    plane.post("/v1/orders", "o4", &order("basic")).await.expect(202);
    for (name, body, field) in [
        ("b1", json!({ "vcpu": 5_000 }), "vcpu"),
        ("b2", json!({ "memory_mib": 1u64 << 40 }), "memory_mib"),
        ("b3", json!({ "disk_gib": 1u64 << 40 }), "disk_gib"),
        ("b4", json!({ "vcpu": -1 }), "vcpu"),
        ("b5", json!({ "colour": 1 }), "colour"),
    ] {
        plane.post(&path, name, &body).await.refused(400, "invalid_argument", Some(field));
    }
}
