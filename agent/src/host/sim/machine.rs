//! The simulated machine: domains, network, and the files that outlive the agent; `disk` has its templates and disks.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nemordp_types::instance::{InstanceSpec, Mark, NetworkSpec};
use nemordp_types::node::{Acceleration, NodeInventory, PoolInventory};
use nemordp_types::{Bytes, Clock, Failure, GiB, InstanceId, Reason};
use tokio::time::Instant;

use super::fault::SimFaults;
use super::guest::RdpServer;
use super::state::{Domain, Instance, Listening, Saved, World};
use super::{absent, rdp};
use crate::config::{GpuConfig, NetworkConfig, SimConfig, SimPool};
use crate::host::gpu::{self, PciAddress};
use crate::host::{Binding, HostInstance};
use crate::overwrite::{overwrite, swap};

/// A simulated machine.
pub(super) struct Machine {
    pub(super) config: SimConfig,
    pub(super) pools: Vec<SimPool>,
    pub(super) network: NetworkConfig,
    gpus: Vec<GpuConfig>,
    pub(super) folder: PathBuf,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) faults: SimFaults,
    world: Mutex<World>,
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machine").field("folder", &self.folder).finish_non_exhaustive()
    }
}

pub(super) fn broken(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Reason::HostFailure, format!("the simulated machine's file {} cannot be used", path.display()))
        .with_context(error)
}

fn not_ours() -> Failure {
    Failure::new(Reason::NotOurs, "a domain of this name does not carry this installation's mark: it is left alone")
}

impl Machine {
    pub(super) fn open(
        config: &SimConfig,
        network: &NetworkConfig,
        gpus: &[GpuConfig],
        data_dir: &Path,
        clock: Arc<dyn Clock>,
        faults: SimFaults,
    ) -> Result<Arc<Self>, Failure> {
        let folder = data_dir.join("sim");
        std::fs::create_dir_all(folder.join("templates")).map_err(|error| broken(&folder, &error))?;
        let mut world = World::default();
        for entry in std::fs::read_dir(&folder).map_err(|error| broken(&folder, &error))? {
            let path = entry.map_err(|error| broken(&folder, &error))?.path();
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            if path.extension().is_some_and(|ending| ending == "json") {
                let id: InstanceId = name.parse().map_err(|error| broken(&path, &error))?;
                let text = std::fs::read(&path).map_err(|error| broken(&path, &error))?;
                let saved: Saved = serde_json::from_slice(&text).map_err(|error| broken(&path, &error))?;
                world.instances.insert(id, Instance::restore(saved));
            } else if name == "boot" {
                let text = std::fs::read_to_string(&path).map_err(|error| broken(&path, &error))?;
                world.boot = text.trim().parse().map_err(|error: std::num::ParseIntError| broken(&path, &error))?;
            }
        }
        let templates = folder.join("templates");
        for entry in std::fs::read_dir(&templates).map_err(|error| broken(&templates, &error))? {
            let name = entry.map_err(|error| broken(&templates, &error))?.file_name();
            let digest =
                name.to_str().and_then(|n| n.strip_suffix(".qcow2")).map(|hex| format!("sha256:{hex}").parse());
            if let Some(Ok(digest)) = digest {
                world.adopted.insert(digest);
            }
        }
        let (config, network, pools, gpus) = (config.clone(), network.clone(), config.pools()?, gpus.to_vec());
        Ok(Arc::new(Self { config, pools, network, gpus, folder, clock, faults, world: Mutex::new(world) }))
    }

    pub(super) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self, id: InstanceId, instance: &Instance) -> Result<(), Failure> {
        let path = self.folder.join(format!("{id}.json"));
        if instance.is_nothing() {
            return match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(broken(&path, &error)),
                Ok(()) | Err(_) => Ok(()),
            };
        }
        let text = serde_json::to_vec(&instance.save()).map_err(|error| broken(&path, &error))?;
        // One for all: the world is locked.
        let beside = self.folder.join("beside");
        let written = overwrite(&beside, &text).and_then(|()| swap(&beside, &path));
        written.map_err(|error| broken(&path, &error))
    }

    /// Changes an instance, writes it down, and lets its RDP server follow.
    pub(super) fn change<T>(
        &self,
        id: InstanceId,
        change: impl FnOnce(&mut Instance) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        self.change_in(&mut self.world(), id, change)
    }

    fn change_in<T>(
        &self,
        world: &mut World,
        id: InstanceId,
        change: impl FnOnce(&mut Instance) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let bound = world.bindings.get(&id).copied();
        let instance = world.instances.entry(id).or_default();
        let result = change(instance);
        if result.is_ok() {
            self.save(id, instance)?;
            self.follow(instance, bound);
        }
        if instance.is_nothing() {
            world.instances.remove(&id);
        }
        result
    }

    /// The RDP server listens while the guest runs and its port is forwarded.
    fn follow(&self, instance: &mut Instance, bound: Option<NetworkSpec>) {
        let disk = instance.boots().and_then(|disk| Some((disk.rdp.clone()?, Arc::clone(&disk.account))));
        let (Some(bound), Some(boots_at), Some((rdp, account))) = (bound, instance.boots_at, disk) else {
            instance.server = None;
            return;
        };
        if instance.running().is_none() {
            instance.server = None;
            return;
        }
        if instance.server.is_some() {
            return;
        }
        let address = bound.endpoint.socket_addr();
        match rdp::Server::new(address, &rdp, account, Arc::clone(&self.clock)) {
            Ok(server) => {
                let task = tokio::spawn(async move {
                    tokio::time::sleep_until(boots_at).await;
                    Arc::new(server).serve().await;
                });
                instance.server = Some(Listening(task.abort_handle()));
            }
            Err(error) => tracing::error!(%address, %error, "simulated guest has no RDP server"),
        }
    }

    // === machine ===

    pub(super) fn inventory(&self) -> Result<NodeInventory, Failure> {
        let world = self.world();
        let pools = self.pools.iter().map(|pool| {
            let reserved: u64 = world.reserved(&pool.storage_class, None);
            let physical = Bytes::from(pool.size_gib);
            PoolInventory {
                storage_class: pool.storage_class.clone(),
                physical,
                free: physical.saturating_sub(Bytes::from(GiB(reserved))),
                reserved: Bytes::from(GiB(reserved)),
            }
        });
        Ok(NodeInventory {
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            hypervisor: "simulated".to_owned(),
            acceleration: Acceleration::Simulated,
            vcpu: self.config.vcpu,
            memory: self.config.memory_mib,
            memory_for_instances: self.config.memory_mib,
            pools: pools.collect(),
            private_subnet: self.network.private_subnet,
            endpoints: self.network.endpoints(),
            templates: world.adopted.iter().copied().collect(),
            boot_id: format!("simulated-{}", world.boot),
            gpus: gpu::inventory(&self.gpus),
        })
    }

    pub(super) fn reboot(&self) -> Result<(), Failure> {
        let mut world = self.world();
        world.boot += 1;
        world.bindings.clear();
        let path = self.folder.join("boot");
        std::fs::write(&path, world.boot.to_string()).map_err(|error| broken(&path, &error))?;
        for (id, instance) in &mut world.instances {
            instance.power_off();
            self.save(*id, instance)?;
        }
        Ok(())
    }

    pub(super) fn is_clean(&self, id: InstanceId) -> bool {
        let world = self.world();
        !world.instances.contains_key(&id) && !world.bindings.contains_key(&id)
    }

    pub(super) fn is_forwarded(&self, id: InstanceId) -> bool {
        self.world().bindings.contains_key(&id)
    }

    pub(super) fn add_foreign(&self, id: InstanceId) {
        self.world().foreign.insert(id);
    }

    pub(super) fn has_foreign(&self, id: InstanceId) -> bool {
        self.world().foreign.contains(&id)
    }

    // === domains ===

    pub(super) fn instances(&self) -> Vec<HostInstance> {
        self.world().instances.values().filter_map(Instance::show).collect()
    }

    pub(super) fn instance(&self, id: InstanceId) -> Option<HostInstance> {
        self.world().instances.get(&id).and_then(Instance::show)
    }

    fn ours(&self, id: InstanceId) -> Result<(), Failure> {
        if self.has_foreign(id) { Err(not_ours()) } else { Ok(()) }
    }

    pub(super) fn define(&self, mark: &Mark, spec: &InstanceSpec) -> Result<(), Failure> {
        let id = mark.instance_id;
        self.ours(id)?;
        let mut world = self.world();
        let gpus = match &spec.gpus {
            None => Vec::new(),
            Some(wanted) => gpu::choose(&self.gpus, wanted, &world.gpus_of(id), &world.gpus_without(id))?,
        };
        self.change_in(&mut world, id, |instance| {
            if !instance.disks.contains_key(&spec.disks.boots()) {
                return Err(Failure::new(Reason::HostFailure, "the domain has no disk"));
            }
            let started_at = instance.domain.as_ref().and_then(|domain| domain.started_at);
            instance.domain = Some(Domain { mark: *mark, spec: spec.clone(), started_at, gpus });
            Ok(())
        })
    }

    pub(super) fn gpus(&self, id: InstanceId) -> Vec<PciAddress> {
        self.world().gpus_of(id)
    }

    pub(super) fn undefine(&self, id: InstanceId) -> Result<(), Failure> {
        self.ours(id)?;
        self.change(id, |instance| {
            if instance.running().is_some() {
                return Err(Failure::new(Reason::HostFailure, "the domain runs: cut its power first"));
            }
            instance.domain = None;
            Ok(())
        })
    }

    pub(super) fn start(&self, id: InstanceId) -> Result<(), Failure> {
        self.ours(id)?;
        let delay = Duration::from_millis(self.config.boot_delay_ms);
        let boots_at = if self.faults.is_never_boots() { None } else { Some(Instant::now() + delay) };
        let (now, with_rdp) = (self.clock.now(), self.config.rdp);
        self.change(id, |instance| {
            let domain = instance.domain.as_mut().ok_or_else(|| absent(id))?;
            if domain.started_at.is_some() {
                return Ok(());
            }
            domain.started_at = Some(now);
            let name = domain.spec.guest.host_name.clone();
            instance.boots_at = boots_at;
            let disk = instance.boots_mut()?;
            if with_rdp && disk.rdp.is_none() {
                disk.rdp = Some(RdpServer::new(name.as_str())?);
            }
            Ok(())
        })
    }

    pub(super) fn stop(&self, id: InstanceId) -> Result<(), Failure> {
        self.ours(id)?;
        self.change(id, |instance| {
            instance.power_off();
            Ok(())
        })
    }

    // === network ===

    pub(super) fn network_rebuild(&self, bindings: &[Binding]) -> Result<(), Failure> {
        for binding in bindings {
            self.check(binding)?;
        }
        let mut world = self.world();
        world.bindings = bindings.iter().map(|binding| (binding.instance_id, binding.network)).collect();
        let World { instances, bindings, .. } = &mut *world;
        for (id, instance) in instances {
            self.follow(instance, bindings.get(id).copied());
        }
        Ok(())
    }

    pub(super) fn network_add(&self, binding: &Binding) -> Result<(), Failure> {
        self.check(binding)?;
        let mut world = self.world();
        let before = world.bindings.insert(binding.instance_id, binding.network);
        if let Some(instance) = world.instances.get_mut(&binding.instance_id) {
            if before.is_some_and(|before| before.endpoint != binding.network.endpoint) {
                instance.server = None;
            }
            self.follow(instance, Some(binding.network));
        }
        Ok(())
    }

    pub(super) fn network_remove(&self, id: InstanceId) {
        let mut world = self.world();
        world.bindings.remove(&id);
        if let Some(instance) = world.instances.get_mut(&id) {
            instance.server = None;
        }
    }

    fn check(&self, binding: &Binding) -> Result<(), Failure> {
        if self.config.rdp && !binding.network.endpoint.address.is_loopback() {
            return Err(Failure::new(
                Reason::NetworkFailure,
                "a simulated guest answers on loopback only: use an endpoint of the node's own pool",
            )
            .with_field("spec.endpoint"));
        }
        Ok(())
    }
}
