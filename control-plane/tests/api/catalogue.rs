//! Plans, templates, availability.

use reqwest::Method;
use serde_json::json;

use crate::harness::{Plane, digest, manifest};

#[tokio::test]
async fn a_plan_is_made_changed_listed_and_shown() {
    let plane = Plane::start().await;
    plane.plan("basic", 50).await;
    plane.plan("basic", 60).await;
    plane.plan("performance", 100).await;
    assert_eq!(plane.get("/v1/plans/basic").await.expect(200)["disk_gib"], 60);
    let first = plane.get("/v1/plans?limit=1").await.expect(200);
    assert_eq!(first["items"][0]["name"], "basic");
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = plane.get(&format!("/v1/plans?limit=1&cursor={cursor}")).await.expect(200);
    assert_eq!(second["items"][0]["name"], "performance");
    assert!(second["next_cursor"].is_null());
    plane.get("/v1/plans/none").await.refused(404, "not_found", None);
}

#[tokio::test]
async fn unusable_plans_name_their_field() {
    let plane = Plane::start().await;
    let plan = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut plan = json!({ "name": "p", "vcpu": 2, "memory_mib": 4096, "disk_gib": 50, "storage_class": "nvme" });
        change(&mut plan);
        plan
    };
    for (number, (field, value)) in
        [("vcpu", json!(0)), ("memory_mib", json!(1)), ("disk_gib", json!(0)), ("name", json!("A b"))]
            .iter()
            .enumerate()
    {
        let body = plan(&|plan| plan[*field] = value.clone());
        plane.post("/v1/plans", &format!("k{number}"), &body).await.refused(400, "invalid_argument", Some(field));
    }
    let unknown = plan(&|plan| plan["colour"] = json!("red"));
    plane.post("/v1/plans", "k9", &unknown).await.refused(400, "invalid_argument", Some("colour"));
    let missing = plan(&|plan| drop(plan.as_object_mut().unwrap().remove("vcpu")));
    plane.post("/v1/plans", "k10", &missing).await.refused(400, "invalid_argument", Some("vcpu"));
    let text = plane.request(Method::POST, "/v1/plans").header("Idempotency-Key", "k11").body("name=p");
    plane.send(text).await.refused(400, "invalid_argument", Some("Content-Type"));
    assert_eq!(plane.get("/v1/plans").await.expect(200)["items"], json!([]), "nothing was stored");
}

#[tokio::test]
async fn lists_refuse_limits_and_cursors_that_they_did_not_give() {
    let plane = Plane::start().await;
    for (query, field) in
        [("limit=0", "limit"), ("limit=201", "limit"), ("cursor=%25", "cursor"), ("colour=1", "query")]
    {
        plane.get(&format!("/v1/orders?{query}")).await.refused(400, "invalid_argument", Some(field));
    }
}

#[tokio::test]
async fn a_template_is_uploaded_verified_registered_and_shown() {
    let plane = Plane::start().await;
    plane.template("debian", b"a golden disk", 10 << 30).await;
    let shown = plane.get("/v1/templates/debian").await.expect(200);
    assert_eq!(
        (shown["digest"].as_str().unwrap(), shown["login_name"].as_str()),
        (&*digest(b"a golden disk"), Some("user"))
    );
    assert_eq!(plane.get("/v1/templates").await.expect(200)["items"][0]["name"], "debian");
    let folder = plane.dir.path().join("data/templates");
    let names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

#[tokio::test]
async fn bytes_that_are_not_those_of_the_digest_leave_nothing_behind() {
    let plane = Plane::start().await;
    let wrong = plane.request(Method::PUT, &format!("/v1/templates/{}/file", digest(b"other"))).body("a golden disk");
    plane.send(wrong).await.refused(400, "template_digest_mismatch", Some("digest"));
    let shapeless = plane.request(Method::PUT, "/v1/templates/sha256:zz/file").body("x");
    plane.send(shapeless).await.refused(400, "invalid_argument", Some("digest"));
    let unmeasured = reqwest::Body::wrap_stream(futures::stream::iter([Ok::<_, std::io::Error>("abc")]));
    let unmeasured = plane.request(Method::PUT, &format!("/v1/templates/{}/file", digest(b"abc"))).body(unmeasured);
    plane.send(unmeasured).await.refused(400, "invalid_argument", Some("Content-Length"));
    let missing = plane.post("/v1/templates", "a", &manifest("debian", b"never sent", 1 << 30)).await;
    missing.refused(404, "template_missing", Some("digest"));
    assert_eq!(std::fs::read_dir(plane.dir.path().join("data/templates")).unwrap().count(), 0);
}

#[tokio::test]
async fn a_connection_that_breaks_during_an_upload_leaves_nothing_behind() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let plane = Plane::start().await;
    let mut stream = tokio::net::TcpStream::connect(plane.running.http_addr).await.unwrap();
    let head = format!(
        "PUT /v1/templates/{}/file HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: 100\r\n\r\nonly this",
        digest(b"x"),
        plane.key
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    // Whether an answer still reaches a client that hung up is the transport's affair; the folder is ours.
    assert!(answer.is_empty() || answer.contains("template_truncated"), "{answer}");
    let folder = plane.dir.path().join("data/templates");
    for _ in 0..200 {
        if std::fs::read_dir(&folder).unwrap().count() == 0 {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the partial file stays");
}

#[tokio::test]
async fn a_file_on_the_control_planes_disk_is_copied_and_verified() {
    let plane = Plane::start().await;
    let file = plane.dir.path().join("disk.qcow2");
    std::fs::write(&file, b"a golden disk").unwrap();
    let import = |bytes: &[u8], path: &str| {
        let mut manifest = manifest("debian", bytes, 10 << 30);
        manifest["file"] = json!(path);
        manifest
    };
    let path = file.display().to_string();
    let truncated = plane.post("/v1/templates", "a", &import(b"a golden disk and more", &path)).await;
    truncated.refused(400, "template_truncated", Some("file"));
    let wrong = plane.post("/v1/templates", "b", &import(b"a golden d1sk", &path)).await;
    wrong.refused(400, "template_digest_mismatch", Some("digest"));
    let absent = plane.post("/v1/templates", "c", &import(b"a golden disk", "/nonexistent")).await;
    absent.refused(400, "invalid_argument", Some("file"));
    let relative = plane.post("/v1/templates", "d", &import(b"a golden disk", "disk.qcow2")).await;
    relative.refused(400, "invalid_argument", Some("file"));
    assert_eq!(std::fs::read_dir(plane.dir.path().join("data/templates")).unwrap().count(), 0);
    plane.post("/v1/templates", "e", &import(b"a golden disk", &path)).await.expect(201);
}

#[tokio::test]
async fn a_manifest_that_lies_about_the_disk_is_refused() {
    let plane = Plane::start().await;
    let mut disk = vec![0u8; 64];
    disk[..4].copy_from_slice(b"QFI\xfb");
    disk[24..32].copy_from_slice(&(5u64 << 30).to_be_bytes());
    let upload = plane.request(Method::PUT, &format!("/v1/templates/{}/file", digest(&disk))).body(disk.clone());
    plane.send(upload).await.expect(200);
    let lie = plane.post("/v1/templates", "a", &manifest("debian", &disk, 4 << 30)).await;
    lie.refused(400, "invalid_argument", Some("virtual_size_bytes"));
    let mut short = manifest("debian", &disk, 5 << 30);
    short["file_size_bytes"] = json!(63);
    plane.post("/v1/templates", "b", &short).await.refused(400, "invalid_argument", Some("file_size_bytes"));
    plane.post("/v1/templates", "c", &manifest("debian", &disk, 5 << 30)).await.expect(201);
}

#[tokio::test]
async fn availability_counts_down_with_each_order() {
    let plane = Plane::start().await;
    plane.stocked().await;
    let more = async |region: &str| {
        let list = plane.get(&format!("/v1/availability?region={region}&plan=basic")).await.expect(200);
        (list["items"][0]["available"].as_bool().unwrap(), list["items"][0]["more"].as_u64().unwrap())
    };
    // 12 GiB for instances, 4 GiB each.
    assert_eq!(more("fsn1").await, (true, 3));
    assert_eq!(more("hel1").await, (false, 0));
    for order in ["a", "b", "c"] {
        plane.post("/v1/orders", order, &plane.order_body()).await.expect(202);
    }
    assert_eq!(more("fsn1").await, (false, 0));
    plane.get("/v1/availability?region=mars").await.refused(400, "unknown_region", Some("region"));
    plane.get("/v1/availability?plan=none").await.refused(400, "unknown_plan", Some("plan"));
}
