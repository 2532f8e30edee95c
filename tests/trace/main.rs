//! Traces of the real programs: one order is one trace, whatever crashes, and no collector is needed for it to be fulfilled.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod collector;
mod export;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use collector::{Collector, Seen};
use nemordp_tests::cluster::{Cluster, Shape, StoreKind, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::TcpListener;

/// The storefront's trace, and its span.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const STOREFRONT: &str = "00f067aa0ba902b7";
const LIMIT: Duration = Duration::from_secs(60);

async fn start(collector: Option<SocketAddr>) -> Cluster {
    let shape = Shape { collector, ..Shape::quick(StoreKind::Sqlite, 1, 1) };
    Cluster::start(shape).await.unwrap()
}

fn traceparent() -> String {
    format!("00-{TRACE}-{STOREFRONT}-01")
}

async fn assert_active(cluster: &Cluster, order: &str) {
    cluster.settle(LIMIT).await.unwrap();
    let order = cluster.api.get(&format!("/v1/orders/{order}")).await.unwrap();
    assert_eq!(order["state"], "active", "{order}");
}

/// Name and kind of a span and of all above it, up to what its sender named.
fn ancestry<'a>(spans: &'a [Seen], mut span: &'a Seen) -> Vec<String> {
    let by_id: BTreeMap<&str, &Seen> = spans.iter().map(|span| (span.id.as_str(), span)).collect();
    let mut names = Vec::new();
    loop {
        let program = span.service.trim_start_matches("nemordp-");
        names.push(format!("{program} {} {}", span.name, span.kind).trim().to_owned());
        match by_id.get(span.parent.as_str()) {
            Some(parent) => span = parent,
            None => {
                names.push(span.parent.clone());
                return names;
            }
        }
    }
}

fn named<'a>(spans: &'a [Seen], name: &str) -> &'a Seen {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name} in {spans:#?}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_one_trace_from_the_request_to_the_hypervisor_and_the_proof() {
    let collector = Collector::start().await;
    let cluster = start(Some(collector.address)).await;
    let answer = cluster.api.order_traced("traced", &traceparent()).await.unwrap();
    let (order, instance) = (answer.text("id").unwrap(), answer.text("instance_id").unwrap());
    assert_active(&cluster, &order).await;
    let wanted = ["POST /v1/orders", "operation ensure_instance", "operation set_password", "login proof", "activate"];
    let spans = collector.trace(TRACE, &wanted).await;

    assert_eq!(
        ancestry(&spans, named(&spans, "domain_start")),
        [
            "agent domain_start client",
            "agent Start",
            "agent operation ensure_instance",
            "agent ensure_instance server",
            "control-plane ensure_instance client",
            "control-plane ensure_instance",
            "control-plane POST /v1/orders server",
            STOREFRONT,
        ]
    );
    assert_eq!(
        ancestry(&spans, named(&spans, "login proof")),
        ["control-plane login proof", "control-plane prove_login", "control-plane POST /v1/orders server", STOREFRONT]
    );
    for span in &spans {
        assert_eq!(ancestry(&spans, span).last().map(String::as_str), Some(STOREFRONT), "{span:#?}");
        assert!(!span.failed || span.name.starts_with("guest_"), "{span:#?}");
    }
    let elsewhere = collector.spans().into_iter().filter(|span| span.trace != TRACE && span.says("order_id") == order);
    assert_eq!(elsewhere.count(), 0, "a span of the order is in another trace");

    let step = spans.iter().find(|span| span.name == "set_password" && !span.says("attempt").is_empty()).unwrap();
    let said = ["saga", "attempt", "order_id", "instance_id", "outcome"].map(|name| step.says(name));
    assert_eq!(said, ["provision", "1", &order, &instance, "done"]);
    assert_eq!(named(&spans, "login proof").says("verdict"), "accepted");
    assert_eq!(named(&spans, "POST /v1/orders").says("http.response.status_code"), "202");
    let node = cluster.api.list("/v1/nodes").await.unwrap()[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(named(&spans, "domain_start").process, node);
    assert!(!step.process.is_empty());
    assert_no_secret(&collector, &cluster, &instance);
    let log = std::fs::read_to_string(cluster.dir().join("replica-0.log")).unwrap();
    assert!(log.contains(TRACE), "the log does not say to which trace the request belongs");
    assert!(!log.contains("saga step"), "the export's spans are in the log");
}

fn assert_no_secret(collector: &Collector, cluster: &Cluster, instance: &str) {
    let dump = collector.dump();
    assert!(dump.contains(instance), "what is there is not found");
    let ticket = std::fs::read_to_string(cluster.dir().join("node-0/ticket")).unwrap();
    let domains = cluster.nodes[0].domains().unwrap();
    let password = domains.values().next().unwrap().password().unwrap().to_owned();
    for secret in [password.as_str(), cluster.api.key(), ticket.trim()] {
        assert!(secret.len() >= 8, "no secret to look for: {secret}");
        assert!(!dump.contains(secret), "a secret was exported");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_carries_on_after_a_crash_carries_the_trace_on() {
    let collector = Collector::start().await;
    let mut cluster = start(Some(collector.address)).await;
    cluster.nodes[0].faults("[[faults]]\ncall = \"domain_start\"\neffect = \"hang\"\n").unwrap();
    let answer = cluster.api.order_traced("crashed", &traceparent()).await.unwrap();
    // The node has got that far, and the request's span has left the process that is about to die.
    let before = collector.trace(TRACE, &["POST /v1/orders", "domain_define"]).await;
    let request = named(&before, "POST /v1/orders").clone();
    cluster.kill_replica(0);
    cluster.nodes[0].faults("").unwrap();
    cluster.start_replicas().await.unwrap();
    assert_active(&cluster, &answer.text("id").unwrap()).await;
    let spans = collector.trace(TRACE, &["ensure_instance", "login proof", "activate"]).await;
    let activate = named(&spans, "activate");
    assert_eq!(activate.parent, request.id);
    assert_ne!(activate.process, request.process, "the same process did both");
    let steps = spans.iter().filter(|span| span.service == "nemordp-control-plane" && !span.says("attempt").is_empty());
    let tries: Vec<(&str, &str)> = steps.map(|step| (step.name.as_str(), step.says("attempt"))).collect();
    assert!(tries.contains(&("ensure_instance", "2")), "{tries:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_silent_and_then_dead_disturbs_nothing() {
    // Connections wait in its queue, nobody ever takes them.
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut cluster = start(Some(silent.local_addr().unwrap())).await;
    let answer = cluster.api.order_traced("silent", &traceparent()).await.unwrap();
    assert_active(&cluster, &answer.text("id").unwrap()).await;
    drop(silent);
    let answer = cluster.api.order_traced("dead", &traceparent()).await.unwrap();
    assert_active(&cluster, &answer.text("id").unwrap()).await;
    let log = cluster.dir().join("replica-0.log");
    let warnings = || std::fs::read_to_string(&log).unwrap().matches("takes no traces").count();
    until("a warning", LIMIT, || async { Ok((warnings() > 0).then_some(())) }).await.unwrap();
    let replica = &mut cluster.replicas[0];
    kill(Pid::from_raw(i32::try_from(replica.id().unwrap()).unwrap()), Signal::SIGTERM).unwrap();
    until("the control plane to end", LIMIT, || {
        let running = replica.is_running();
        async move { Ok((!running).then_some(())) }
    })
    .await
    .unwrap();
    assert_eq!(warnings(), 1, "a collector that is away is told of once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_collector_nothing_of_a_trace_is_kept() {
    let cluster = start(None).await;
    let answer = cluster.api.order_traced("untraced", &traceparent()).await.unwrap();
    assert_active(&cluster, &answer.text("id").unwrap()).await;
    let rows = cluster.database().await.unwrap().rows("SELECT state FROM saga").await.unwrap();
    assert!(rows.len() == 1 && rows[0].text("state").contains("password_made"));
    assert!(!rows[0].text("state").contains("trace"), "{}", rows[0].text("state"));
    let log = std::fs::read_to_string(cluster.dir().join("replica-0.log")).unwrap();
    assert!(!log.contains(TRACE));
}
