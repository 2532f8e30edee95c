//! One answer to Prometheus: what the host says now, and what was counted, in the OpenMetrics text form.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_types::instance::ObservedPower;
use nemordp_types::node::{NodeInventory, NodeLoad};
use nemordp_types::{Failure, InstanceId};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};
use tokio::sync::watch;

use crate::host::{Host, InstanceCounters};
use crate::instance::Shared;
use crate::instance::gate::Standing;
use crate::uplink::Uplink;
use crate::usage::Meters;

/// How long the host may take to answer.
const DEADLINE: Duration = Duration::from_secs(8);

/// What a scrape reads from.
#[derive(Debug)]
pub struct Scrape<H> {
    /// Instances, host, counters.
    pub shared: Arc<Shared<H>>,
    /// The certificate.
    pub uplink: Arc<Uplink>,
    /// What waits to be reported.
    pub meters: Arc<Meters<H>>,
    /// The last answered heartbeat.
    pub answered: watch::Receiver<Option<Timestamp>>,
}

type Labels = Vec<(&'static str, String)>;

/// One family with its samples.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    counter: bool,
    samples: Vec<(Labels, f64)>,
}

#[derive(Debug)]
struct Snapshot(Vec<Family>);

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for family in &self.0 {
            let kind = if family.counter { MetricType::Counter } else { MetricType::Gauge };
            let mut metric = encoder.encode_descriptor(family.name, family.help, family.unit.as_ref(), kind)?;
            for (labels, value) in &family.samples {
                let sample = metric.encode_family(labels)?;
                if family.counter {
                    ConstCounter::new(*value).encode(sample)?;
                } else {
                    ConstGauge::new(*value).encode(sample)?;
                }
            }
        }
        Ok(())
    }
}

impl<H: Host> Scrape<H> {
    /// The answer's text.
    ///
    /// # Errors
    /// The host does not answer in time.
    pub async fn text(&self) -> Result<String, Failure> {
        let host = &self.shared.host;
        let read = async { tokio::try_join!(host.inventory(), host.load(), host.counters()) };
        let late = |_| Failure::internal("the host did not answer in time for a scrape");
        let (inventory, load, counters) = tokio::time::timeout(DEADLINE, read).await.map_err(late)??;
        let mut registry = Registry::with_prefix("nemordp_agent");
        let mut families = capacity(&inventory);
        families.extend(Self::instances(&counters));
        families.extend(self.totals(&inventory));
        families.extend(self.health(&inventory, &load));
        families.extend(self.standing());
        registry.register_collector(Box::new(Snapshot(families)));
        let telemetry = &self.shared.telemetry;
        registry.register("operations", "Operations that ended, by kind and outcome", telemetry.operations.clone());
        registry.register_with_unit(
            "operation_duration",
            "Time from accepting an operation to its end",
            Unit::Seconds,
            telemetry.seconds.clone(),
        );
        let mut text = String::new();
        text::encode(&mut text, &registry).map_err(|_| Failure::internal("metrics cannot be written"))?;
        Ok(text)
    }

    /// Only instances that are there: the series of a deleted one end with it.
    fn instances(counters: &[(InstanceId, InstanceCounters)]) -> Vec<Family> {
        let each = |value: &dyn Fn(&InstanceCounters) -> f64| -> Vec<(Labels, f64)> {
            counters.iter().map(|(id, c)| (vec![("instance_id", id.to_string())], value(c))).collect()
        };
        vec![
            counter(
                "instance_cpu",
                "Processor time of an instance since its start",
                Some(Unit::Seconds),
                each(&|c| float(c.cpu_ns) / 1e9),
            ),
            gauge(
                "instance_memory",
                "Memory that an instance's process occupies",
                Some(Unit::Bytes),
                each(&|c| float(c.memory_bytes)),
            ),
            counter(
                "instance_disk_read",
                "Read from an instance's disk since its start",
                Some(Unit::Bytes),
                each(&|c| float(c.disk_read_bytes)),
            ),
            counter(
                "instance_disk_written",
                "Written to an instance's disk since its start",
                Some(Unit::Bytes),
                each(&|c| float(c.disk_written_bytes)),
            ),
            gauge(
                "instance_disk_allocated",
                "Room that an instance's disk occupies in its pool",
                Some(Unit::Bytes),
                each(&|c| float(c.disk_allocated_bytes)),
            ),
            counter(
                "instance_network_received",
                "Received by an instance since its start",
                Some(Unit::Bytes),
                each(&|c| float(c.network_received_bytes)),
            ),
            counter(
                "instance_network_sent",
                "Sent by an instance since its start",
                Some(Unit::Bytes),
                each(&|c| float(c.network_sent_bytes)),
            ),
        ]
    }

    fn totals(&self, inventory: &NodeInventory) -> Vec<Family> {
        let statuses = self.shared.board.statuses();
        let running = statuses.iter().filter(|s| s.power == ObservedPower::Running).count();
        let vcpu: u64 = statuses.iter().map(|s| u64::from(s.vcpu.0)).sum();
        let memory: u64 = statuses.iter().map(|s| s.memory.0).sum();
        vec![
            gauge(
                "instances",
                "Instances that are defined on this node",
                None,
                one(float(u64::try_from(statuses.len()).unwrap_or(0))),
            ),
            gauge(
                "instances_running",
                "Instances that run on this node",
                None,
                one(float(u64::try_from(running).unwrap_or(0))),
            ),
            gauge("vcpu_reserved", "Virtual processors of all instances", None, one(float(vcpu))),
            gauge("memory_reserved", "Memory of all instances", Some(Unit::Bytes), one(float(memory) * 1_048_576.0)),
            gauge(
                "templates",
                "Templates that lie ready on this node",
                None,
                one(float(u64::try_from(inventory.templates.len()).unwrap_or(0))),
            ),
        ]
    }

    fn health(&self, inventory: &NodeInventory, load: &NodeLoad) -> Vec<Family> {
        let ratio = |percent: f64| percent / 100.0;
        let pressure = [("cpu", load.cpu_pressure), ("memory", load.memory_pressure), ("io", load.io_pressure)];
        let pressure = pressure.map(|(what, percent)| (vec![("resource", what.to_owned())], ratio(percent)));
        let now = self.shared.clock.now();
        let seconds = |at: Timestamp| at.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64();
        let expiry = self.uplink.identity().validity().map(|(_, until)| one(seconds(until))).unwrap_or_default();
        let age = self.answered.borrow().map(|at| one(now.duration_since(at).as_secs_f64().max(0.0)));
        let build = vec![(
            vec![("version", inventory.agent_version.clone()), ("hypervisor", inventory.hypervisor.clone())],
            1.0,
        )];
        vec![
            gauge(
                "pressure",
                "Share of the last ten seconds in which a task waited for a resource (PSI some avg10)",
                Some(Unit::Ratios),
                pressure.into(),
            ),
            gauge("clones", "Clones under way", None, one(f64::from(self.shared.clones()))),
            counter(
                "template_fetched",
                "Template bytes fetched from the control plane since the agent started",
                Some(Unit::Bytes),
                one(float(self.shared.templates.fetched_total())),
            ),
            gauge(
                "certificate_expiry_timestamp",
                "When the node's certificate expires, since the Unix epoch",
                Some(Unit::Seconds),
                expiry,
            ),
            gauge(
                "heartbeat_age",
                "Time since the control plane last answered a heartbeat",
                Some(Unit::Seconds),
                age.unwrap_or_default(),
            ),
            gauge("build_info", "Version of the agent and of what lies beneath; always 1", None, build),
        ]
    }

    /// What the control plane has said of this node and has not heard from it, and what holds it up.
    fn standing(&self) -> Vec<Family> {
        let now = self.shared.clock.now();
        let (unreported, since) = self.meters.unreported();
        let waits = since.map_or(0.0, |since| now.duration_since(since).as_secs_f64().max(0.0));
        let heard = self.shared.telemetry.heard();
        vec![
            gauge(
                "usage_unreported",
                "Entries of the instances' use that the control plane has not received",
                None,
                one(float(u64::try_from(unreported).unwrap_or(u64::MAX))),
            ),
            gauge(
                "usage_unreported_age",
                "Since when the oldest of them waits; 0 when none does",
                Some(Unit::Seconds),
                one(waits),
            ),
            gauge(
                "clock_skew",
                "By how much this machine's clock is ahead of the control plane's, by the last heartbeat",
                Some(Unit::Seconds),
                heard.map(|heard| one(heard.clock_skew.as_secs_f64())).unwrap_or_default(),
            ),
            gauge(
                "doubled",
                "1 while another agent sends heartbeats with this node's certificate",
                None,
                heard.map(|heard| one(f64::from(u8::from(heard.doubled)))).unwrap_or_default(),
            ),
            counter(
                "second_boots",
                "Guests that were started once more because their first boot hung",
                None,
                one(f64::from(self.shared.second_boots.load(Ordering::Relaxed))),
            ),
            gauge(
                "abandoned",
                "Calls to the hypervisor that never ended; each holds a thread until it does",
                Some(Unit::Other("calls".to_owned())),
                one(float(u64::try_from(self.shared.host.abandoned_calls()).unwrap_or(u64::MAX))),
            ),
            gauge(
                "start_gate_closed",
                "1 while nothing may start here: rebooted and not heard, or fenced",
                None,
                one(f64::from(u8::from(self.shared.gate.standing() != Standing::Open))),
            ),
        ]
    }
}

fn capacity(inventory: &NodeInventory) -> Vec<Family> {
    let pools = |value: &dyn Fn(&nemordp_types::node::PoolInventory) -> u64| -> Vec<(Labels, f64)> {
        let label = |pool: &nemordp_types::node::PoolInventory| vec![("storage_class", pool.storage_class.to_string())];
        inventory.pools.iter().map(|pool| (label(pool), float(value(pool)))).collect()
    };
    let mib = |amount: u64| one(float(amount) * 1_048_576.0);
    vec![
        gauge("vcpu", "Processors (threads) of the machine", None, one(f64::from(inventory.vcpu.0))),
        gauge("memory", "Memory of the machine", Some(Unit::Bytes), mib(inventory.memory.0)),
        gauge(
            "memory_for_instances",
            "Memory that instances may have",
            Some(Unit::Bytes),
            mib(inventory.memory_for_instances.0),
        ),
        gauge("pool_physical", "Size of a storage pool", Some(Unit::Bytes), pools(&|p| p.physical.0)),
        gauge("pool_free", "Free room of a storage pool", Some(Unit::Bytes), pools(&|p| p.free.0)),
        gauge(
            "pool_reserved",
            "What the instances' disks in a pool may grow to",
            Some(Unit::Bytes),
            pools(&|p| p.reserved.0),
        ),
    ]
}

fn gauge(name: &'static str, help: &'static str, unit: Option<Unit>, samples: Vec<(Labels, f64)>) -> Family {
    Family { name, help, unit, counter: false, samples }
}

fn counter(name: &'static str, help: &'static str, unit: Option<Unit>, samples: Vec<(Labels, f64)>) -> Family {
    Family { name, help, unit, counter: true, samples }
}

fn one(value: f64) -> Vec<(Labels, f64)> {
    vec![(Vec::new(), value)]
}

/// Prometheus counts in doubles; above 2^53 the last digits are lost.
#[expect(clippy::cast_precision_loss, reason = "the exposition format has no other numbers")]
const fn float(value: u64) -> f64 {
    value as f64
}
