//! Labels, owners and groups: which nodes an order may go to, and who is told why not.

use serde_json::{Value, json};

use crate::harness::{Agent, Plane};

/// Two nodes with room, the plan `basic` and a template.
async fn two_nodes() -> (Plane, Agent, Agent) {
    let plane = Plane::start().await;
    let first = plane.stocked().await;
    let second = plane.node("node-2").await;
    second.beat(&plane).await;
    (plane, first, second)
}

fn path(agent: &Agent, action: &str) -> String {
    format!("/v1/nodes/{}/{action}", agent.node_id)
}

/// Where an order went.
async fn went(plane: &Plane, order: &Value) -> String {
    let instance = plane.get(&format!("/v1/instances/{}", order["instance_id"].as_str().unwrap())).await.expect(200);
    instance["node_id"].as_str().unwrap().to_owned()
}

fn plan(name: &str, labels: &Value) -> Value {
    json!({
        "name": name, "vcpu": 1, "memory_mib": 1_024, "disk_gib": 20, "storage_class": "nvme", "labels": labels,
    })
}

fn order(plan: &str) -> Value {
    json!({ "plan": plan, "template": "debian", "region": "fsn1" })
}

#[tokio::test]
async fn a_plan_that_asks_for_a_label_goes_where_it_is() {
    let (plane, first, second) = two_nodes().await;
    // Like any plan that no node could hold.
    let fast = plan("fast", &json!(["ssd"]));
    let refused = plane.post("/v1/plans", "p0", &fast).await.refused(400, "invalid_argument", Some("labels"));
    assert!(refused["detail"].as_str().unwrap().contains("no node has the label `ssd`"), "{refused}");
    let node = plane.post(&path(&second, "labels"), "l1", &json!({ "add": ["ssd", "old"] })).await.expect(200);
    assert_eq!(node["labels"], json!(["old", "ssd"]));
    let node = plane.post(&path(&second, "labels"), "l2", &json!({ "remove": ["old"] })).await.expect(200);
    assert_eq!(node["labels"], json!(["ssd"]));
    let list = plane.get("/v1/nodes").await.expect(200);
    let shown = list["items"].as_array().unwrap().iter().find(|node| node["id"] == json!(second.node_id)).unwrap();
    assert_eq!(shown["labels"], json!(["ssd"]));
    assert_eq!(plane.post("/v1/plans", "p1", &fast).await.expect(200)["labels"], json!(["ssd"]));
    assert_eq!(plane.get("/v1/plans/fast").await.expect(200)["labels"], json!(["ssd"]));

    let placed = plane.post("/v1/orders", "o1", &order("fast")).await.expect(202);
    assert_eq!(went(&plane, &placed).await, second.node_id);
    let decided = plane.get(&format!("/v1/orders/{}/placement", placed["id"].as_str().unwrap())).await.expect(200);
    assert_eq!(decided["decided"]["refusals"], json!({ "label": 1 }));
    assert_eq!(decided["now"]["refusals"], json!({ "label": 1 }), "the instance keeps what was asked for");
    plane.post(&path(&second, "labels"), "l3", &json!({ "remove": ["ssd"] })).await.expect(200);
    let full = plane.post("/v1/orders", "o2", &order("fast")).await.refused(409, "capacity_exhausted", None);
    assert!(full["detail"].as_str().unwrap().contains("label 2"), "{full}");
    for list in ["/v1/capacity?plan=fast&region=fsn1", "/v1/availability?plan=fast&region=fsn1"] {
        assert_eq!(plane.get(list).await.expect(200)["items"][0]["more"], 0, "{list}");
    }
    assert_ne!(plane.get("/v1/capacity?plan=basic&region=fsn1").await.expect(200)["items"][0]["more"], 0);
    drop(first);
}

#[tokio::test]
async fn labels_that_cannot_be_used_name_their_field() {
    let (plane, first, _) = two_nodes().await;
    let many: Vec<String> = (0..33).map(|number| format!("l{number}")).collect();
    let labels = path(&first, "labels");
    for (number, (body, field)) in [
        (json!({ "add": [" a"] }), "add"),
        (json!({ "remove": [""] }), "remove"),
        (json!({ "add": many }), "add"),
        (json!({}), "add"),
        (json!({ "add": ["a"], "remove": ["a"] }), "remove"),
        (json!({ "colour": [] }), "colour"),
    ]
    .into_iter()
    .enumerate()
    {
        plane.post(&labels, &format!("bad-{number}"), &body).await.refused(400, "invalid_argument", Some(field));
    }
    let nowhere = "/v1/nodes/01890000-0000-7000-8000-000000000001/labels";
    plane.post(nowhere, "n", &json!({ "add": ["a"] })).await.refused(404, "not_found", None);
    for (number, bad) in [json!(["a\nb"]), json!(many)].iter().enumerate() {
        let answer = plane.post("/v1/plans", &format!("plan-{number}"), &plan("bad", bad)).await;
        answer.refused(400, "invalid_argument", Some("labels"));
    }
    for (number, (extra, field)) in [
        (json!({ "placement_group": "" }), "placement_group"),
        (json!({ "affinity": "apart" }), "placement_group"),
        (json!({ "placement_group": "web", "affinity": "far" }), "affinity"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body = plane.order_body();
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        plane.post("/v1/orders", &format!("order-{number}"), &body).await.refused(400, "invalid_argument", Some(field));
    }
}

#[tokio::test]
async fn a_resellers_node_takes_its_orders_only_and_a_pinned_tenant_goes_nowhere_else() {
    let (plane, first, second) = two_nodes().await;
    let reseller = plane.key_for("reseller", &["orders", "read"]).await;
    let unknown = plane.post(&path(&second, "pin"), "p0", &json!({ "tenant": "nobody" })).await;
    unknown.refused(404, "not_found", Some("tenant"));
    let node = plane.post(&path(&second, "pin"), "p1", &json!({ "tenant": "reseller" })).await.expect(200);
    assert_eq!(node["pinned_to"]["tenant"], "reseller");

    let list = plane.get("/v1/tenants").await.expect(200);
    let tenant = list["items"].as_array().unwrap().iter().find(|tenant| tenant["name"] == "reseller").unwrap().clone();
    assert_eq!((&tenant["pinned"], &tenant["id"]), (&json!(false), &node["pinned_to"]["tenant_id"]));
    let tenant = format!("/v1/tenants/{}", tenant["id"].as_str().unwrap());
    assert_eq!(plane.post(&format!("{tenant}/pin"), "t1", &json!({})).await.expect(200)["pinned"], true);

    let theirs = async |intention: &str| plane.post_as(&reseller, "/v1/orders", intention, &plane.order_body()).await;
    let more = async |key: &str| {
        let list = plane.get_as(key, "/v1/availability?plan=basic&region=fsn1").await.expect(200);
        list["items"][0]["more"].as_u64().unwrap()
    };
    assert_eq!((more(&reseller).await, more(&plane.key).await), (3, 3), "each sees its own three places");
    for intention in ["r1", "r2", "r3"] {
        assert_eq!(went(&plane, &theirs(intention).await.expect(202)).await, second.node_id);
    }
    let full = theirs("r4").await.refused(409, "capacity_exhausted", None);
    assert!(full["detail"].as_str().unwrap().contains("pinned 1, memory 1"), "{full}");
    let ours = plane.post("/v1/orders", "o1", &plane.order_body()).await.expect(202);
    assert_eq!(went(&plane, &ours).await, first.node_id);

    plane.post(&format!("{tenant}/unpin"), "t2", &json!({})).await.expect(200);
    assert_eq!(went(&plane, &theirs("r5").await.expect(202)).await, first.node_id);
    assert!(plane.post(&path(&second, "unpin"), "p2", &json!({})).await.expect(200)["pinned_to"].is_null());
}

#[tokio::test]
async fn a_group_that_stands_apart_gets_a_node_each_and_is_refused_then() {
    let (plane, first, second) = two_nodes().await;
    let body = |affinity: &str| {
        let mut body = plane.order_body();
        body["placement_group"] = json!("web");
        body["affinity"] = json!(affinity);
        body
    };
    // At once, so that they share a snapshot.
    let apart = body("apart");
    let (a, b, c) = tokio::join!(
        plane.post("/v1/orders", "a", &apart),
        plane.post("/v1/orders", "b", &apart),
        plane.post("/v1/orders", "c", &apart)
    );
    let (accepted, refused): (Vec<_>, Vec<_>) = [a, b, c].into_iter().partition(|answer| answer.status == 202);
    assert_eq!((accepted.len(), refused.len()), (2, 1));
    let mut nodes = Vec::new();
    for answer in accepted {
        let order = answer.expect(202);
        nodes.push(went(&plane, &order).await);
        let instance =
            plane.get(&format!("/v1/instances/{}", order["instance_id"].as_str().unwrap())).await.expect(200);
        assert_eq!((&instance["placement_group"], &instance["affinity"]), (&json!("web"), &json!("apart")));
    }
    nodes.sort();
    let mut both = [first.node_id.clone(), second.node_id.clone()];
    both.sort();
    assert_eq!(nodes, both);
    for answer in refused {
        let problem = answer.refused(409, "capacity_exhausted", None);
        assert!(problem["detail"].as_str().unwrap().contains("affinity 2"), "{problem}");
    }
    plane.post("/v1/orders", "d", &body("any")).await.refused(409, "capacity_exhausted", None);
    // The same name of another tenant is another group, and an order without one goes anywhere.
    let reseller = plane.key_for("reseller", &["orders", "read"]).await;
    plane.post_as(&reseller, "/v1/orders", "e", &body("apart")).await.expect(202);
    let lone = plane.post("/v1/orders", "f", &plane.order_body()).await.expect(202);
    let instance = plane.get(&format!("/v1/instances/{}", lone["instance_id"].as_str().unwrap())).await.expect(200);
    assert!(instance["placement_group"].is_null() && instance["affinity"].is_null(), "{instance}");
}
