//! What the node is, how loaded it is, and what its instances use.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;

use nemordp_types::instance::ObservedPower;
use nemordp_types::node::{NodeInventory, NodeLoad, PoolInventory};
use nemordp_types::{Bytes, Failure, InstanceId, MiB, StorageClass, Vcpu};

use super::strain::Strain;
use super::{LibvirtHost, stats};
use crate::host::{HostInstance, InstanceCounters, gpu};

/// `9000000` as `9.0.0`.
fn version(number: u32) -> String {
    format!("{}.{}.{}", number / 1_000_000, number / 1_000 % 1_000, number % 1_000)
}

/// The share of the last ten seconds in which some task waited (PSI), percent; zero where the kernel does not say.
fn pressure(text: &str) -> f64 {
    let some = text.lines().find_map(|line| line.strip_prefix("some "));
    let average = some.and_then(|line| line.split_whitespace().find_map(|word| word.strip_prefix("avg10=")));
    average.and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

async fn pressure_of(what: &str) -> f64 {
    let text = tokio::fs::read_to_string(format!("/proc/pressure/{what}")).await;
    text.map_or(0.0, |text| pressure(&text))
}

/// What the disks of these instances may grow to, on one kind of storage.
fn reserved(instances: &[HostInstance], class: &StorageClass) -> Bytes {
    let on_it = instances.iter().filter(|instance| instance.spec.storage_class == *class);
    Bytes(on_it.map(|instance| Bytes::from(instance.spec.disk).0.max(instance.disk.0)).sum())
}

impl LibvirtHost {
    pub(super) async fn node_inventory(&self) -> Result<NodeInventory, Failure> {
        let (node, library, hypervisor, kind) = self
            .connection
            .call(|connect| {
                let (node, library) = (connect.get_node_info()?, connect.get_lib_version()?);
                Ok((node, library, connect.get_hyp_version()?, connect.get_type()?))
            })
            .await?;
        let instances = self.list().await?;
        let mut pools = Vec::new();
        for storage_class in self.disks.classes() {
            let room = self.disks.room(&storage_class).await?;
            let reserved = reserved(&instances, &storage_class);
            pools.push(PoolInventory { storage_class, physical: room.physical, free: room.free, reserved });
        }
        let boot_id = tokio::fs::read_to_string("/proc/sys/kernel/random/boot_id").await.map_err(Failure::internal)?;
        let memory = MiB(node.memory >> 10);
        Ok(NodeInventory {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            hypervisor: format!("libvirt {} / {kind} {}", version(library), version(hypervisor)),
            acceleration: self.settings.acceleration,
            vcpu: Vcpu(node.cpus),
            memory,
            memory_for_instances: memory.saturating_sub(self.settings.memory_reserve),
            pools,
            private_subnet: self.network.subnet,
            endpoints: self.network.endpoints,
            templates: self.disks.template_list().await?,
            boot_id: boot_id.trim().to_owned(),
            gpus: gpu::inventory(&self.gpus_present()),
        })
    }

    pub(super) async fn node_load(&self) -> NodeLoad {
        let Strain { steal, disk_latency_ms } = self.gauge.look().await;
        NodeLoad {
            cpu_pressure: pressure_of("cpu").await,
            memory_pressure: pressure_of("memory").await,
            io_pressure: pressure_of("io").await,
            clones: 0,
            steal,
            disk_latency_ms,
        }
    }

    pub(super) async fn all_counters(&self) -> Result<Vec<(InstanceId, InstanceCounters)>, Failure> {
        let mut ours: HashMap<InstanceId, HostInstance> = HashMap::new();
        for instance in self.list().await? {
            if matches!(instance.power, ObservedPower::Running | ObservedPower::Paused) {
                ours.insert(instance.mark.instance_id, instance);
            }
        }
        let mut found = Vec::with_capacity(ours.len());
        for (uuid, stats) in self.connection.call(stats::all_running).await? {
            let id = InstanceId::from_uuid(uuid);
            let Some(instance) = ours.get(&id) else { continue };
            let allocated = self.allocated(instance).await;
            found.push((id, counters(&stats, allocated)));
        }
        found.sort_by_key(|(id, _)| *id);
        Ok(found)
    }

    async fn allocated(&self, instance: &HostInstance) -> u64 {
        let (spec, id) = (&instance.spec, instance.mark.instance_id);
        let files = self.disks.files(id, &spec.storage_class, spec.disks.system);
        let Ok(files) = files else { return 0 };
        tokio::fs::metadata(files.disk).await.map_or(0, |found| found.blocks().saturating_mul(512))
    }
}

fn counters(stats: &stats::Stats, disk_allocated_bytes: u64) -> InstanceCounters {
    let disk = stats.disk("vda").unwrap_or_else(|| "block.0".to_owned());
    InstanceCounters {
        cpu_ns: stats.number("cpu.time"),
        memory_bytes: stats.number("balloon.rss").saturating_mul(1024),
        disk_read_bytes: stats.number(&format!("{disk}.rd.bytes")),
        disk_written_bytes: stats.number(&format!("{disk}.wr.bytes")),
        disk_allocated_bytes,
        network_received_bytes: stats.number("net.0.rx.bytes"),
        network_sent_bytes: stats.number("net.0.tx.bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_read_from_the_kernels_words() {
        let text =
            "some avg10=12.50 avg60=1.00 avg300=0.10 total=123\nfull avg10=3.00 avg60=0.00 avg300=0.00 total=1\n";
        assert!((pressure(text) - 12.5).abs() < f64::EPSILON);
        assert!(pressure("nonsense").abs() < f64::EPSILON);
        assert_eq!(version(9_000_012), "9.0.12");
    }
}
