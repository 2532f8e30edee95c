//! Many agents in one process: each with an identity, a connection and heartbeats of its own, and no host beneath.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nemordp_agent::config::Config;
use nemordp_agent::uplink::{Enrollment, IdentityStore, Uplink};
use nemordp_types::node::{Acceleration, EndpointPool, NodeInventory, NodeLoad, PoolInventory};
use nemordp_types::{Bytes, Clock as _, GiB, MiB, StorageClass, SystemClock, Vcpu};
use nemordp_wire::v1;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::table::percentile;
use super::{Plan, Table, process};
use crate::cluster::{Cluster, Program, Result, StoreKind, unusable};

/// Between two heartbeats of one agent, as an installation has it by default.
const BEAT: Duration = Duration::from_secs(10);
/// Enrollments at the same time.
const AT_ONCE: usize = 16;

pub(super) async fn measure(plan: &Plan, table: &mut Table) -> Result<()> {
    let cluster = Arc::new(Cluster::start(plan.shape(StoreKind::Sqlite, 1, 0)).await?);
    let began = Instant::now();
    let uplinks = enroll(&cluster, plan.agents).await?;
    let enrolled = began.elapsed().as_secs_f64();
    let agents = f64::from(u32::try_from(uplinks.len()).unwrap_or(u32::MAX));
    table.row(format!("{agents} agents enrolled"), format!("{:.0} a second", agents / enrolled), "");
    let time = Duration::from_secs(plan.seconds.max(20));
    let before = cluster.replicas.first().and_then(Program::id).map(process::processor_seconds).unwrap_or_default();
    let began = Instant::now();
    let mut beating = JoinSet::new();
    for (index, uplink) in uplinks.into_iter().enumerate() {
        beating.spawn(beat(uplink, index, plan.agents, began + time));
    }
    let (mut took, mut failed) = (Vec::new(), 0);
    while let Some(ended) = beating.join_next().await {
        let (answered, unanswered) = ended.unwrap_or_default();
        took.extend(answered);
        failed += unanswered;
    }
    let seconds = began.elapsed().as_secs_f64();
    let beats = f64::from(u32::try_from(took.len()).unwrap_or(u32::MAX));
    let memory = cluster.replicas.first().map(process::memory_mib).unwrap_or_default();
    let processor =
        cluster.replicas.first().and_then(Program::id).map(process::processor_seconds).unwrap_or_default() - before;
    table.row(
        format!("{agents} agents connected over mTLS: heartbeats/s"),
        format!("{:.0}", beats / seconds),
        "all answered",
    );
    table.row("… unanswered", failed, "0");
    table.row("… p99 of an answer", format!("{:.0} ms", percentile(&mut took, 99)), "");
    table.row(
        "… memory and processors of the control plane",
        format!("{memory:.0} MiB, {:.2}", processor / seconds),
        "",
    );
    Ok(())
}

async fn enroll(cluster: &Arc<Cluster>, count: usize) -> Result<Vec<Arc<Uplink>>> {
    let (mut enrolling, turns) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
    for index in 0..count {
        let (cluster, turns) = (Arc::clone(cluster), Arc::clone(&turns));
        enrolling.spawn(async move {
            let _turn = turns.acquire().await;
            one(&cluster, index).await
        });
    }
    let mut uplinks = Vec::new();
    while let Some(ended) = enrolling.join_next().await {
        uplinks.push(Arc::new(ended.map_err(|error| unusable("enrollment", error))??));
    }
    Ok(uplinks)
}

async fn one(cluster: &Cluster, index: usize) -> Result<Uplink> {
    let dir = cluster.dir().join("fleet").join(index.to_string());
    std::fs::create_dir_all(&dir).map_err(crate::cluster::io(dir.display()))?;
    let ticket = cluster.api.post("/v1/nodes/tickets", &serde_json::json!({ "region": "lab" })).await?.text("text")?;
    let file = dir.join("ticket");
    std::fs::write(&file, ticket).map_err(crate::cluster::io(file.display()))?;
    let wrong = |failure: nemordp_types::Failure| unusable(format!("agent {index}"), format!("{failure:?}"));
    let config = Config::from_toml(&configuration(&dir, cluster.grpc(), index)).map_err(wrong)?;
    let store = IdentityStore::open(&dir.join("identity")).map_err(wrong)?;
    let enrollment =
        Enrollment { config: &config, store: &store, agent_address: address(index), inventory: inventory(index)? };
    let identity = enrollment.run().await.map_err(wrong)?;
    let revocations = store.load_revocations().map_err(wrong)?;
    Uplink::new(config.control_plane.clone(), identity, revocations).map_err(wrong)
}

/// Where nobody listens: the control plane has no reason to call.
fn address(index: usize) -> SocketAddr {
    let [.., b, c] = u32::try_from(index).unwrap_or_default().to_be_bytes();
    SocketAddr::from(([127, 9, b, c], 7_444))
}

fn configuration(dir: &Path, control_plane: SocketAddr, index: usize) -> String {
    format!(
        "data_dir = \"{dir}\"\ncontrol_plane = \"{control_plane}\"\nlisten = \"{listen}\"\nnode_name = \"fleet-{index}\"\n\
         ticket_file = \"{dir}/ticket\"\nhost.kind = \"sim\"\n[network]\nprivate_subnet = \"10.64.0.0/24\"\n\
         public_address = \"127.0.0.1\"\nfirst_port = 20000\nlast_port = 20999\n",
        dir = dir.display(),
        listen = address(index),
    )
}

fn inventory(index: usize) -> Result<NodeInventory> {
    let wrong = |failure: nemordp_types::Failure| unusable("inventory", failure.message);
    let (physical, free) = (Bytes::from(GiB(1_000)), Bytes::from(GiB(900)));
    let storage_class = StorageClass::new("nvme").map_err(wrong)?;
    Ok(NodeInventory {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        hypervisor: "none".to_owned(),
        acceleration: Acceleration::Simulated,
        vcpu: Vcpu(16),
        memory: MiB(65_536),
        memory_for_instances: MiB(65_536),
        pools: vec![PoolInventory { storage_class, physical, free, reserved: Bytes::ZERO }],
        private_subnet: "10.64.0.0/24".parse().map_err(wrong)?,
        endpoints: EndpointPool { address: address(index).ip(), first_port: 20_000, last_port: 20_999 },
        templates: Vec::new(),
        boot_id: format!("boot-{index}"),
        gpus: Vec::new(),
    })
}

/// Beats until the end; the first beat is spread over the interval. Milliseconds of each answer, and how many never came.
async fn beat(uplink: Arc<Uplink>, index: usize, count: usize, end: Instant) -> (Vec<f64>, u32) {
    let (mut took, mut failed) = (Vec::new(), 0);
    let part = u32::try_from(index).unwrap_or_default();
    tokio::time::sleep(BEAT * part / u32::try_from(count).unwrap_or(1).max(1)).await;
    let Ok(inventory) = inventory(index) else { return (took, 1) };
    let mut beats = 0;
    while Instant::now() < end {
        beats += 1;
        let asked = Instant::now();
        let request = v1::HeartbeatRequest {
            inventory: Some((&inventory).into()),
            load: Some((&NodeLoad::default()).into()),
            instances: Vec::new(),
            revocation_number: uplink.revocations().number(),
            agent_address: address(index).to_string(),
            // A process of its own, as far as the control plane can tell.
            session_id: [part.to_be_bytes(); 4].concat().into(),
            beat: beats,
            sent_at_us: SystemClock.now().as_microsecond(),
            ..v1::HeartbeatRequest::default()
        };
        let answered = match uplink.control().await {
            Ok(mut control) => control.heartbeat(request).await.is_ok(),
            Err(_) => false,
        };
        if answered {
            took.push(asked.elapsed().as_secs_f64() * 1_000.0);
        } else {
            failed += 1;
        }
        tokio::time::sleep(BEAT.saturating_sub(asked.elapsed())).await;
    }
    (took, failed)
}
