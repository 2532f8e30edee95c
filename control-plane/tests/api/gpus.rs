//! GPUs: plans that ask for them, nodes that have them, orders that get them or are told why not.

use nemordp_types::GpuModel;
use nemordp_types::node::{GpuInventory, NodeInventory};
use nemordp_wire::v1;
use serde_json::{Value, json};

use crate::harness::{Agent, Plane, inventory};

/// Two nodes with room; the second one says that it has these GPUs.
async fn two_nodes(gpus: &[(&str, u32)]) -> (Plane, Agent, Agent) {
    let plane = Plane::start().await;
    let first = plane.stocked().await;
    let second = plane.node("node-2").await;
    offer(&second, gpus).await;
    (plane, first, second)
}

async fn offer(agent: &Agent, gpus: &[(&str, u32)]) {
    let gpus = gpus.iter().map(|(model, count)| GpuInventory { model: GpuModel::new(*model).unwrap(), count: *count });
    let mut beat = Agent::heartbeat();
    beat.inventory = Some(v1::NodeInventory::from(&NodeInventory { gpus: gpus.collect(), ..inventory() }));
    agent.client.clone().heartbeat(beat).await.unwrap();
}

fn plan(name: &str, gpus: &Value) -> Value {
    json!({
        "name": name, "vcpu": 1, "memory_mib": 1_024, "disk_gib": 20, "storage_class": "nvme", "gpus": gpus,
    })
}

fn order(plan: &str) -> Value {
    json!({ "plan": plan, "template": "debian", "region": "fsn1" })
}

async fn metrics(plane: &Plane) -> String {
    reqwest::get(format!("http://{}/metrics", plane.running.metrics_addr)).await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn an_order_on_a_gpu_plan_goes_where_the_gpus_are_and_is_refused_when_none_is_left() {
    let (plane, first, second) = two_nodes(&[("l40s", 2), ("rtx4000", 1)]).await;
    let gpus = json!({ "count": 1, "model": "rtx4000" });
    let made = plane.post("/v1/plans", "p1", &plan("gpu", &gpus)).await.expect(200);
    assert_eq!((&made["gpus"], &plane.get("/v1/plans/gpu").await.expect(200)["gpus"]), (&gpus, &gpus));
    let more = async |plan: &str| {
        let list = plane.get(&format!("/v1/capacity?region=fsn1&plan={plan}")).await.expect(200);
        let available = plane.get(&format!("/v1/availability?region=fsn1&plan={plan}")).await.expect(200);
        assert_eq!(list["items"][0]["more"], available["items"][0]["more"]);
        list["items"][0]["more"].as_u64().unwrap()
    };
    assert_eq!(more("gpu").await, 1);
    let placed = plane.post("/v1/orders", "o1", &order("gpu")).await.expect(202);
    let instance = plane.get(&format!("/v1/instances/{}", placed["instance_id"].as_str().unwrap())).await.expect(200);
    assert_eq!((&instance["node_id"], &instance["gpus"]), (&json!(second.node_id), &gpus));
    let decided = plane.get(&format!("/v1/orders/{}/placement", placed["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(decided["decided"]["refusals"], json!({ "gpu_model_missing": 1 }));
    assert_eq!(decided["now"]["refusals"], json!({ "gpu_model_missing": 1, "gpu": 1 }), "it asks for one again");
    let full = plane.post("/v1/orders", "o2", &order("gpu")).await.refused(409, "capacity_exhausted", None);
    let detail = full["detail"].as_str().unwrap();
    assert!(detail.contains("gpu_model_missing 1") && detail.contains("gpu 1"), "{full}");
    assert_eq!(more("gpu").await, 0);

    let node = plane.get(&format!("/v1/nodes/{}", second.node_id)).await.expect(200);
    let counted = json!([
        { "model": "l40s", "count": 2, "reserved": 0 }, { "model": "rtx4000", "count": 1, "reserved": 1 },
    ]);
    assert_eq!(node["gpus"], counted);
    let none = plane.get(&format!("/v1/nodes/{}", first.node_id)).await.expect(200);
    assert_eq!(none["gpus"], Value::Null);
    let text = metrics(&plane).await;
    for (name, model, value) in
        [("", "l40s", 2), ("_reserved", "l40s", 0), ("", "rtx4000", 1), ("_reserved", "rtx4000", 1)]
    {
        let id = &second.node_id;
        let line = format!("nemordp_control_plane_node_gpus{name}{{node=\"{id}\",model=\"{model}\"}} {value}");
        assert!(text.contains(&line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn any_model_takes_what_there_is() {
    let (plane, _first, second) = two_nodes(&[("l40s", 2), ("rtx4000", 1)]).await;
    let any = json!({ "count": 1 });
    assert_eq!(plane.post("/v1/plans", "p1", &plan("gpu", &any)).await.expect(200)["gpus"], any);
    let mut given = Vec::new();
    for number in 0..3 {
        let placed = plane.post("/v1/orders", &format!("o{number}"), &order("gpu")).await.expect(202);
        let path = format!("/v1/instances/{}", placed["instance_id"].as_str().unwrap());
        let instance = plane.get(&path).await.expect(200);
        assert_eq!(instance["node_id"], json!(second.node_id));
        given.push(instance["gpus"]["model"].as_str().unwrap().to_owned());
    }
    assert_eq!(given, ["rtx4000", "l40s", "l40s"], "the scarcest that suffices");
    plane.post("/v1/orders", "o3", &order("gpu")).await.refused(409, "capacity_exhausted", None);
}

#[tokio::test]
async fn plans_that_no_node_could_hold_and_amounts_that_make_no_sense_name_their_field() {
    let (plane, _first, second) = two_nodes(&[("l40s", 2)]).await;
    let post = async |name: &str, gpus: Value| plane.post("/v1/plans", name, &plan(name, &gpus)).await;
    let refused = post("a", json!({ "count": 3 })).await.refused(400, "invalid_argument", Some("gpus"));
    assert!(refused["detail"].as_str().unwrap().contains("the most in one is 2"), "{refused}");
    let refused =
        post("b", json!({ "count": 1, "model": "h100" })).await.refused(400, "invalid_argument", Some("gpus"));
    assert!(refused["detail"].as_str().unwrap().contains("of model h100 in one is 0"), "{refused}");
    for (name, gpus, field) in [
        ("c", json!({ "count": 0 }), "gpus.count"),
        ("d", json!({ "count": 65 }), "gpus.count"),
        ("e", json!({ "count": 1, "model": "RTX 4000" }), "gpus.model"),
        ("f", json!({ "count": 1, "colour": "red" }), "gpus.colour"),
        ("g", json!({ "model": "l40s" }), "gpus.count"),
    ] {
        post(name, gpus).await.refused(400, "invalid_argument", Some(field));
    }
    let mut waiting = plan("h", &json!({ "count": 8, "model": "h100" }));
    waiting["on_sale"] = json!(false);
    plane.post("/v1/plans", "h", &waiting).await.expect(200);
    // A node that lost GPUs which are reserved takes nothing more, and says why.
    post("gpu", json!({ "count": 2 })).await.expect(200);
    plane.post("/v1/orders", "o1", &order("gpu")).await.expect(202);
    offer(&second, &[("l40s", 1)]).await;
    let node = plane.get(&format!("/v1/nodes/{}", second.node_id)).await.expect(200);
    assert_eq!((&node["policy"], &node["gpus"][0]["reserved"]), (&json!("cordoned"), &json!(2)));
    assert!(node["policy_reason"].as_str().unwrap().contains("GPUs l40s 2 of 1"), "{node}");
}

#[tokio::test]
async fn what_if_knows_gpus() {
    let (plane, first, second) = two_nodes(&[("l40s", 1)]).await;
    let ask = async |body: Value| plane.post("/v1/placements/what-if", "w", &body).await;
    plane.post("/v1/plans", "p1", &plan("gpu", &json!({ "count": 1 }))).await.expect(200);
    let question = json!({
        "region": "fsn1", "plan": "gpu", "remove_nodes": [second.node_id],
        "add_nodes": [{
            "vcpu": 8, "memory_mib": 65_536, "disk_gib": 1_000, "storage_class": "nvme",
            "gpus": { "count": 4, "model": "rtx4000" }, "count": 2,
        }],
    });
    let answer = ask(question.clone()).await.expect(200);
    assert_eq!((&answer["now"]["placed"], &answer["then"]["placed"]), (&json!(true), &json!(true)));
    assert_eq!(answer["then"]["refusals"], json!({ "gpu_model_missing": 1 }));
    let change =
        answer["capacity"].as_array().unwrap().iter().find(|line| line["plan"] == "gpu" && line["region"] == "fsn1");
    assert_eq!((&change.unwrap()["now"], &change.unwrap()["then"]), (&json!(1), &json!(8)));
    let mut unnamed = question;
    unnamed["add_nodes"][0]["gpus"] = json!({ "count": 4 });
    ask(unnamed).await.refused(400, "invalid_argument", Some("add_nodes.gpus.model"));
    let like = json!({ "region": "fsn1", "plan": "gpu", "add_nodes": [{ "like": second.node_id, "count": 3 }] });
    let answer = ask(like).await.expect(200);
    let change =
        answer["capacity"].as_array().unwrap().iter().find(|line| line["plan"] == "gpu" && line["region"] == "fsn1");
    assert_eq!(change.unwrap()["then"], json!(4));
    let dear = json!({
        "region": "fsn1", "plan": "dear",
        "add_plans": [{ "name": "dear", "vcpu": 1, "memory_mib": 1_024, "disk_gib": 20, "storage_class": "nvme",
                        "gpus": { "count": 1, "model": "l40s" }, "orders": 3 }],
    });
    assert_eq!(ask(dear).await.expect(200)["now"]["node_id"], json!(second.node_id));
    drop(first);
}
