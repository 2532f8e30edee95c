//! What Prometheus reads, and who may.

use std::collections::BTreeSet;

use nemordp_control_plane::pki::to_pem;
use reqwest::Method;

use crate::harness::Plane;

#[tokio::test]
async fn every_metric_has_help_and_the_states_are_there() {
    let plane = Plane::start().await;
    plane.stocked().await;
    plane.post("/v1/orders", "a", &plane.order_body()).await.expect(202);
    plane.send(plane.bare(Method::GET, "/v1/plans")).await.refused(401, "unauthenticated", None);
    let url = format!("http://{}/metrics", plane.running.metrics_addr);
    let text = reqwest::get(url).await.unwrap().text().await.unwrap();
    let names = |kind: &str| -> BTreeSet<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(kind));
        lines.map(|rest| rest.split_whitespace().next().unwrap().to_owned()).collect()
    };
    let (help, types) = (names("# HELP "), names("# TYPE "));
    let bare: Vec<_> = types.difference(&help).filter(|name| name.starts_with("nemordp_control_plane")).collect();
    assert!(bare.is_empty(), "without help: {bare:?}");
    for line in [
        "nemordp_control_plane_orders{state=\"accepted\"} 1",
        "nemordp_control_plane_instances{lifecycle=\"provisioning\"} 1",
        "nemordp_control_plane_nodes{availability=\"available\"} 1",
        "nemordp_control_plane_nodes{availability=\"lost\"} 0",
        "nemordp_control_plane_http_authentication_failures_total 1",
        "nemordp_control_plane_http_requests_total{method=\"POST\",route=\"/v1/orders\",status=\"202\"} 1",
        "nemordp_control_plane_grpc_requests_total{call=\"heartbeat\",code=\"Ok\"} 1",
    ] {
        assert!(text.contains(line), "{line} in\n{text}");
    }
    assert!(text.contains("nemordp_control_plane_node_memory_reserved_bytes{node=\"") && text.contains(" 4294967296"));
    assert!(!text.contains("default"), "no tenant's name");
}

#[tokio::test]
async fn with_certificates_demanded_only_monitoring_reads_metrics() {
    let plane = Plane::start_with("", "require_certificate = true").await;
    let app = &plane.running.app;
    let (issued, key) = app.pki.issue_monitoring().unwrap();
    let identity = reqwest::Identity::from_pem(format!("{key}{}", to_pem(&issued.der)).as_bytes()).unwrap();
    let ca = reqwest::Certificate::from_pem(to_pem(app.pki.authority().certificate()).as_bytes()).unwrap();
    let name = app.pki.identity().dns_name();
    let served = plane.running.metrics_addr;
    let client = |identity: Option<reqwest::Identity>| {
        let mut builder = reqwest::Client::builder().tls_certs_only([ca.clone()]).resolve(&name, served);
        if let Some(identity) = identity {
            builder = builder.identity(identity);
        }
        builder.build().unwrap()
    };
    let url = format!("https://{name}:{}/metrics", served.port());
    let answer = client(Some(identity)).get(&url).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 200);
    assert!(client(None).get(&url).send().await.is_err(), "no certificate, no connection");
    let agent = plane.node("node-1").await;
    let pem = format!("{}{}", agent.key_pem, to_pem(&agent.certificate.clone().into()));
    let node = client(Some(reqwest::Identity::from_pem(pem.as_bytes()).unwrap())).get(&url).send().await.unwrap();
    assert_eq!(node.status().as_u16(), 403, "a node's certificate reads no metrics");
}
