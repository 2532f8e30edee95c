//! Numbers for Prometheus and lines for the log. No tenant's name, no secret in either.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use nemordp_model::{Capacity, Lifecycle, Node, OrderState};
use nemordp_store::{InstanceFilter, OrderFilter, PAGE_MAX, Page, TenantScope};
use nemordp_trace::Export;
use nemordp_types::Failure;
use nemordp_types::node::NodeAvailability;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::app::App;

/// Seconds: from a lookup to an upload.
const BUCKETS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// Collects the numbers of one control plane; what libraries record through the global recorder comes here too when
/// this one is the first of its process.
#[derive(Clone)]
pub struct Telemetry {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    /// Regions and plans that were told of: one that is gone is zero from then on, not what it was last.
    told: Arc<Mutex<BTreeSet<(String, String)>>>,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").finish_non_exhaustive()
    }
}

impl Telemetry {
    /// A fresh collection.
    ///
    /// # Errors
    /// Only when the buckets cannot be used.
    pub fn new() -> Result<Self, Failure> {
        let recorder = PrometheusBuilder::new().set_buckets(&BUCKETS).map_err(Failure::internal)?.build_recorder();
        let (handle, recorder) = (recorder.handle(), Arc::new(recorder));
        metrics::with_local_recorder(&recorder, describe);
        if metrics::set_global_recorder(Arc::clone(&recorder)).is_err() {
            tracing::debug!("another control plane of this process collects what libraries record");
        }
        Ok(Self { recorder, handle, told: Arc::default() })
    }

    /// An answered HTTP request.
    pub fn http(&self, method: &str, route: &str, status: u16, took: Duration) {
        let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("status", status.to_string())];
        metrics::with_local_recorder(&self.recorder, || {
            counter!("nemordp_control_plane_http_requests_total", &labels).increment(1);
            histogram!("nemordp_control_plane_http_request_duration_seconds", &labels[..2]).record(took.as_secs_f64());
        });
    }

    /// An answered call of an agent.
    pub fn grpc(&self, call: &'static str, code: tonic::Code) {
        metrics::with_local_recorder(&self.recorder, || {
            counter!("nemordp_control_plane_grpc_requests_total", "call" => call, "code" => format!("{code:?}"))
                .increment(1);
        });
    }

    /// A request without a key that is known.
    pub fn authentication_failed(&self) {
        metrics::with_local_recorder(&self.recorder, || {
            counter!("nemordp_control_plane_http_authentication_failures_total").increment(1);
        });
    }

    /// Folds what was recorded since the last time. Without it the memory of a process that nobody scrapes grows with
    /// every request and step.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Everything in Prometheus' text format, states read from the store now.
    ///
    /// # Errors
    /// When the store cannot be read: better no answer than old numbers.
    pub async fn render(&self, app: &App) -> Result<String, Failure> {
        let before = std::time::Instant::now();
        app.store.ping().await?;
        let ping = before.elapsed();
        let (orders, instances) = (open_orders(app).await?, live_instances(app).await?);
        let mut nodes = Vec::new();
        let mut page = Page::first(PAGE_MAX);
        loop {
            let paged = app.store.node_list(page).await?;
            nodes.extend(paged.items);
            let Some(next) = paged.next else { break };
            page = Page::after(next, PAGE_MAX);
        }
        let now = app.clock.now();
        let capacity = app.capacity(None, None).await?;
        metrics::with_local_recorder(&self.recorder, || {
            gauge!("nemordp_control_plane_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
            gauge!("nemordp_control_plane_store_ping_seconds").set(ping.as_secs_f64());
            let effort = app.store.effort();
            counter!("nemordp_control_plane_store_commits_total").absolute(effort.commits);
            counter!("nemordp_control_plane_store_transactions_total").absolute(effort.transactions);
            gauge!("nemordp_control_plane_store_transactions_seconds").set(effort.held.as_secs_f64());
            for (state, count) in orders {
                gauge!("nemordp_control_plane_orders", "state" => state.word()).set(count);
            }
            for (lifecycle, count) in instances {
                gauge!("nemordp_control_plane_instances", "lifecycle" => lifecycle.word()).set(count);
            }
            record_nodes(&nodes, now);
            self.record_capacity(&capacity);
        });
        self.upkeep();
        Ok(self.handle.render())
    }
}

impl Telemetry {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; orders beyond 2^53 are rounded")]
    fn record_capacity(&self, capacity: &[Capacity]) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let set = |region: &str, plan: &str, more: f64| {
            let labels = [("region", region.to_owned()), ("plan", plan.to_owned())];
            gauge!("nemordp_control_plane_capacity_orders", &labels).set(more);
        };
        for (region, plan) in told.iter() {
            set(region, plan, 0.0);
        }
        for Capacity { region, plan, more } in capacity {
            set(region.as_str(), plan.as_str(), *more as f64);
            told.insert((region.to_string(), plan.to_string()));
        }
    }
}

async fn open_orders(app: &App) -> Result<Vec<(OrderState, f64)>, Failure> {
    let mut counts = Vec::new();
    for state in OrderState::ALL.iter().copied().filter(|state| !state.is_final()) {
        let filter = OrderFilter { state: Some(state), ..OrderFilter::default() };
        let (mut page, mut count) = (Page::first(PAGE_MAX), 0u32);
        loop {
            let paged = app.store.order_list(TenantScope::All, &filter, page).await?;
            count = count.saturating_add(u32::try_from(paged.items.len()).unwrap_or(u32::MAX));
            let Some(next) = paged.next else { break };
            page = Page::after(next, PAGE_MAX);
        }
        counts.push((state, f64::from(count)));
    }
    Ok(counts)
}

async fn live_instances(app: &App) -> Result<Vec<(Lifecycle, f64)>, Failure> {
    let mut counts = Vec::new();
    for lifecycle in Lifecycle::ALL.iter().copied().filter(|lifecycle| lifecycle.is_live()) {
        let filter = InstanceFilter { lifecycle: Some(lifecycle), ..InstanceFilter::default() };
        let (mut page, mut count) = (Page::first(PAGE_MAX), 0u32);
        loop {
            let paged = app.store.instance_list(TenantScope::All, filter, page).await?;
            count = count.saturating_add(u32::try_from(paged.items.len()).unwrap_or(u32::MAX));
            let Some(next) = paged.next else { break };
            page = Page::after(next, PAGE_MAX);
        }
        counts.push((lifecycle, f64::from(count)));
    }
    Ok(counts)
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; bytes beyond 2^53 are rounded")]
fn record_nodes(nodes: &[Node], now: jiff::Timestamp) {
    for availability in [
        NodeAvailability::Unknown,
        NodeAvailability::Available,
        NodeAvailability::Suspect,
        NodeAvailability::Lost,
        NodeAvailability::Fenced,
    ] {
        let count = nodes.iter().filter(|node| node.availability == availability).count();
        let word = crate::http::node_availability(availability).word();
        gauge!("nemordp_control_plane_nodes", "availability" => word).set(count as f64);
    }
    for node in nodes {
        let id = node.id.to_string();
        let set = |name: &'static str, value: f64| gauge!(name, "node" => id.clone()).set(value);
        let (inventory, reserved) = (&node.inventory, &node.reserved);
        set("nemordp_control_plane_node_vcpu_physical", f64::from(inventory.vcpu.0));
        set("nemordp_control_plane_node_vcpu_reserved", f64::from(reserved.vcpu.0));
        let bytes = |mib: nemordp_types::MiB| nemordp_types::Bytes::from(mib).0 as f64;
        set("nemordp_control_plane_node_memory_physical_bytes", bytes(inventory.memory_for_instances));
        set("nemordp_control_plane_node_memory_reserved_bytes", bytes(reserved.memory));
        let disk: u64 = inventory.pools.iter().map(|pool| pool.physical.0).sum();
        set("nemordp_control_plane_node_disk_physical_bytes", disk as f64);
        set("nemordp_control_plane_node_disk_reserved_bytes", reserved.disk.0 as f64);
        for gpus in &node.gpus {
            let labels = [("node", id.clone()), ("model", gpus.model.to_string())];
            gauge!("nemordp_control_plane_node_gpus", &labels).set(gpus.room.capacity as f64);
            gauge!("nemordp_control_plane_node_gpus_reserved", &labels).set(gpus.room.used as f64);
        }
        let cordoned = node.policy_reason.is_some();
        set("nemordp_control_plane_node_oversold", if cordoned { 1.0 } else { 0.0 });
        set("nemordp_control_plane_node_doubled", f64::from(u8::from(node.doubled_at.is_some())));
        if let Some(skew) = node.clock_skew {
            set("nemordp_control_plane_node_clock_skew_seconds", skew.as_secs_f64());
        }
        if let Some(last) = node.last_heartbeat_at {
            set("nemordp_control_plane_node_heartbeat_age_seconds", now.duration_since(last).as_secs_f64().max(0.0));
        }
    }
}

fn describe() {
    describe_counter!("nemordp_control_plane_http_requests_total", "Answered HTTP requests by route and status.");
    describe_histogram!(
        "nemordp_control_plane_http_request_duration_seconds",
        Unit::Seconds,
        "From the request's head to the answer's head."
    );
    describe_counter!("nemordp_control_plane_grpc_requests_total", "Answered calls of agents by call and code.");
    describe_counter!(
        "nemordp_control_plane_http_authentication_failures_total",
        "Requests with a missing or unknown API key."
    );
    describe_gauge!("nemordp_control_plane_build_info", "Always 1; the version is in the label.");
    describe_gauge!("nemordp_control_plane_store_ping_seconds", Unit::Seconds, "Answer time of the store, just now.");
    describe_counter!(
        "nemordp_control_plane_store_commits_total",
        Unit::Count,
        "Commits of this process: each costs a flush of the store's disk."
    );
    describe_counter!(
        "nemordp_control_plane_store_transactions_total",
        Unit::Count,
        "Transactions that this process committed; on SQLite several share a commit."
    );
    describe_gauge!(
        "nemordp_control_plane_store_transactions_seconds",
        Unit::Seconds,
        "How long what was committed was open, added up since the start; on SQLite each group of transactions once."
    );
    describe_gauge!("nemordp_control_plane_orders", "Orders that are not over, by state.");
    describe_gauge!("nemordp_control_plane_instances", "Instances that hold capacity, by lifecycle.");
    describe_gauge!("nemordp_control_plane_nodes", "Nodes by availability.");
    describe_gauge!("nemordp_control_plane_node_vcpu_physical", "Processors of a node.");
    describe_gauge!("nemordp_control_plane_node_vcpu_reserved", "Processors reserved on a node.");
    describe_gauge!("nemordp_control_plane_node_gpus", "GPUs of a node, by model.");
    describe_gauge!("nemordp_control_plane_node_gpus_reserved", "GPUs reserved on a node, by model.");
    describe_gauge!(
        "nemordp_control_plane_node_memory_physical_bytes",
        Unit::Bytes,
        "Memory of a node that instances may have."
    );
    describe_gauge!("nemordp_control_plane_node_memory_reserved_bytes", Unit::Bytes, "Memory reserved on a node.");
    describe_gauge!("nemordp_control_plane_node_disk_physical_bytes", Unit::Bytes, "Size of a node's pools.");
    describe_gauge!("nemordp_control_plane_node_disk_reserved_bytes", Unit::Bytes, "Disk reserved on a node.");
    describe_gauge!(
        "nemordp_control_plane_node_oversold",
        "1 for a node that was cordoned because it reported less than is reserved on it: an alarm."
    );
    describe_gauge!(
        "nemordp_control_plane_capacity_orders",
        Unit::Count,
        "How many more orders of a plan alone a region takes."
    );
    describe_gauge!(
        "nemordp_control_plane_node_doubled",
        "1 while two agents speak for a node: its certificate was copied."
    );
    describe_gauge!(
        "nemordp_control_plane_node_clock_skew_seconds",
        Unit::Seconds,
        "By which a node's clock is ahead; negative when it is behind."
    );
    crate::app::describe_desk();
    describe_gauge!(
        "nemordp_control_plane_node_heartbeat_age_seconds",
        Unit::Seconds,
        "Since a node's last heartbeat."
    );
}

/// Sends the log to standard error: JSON for machines, text for people; and traces to the collector, if there is one.
/// `NEMORDP_LOG` filters the log (default `info`).
pub fn log_to_stderr(json: bool, export: Option<&Export>) {
    let filter = EnvFilter::try_from_env("NEMORDP_LOG").unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match json {
        true => Box::new(lines.json().flatten_event(true).with_current_span(true)),
        false => Box::new(lines),
    };
    nemordp_trace::install(lines, filter, export);
}
