//! Where orders go, why, and what is told of it; what cannot be placed at all.

use nemordp_types::MiB;
use nemordp_types::node::NodeInventory;
use nemordp_wire::v1;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Agent, Plane, inventory};

async fn filled(plane: &Plane) -> (Agent, Value) {
    let agent = plane.stocked().await;
    let order = plane.post("/v1/orders", "a", &plane.order_body()).await.expect(202);
    for intention in ["b", "c"] {
        plane.post("/v1/orders", intention, &plane.order_body()).await.expect(202);
    }
    (agent, order)
}

#[tokio::test]
async fn an_order_is_explained_to_the_operator_node_by_node_and_to_others_by_counts() {
    let plane = Plane::start().await;
    let (agent, order) = filled(&plane).await;
    let path = format!("/v1/orders/{}/placement", order["id"].as_str().unwrap());
    let found = plane.get(&path).await.expect(200);
    assert_eq!((&found["order_id"], &found["node_id"]), (&order["id"], &json!(agent.node_id)));
    let decided = &found["decided"];
    assert_eq!((&decided["placed"], &decided["node_id"]), (&json!(true), &json!(agent.node_id)));
    assert_eq!(decided["snapshot"].as_str().unwrap().len(), 64);
    let best = &decided["nodes"][0];
    assert_eq!((best["name"].as_str(), decided["refusals"].as_object().unwrap().len()), (Some("node-1"), 0));
    let terms: u64 = best["terms"].as_object().unwrap().values().map(|term| term.as_u64().unwrap()).sum();
    assert_eq!(best["score"].as_u64(), Some(terms));
    // Now the node is full, and says why.
    let now = &found["now"];
    assert_eq!((&now["placed"], &now["refusals"]), (&json!(false), &json!({ "memory": 1 })));
    assert_eq!(now["nodes"][0]["refusal"], "memory");
    assert!(now["message"].as_str().unwrap().contains("memory 1"), "{now}");

    let storefront = plane.key_for("default", &["orders", "read"]).await;
    let shown = plane.get_as(&storefront, &path).await.expect(200);
    assert_eq!(shown["now"]["refusals"], json!({ "memory": 1 }));
    assert!(!shown.to_string().contains(&agent.node_id) && !shown.to_string().contains("node-1"), "{shown}");
    let stranger = plane.key_for("reseller", &["orders", "read"]).await;
    plane.get_as(&stranger, &path).await.refused(404, "not_found", None);
}

#[tokio::test]
async fn a_question_about_another_fleet_is_answered_and_changes_nothing() {
    let plane = Plane::start().await;
    let (agent, _) = filled(&plane).await;
    let ask = |body: Value| {
        let request = plane.request(Method::POST, "/v1/placements/what-if").json(&body);
        plane.send(request)
    };
    let machine = json!({ "vcpu": 8, "memory_mib": 8_192, "disk_gib": 500, "storage_class": "nvme", "count": 2 });
    let answer = ask(json!({ "region": "fsn1", "plan": "basic", "add_nodes": [machine] })).await.expect(200);
    assert_eq!((&answer["now"]["placed"], &answer["then"]["placed"]), (&json!(false), &json!(true)));
    assert!(answer["then"]["nodes"][0]["name"].as_str().unwrap().starts_with("supposed-"));
    let room = |answer: &Value, region: &str, plan: &str| {
        let found = answer["capacity"].as_array().unwrap().iter();
        let row = found.clone().find(|row| row["region"] == region && row["plan"] == plan).cloned().unwrap();
        (row["now"].as_u64(), row["then"].as_u64())
    };
    assert_eq!(room(&answer, "fsn1", "basic"), (Some(0), Some(4)));
    assert_eq!(room(&answer, "hel1", "basic"), (Some(0), Some(0)));

    let like = json!({ "region": "fsn1", "plan": "basic", "add_nodes": [{ "like": agent.node_id }] });
    assert_eq!(room(&ask(like).await.expect(200), "fsn1", "basic"), (Some(0), Some(3)));
    let gold = json!({ "name": "gold", "vcpu": 2, "memory_mib": 2_048, "disk_gib": 10, "storage_class": "nvme" });
    let body = json!({
        "region": "fsn1", "plan": "gold", "add_plans": [gold], "remove_plans": ["basic"],
        "add_nodes": [{ "like": agent.node_id }], "remove_nodes": [agent.node_id],
    });
    let answer = ask(body).await.expect(200);
    assert_eq!((room(&answer, "fsn1", "gold"), room(&answer, "fsn1", "basic")), ((None, Some(6)), (Some(0), None)));
    assert_eq!(answer["then"]["nodes"].as_array().unwrap().len(), 1);

    let nobody = "01890000-0000-7000-8000-000000000001";
    for (extra, field) in [
        (json!({ "add_nodes": [{ "vcpu": 8 }] }), "add_nodes"),
        (json!({ "add_nodes": [{ "like": agent.node_id, "count": 0 }] }), "add_nodes.count"),
        (json!({ "add_nodes": [{ "like": agent.node_id, "count": 1_001 }] }), "add_nodes.count"),
        (json!({ "add_nodes": [{ "like": nobody }] }), "add_nodes.like"),
        (json!({ "remove_nodes": [nobody] }), "remove_nodes"),
    ] {
        let mut body = json!({ "region": "fsn1", "plan": "basic" });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        ask(body).await.refused(400, "invalid_argument", Some(field));
    }
    ask(json!({ "region": "mars", "plan": "basic" })).await.refused(400, "unknown_region", Some("region"));
    ask(json!({ "region": "fsn1", "plan": "none" })).await.refused(400, "unknown_plan", Some("plan"));
    assert_eq!(plane.get("/v1/nodes").await.expect(200)["items"].as_array().unwrap().len(), 1);
    assert_eq!(plane.get("/v1/plans").await.expect(200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_blocked_order_is_told_which_moves_would_make_room() {
    let plane = Plane::start().await;
    plane.stocked().await;
    plane.node("node-2").await.beat(&plane).await;
    let (_, lodger) = plane.delivered("a").await;
    let lies = plane.get(&format!("/v1/instances/{lodger}")).await.expect(200)["node_id"].clone();
    let node = format!("/v1/nodes/{}", lies.as_str().unwrap());
    // One instance on each node: neither has room for a plan that takes a whole one.
    plane.post(&format!("{node}/cordon"), "x", &json!({})).await.expect(200);
    let (_, other) = plane.delivered("b").await;
    plane.post(&format!("{node}/uncordon"), "y", &json!({})).await.expect(200);
    let whole = json!({ "name": "whole", "vcpu": 2, "memory_mib": 12_288, "disk_gib": 50, "storage_class": "nvme" });
    plane.post("/v1/plans", "whole", &whole).await.expect(200);
    let ask = |plan: &str| {
        let body = json!({ "region": "fsn1", "plan": plan });
        plane.send(plane.request(Method::POST, "/v1/placements/what-if").json(&body))
    };
    let answer = ask("whole").await.expect(200);
    assert_eq!(answer["now"]["placed"], json!(false));
    let plan = &answer["room_by_moving"];
    let moves = plan["moves"].as_array().unwrap();
    assert_eq!(moves.len(), 1, "{plan}");
    assert!([lodger.to_string(), other.to_string()].iter().any(|id| moves[0]["instance_id"] == json!(id)), "{plan}");
    assert_eq!(moves[0]["from_node"], plan["node_id"]);
    assert_ne!(moves[0]["to_node"], plan["node_id"]);
    assert!(ask("basic").await.expect(200).get("room_by_moving").is_none(), "there is room as it is");

    // What something is being done to is not moved.
    for (instance, key) in [(lodger, "s"), (other, "t")] {
        plane.post(&format!("/v1/instances/{instance}/stop"), key, &json!({})).await.expect(202);
    }
    assert!(ask("whole").await.expect(200).get("room_by_moving").is_none());
}

#[tokio::test]
async fn capacity_is_told_by_region_and_plan_and_measured() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let list = plane.get("/v1/capacity").await.expect(200);
    let rows = json!([
        { "region": "fsn1", "plan": "basic", "more": 3 },
        { "region": "hel1", "plan": "basic", "more": 0 },
    ]);
    assert_eq!(list["items"], rows);
    assert_eq!(plane.get("/v1/capacity?region=hel1").await.expect(200)["items"][0]["more"], 0);
    plane.get("/v1/capacity?region=mars").await.refused(400, "unknown_region", Some("region"));
    let text = metrics(&plane).await;
    assert!(text.contains("nemordp_control_plane_capacity_orders{region=\"fsn1\",plan=\"basic\"} 3"), "{text}");
    // A plan that is sold no more is zero from then on.
    let body = json!({
        "name": "basic", "vcpu": 2, "memory_mib": 4096, "disk_gib": 50, "storage_class": "nvme", "on_sale": false,
    });
    plane.post("/v1/plans", "off", &body).await.expect(200);
    let text = metrics(&plane).await;
    assert!(text.contains("nemordp_control_plane_capacity_orders{region=\"fsn1\",plan=\"basic\"} 0"), "{text}");
}

async fn metrics(plane: &Plane) -> String {
    reqwest::get(format!("http://{}/metrics", plane.running.metrics_addr)).await.unwrap().text().await.unwrap()
}

#[tokio::test]
async fn a_plan_that_nothing_could_ever_hold_is_refused_with_its_field() {
    let plane = Plane::start().await;
    let plan = |vcpu: i64, memory: i64, disk: i64, class: &str| json!({ "name": "big", "vcpu": vcpu, "memory_mib": memory, "disk_gib": disk, "storage_class": class });
    for (number, (body, field)) in [
        (plan(0, 4_096, 50, "nvme"), "vcpu"),
        (plan(-1, 4_096, 50, "nvme"), "vcpu"),
        (plan(2, 0, 50, "nvme"), "memory_mib"),
        (plan(2, -4_096, 50, "nvme"), "memory_mib"),
        (plan(2, 4_096, 0, "nvme"), "disk_gib"),
        (plan(2, 4_096, i64::MAX, "nvme"), "disk_gib"),
    ]
    .into_iter()
    .enumerate()
    {
        plane.post("/v1/plans", &format!("bad-{number}"), &body).await.refused(400, "invalid_argument", Some(field));
    }
    // While no node is enrolled nobody knows what machines will come.
    let big = plan(64, 262_144, 50, "nvme");
    plane.post("/v1/plans", "early", &big).await.expect(200);
    plane.stocked().await;
    for (number, (body, field)) in [
        (plan(64, 4_096, 50, "nvme"), "vcpu"),
        (big.clone(), "vcpu"),
        (plan(2, 262_144, 50, "nvme"), "memory_mib"),
        (plan(2, 4_096, 5_000, "nvme"), "disk_gib"),
        (plan(2, 4_096, 50, "hdd"), "storage_class"),
    ]
    .into_iter()
    .enumerate()
    {
        let problem = plane.post("/v1/plans", &format!("late-{number}"), &body).await;
        problem.refused(400, "invalid_argument", Some(field));
    }
    // It may stand there for the machines to come, as long as nobody can order it.
    let mut waiting = big;
    waiting["on_sale"] = json!(false);
    plane.post("/v1/plans", "waiting", &waiting).await.expect(200);
}

#[tokio::test]
async fn a_node_that_reports_less_than_is_reserved_is_cordoned_with_the_reason() {
    let plane = Plane::start().await;
    let (agent, _) = filled(&plane).await;
    let mut beat = Agent::heartbeat();
    let less = NodeInventory { memory_for_instances: MiB(8_192), ..inventory() };
    beat.inventory = Some(v1::NodeInventory::from(&less));
    agent.client.clone().heartbeat(beat).await.unwrap();
    let path = format!("/v1/nodes/{}", agent.node_id);
    let node = plane.get(&path).await.expect(200);
    assert_eq!((&node["policy"], &node["memory_reserved_mib"]), (&json!("cordoned"), &json!(12_288)));
    assert!(node["policy_reason"].as_str().unwrap().contains("MiB of memory 12288 of 8192"), "{node}");
    let events = plane.get("/v1/events?limit=200").await.expect(200).to_string();
    assert!(events.contains("node.oversold") && events.contains("node.policy_changed"), "{events}");
    assert!(
        metrics(&plane).await.contains(&format!("nemordp_control_plane_node_oversold{{node=\"{}\"}} 1", agent.node_id))
    );
    plane.post("/v1/orders", "d", &plane.order_body()).await.refused(409, "capacity_exhausted", None);
    assert_eq!(plane.get("/v1/capacity?region=fsn1").await.expect(200)["items"][0]["more"], 0);
    plane.post(&format!("{path}/uncordon"), "u", &json!({})).await.expect(200);
    let node = plane.get(&path).await.expect(200);
    assert_eq!((&node["policy"], &node["policy_reason"]), (&json!("active"), &Value::Null));
}
