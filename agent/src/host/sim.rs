//! A simulated hypervisor: the same trait, no guest. What its instances are survives a restart of the agent, as it does
//! with libvirt, and each running one answers real RDP logins (NLA) at its endpoint on loopback.

mod disk;
mod fault;
mod guest;
mod inside;
mod machine;
mod rdp;
mod state;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_types::guest::{Account, GuestSession};
use nemordp_types::instance::{Edition, GuestSpec, InstanceSpec, Mark};
use nemordp_types::node::{NodeInventory, NodeLoad};
use nemordp_types::{Clock, Failure, InstanceId, LoginName, Reason, StorageClass, Template, TemplateDigest};
use secrecy::SecretString;

use super::gpu::PciAddress;
use super::{Binding, GuestAddress, Host, HostInstance, InstanceCounters};
use crate::config::{FaultCall as Call, GpuConfig, NetworkConfig, SimConfig};

pub use fault::{Fault, SimFaults};
use machine::Machine;
pub use state::Desktop;

/// A simulated machine. Clones are the same machine, so that a test keeps a hand on it.
#[derive(Debug, Clone)]
pub struct SimHost {
    machine: Arc<Machine>,
    faults: SimFaults,
}

impl SimHost {
    /// Opens the machine whose state lies in `data_dir/sim`, made when it is missing. Instances that ran go on running.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn open(
        config: &SimConfig,
        network: &NetworkConfig,
        gpus: &[GpuConfig],
        data_dir: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Failure> {
        let faults = SimFaults::new(&config.faults);
        faults.follow(&data_dir.join("sim").join("faults.toml"));
        let machine = Machine::open(config, network, gpus, data_dir, clock, faults.clone())?;
        Ok(Self { machine, faults })
    }

    /// Faults that are injected while it runs.
    #[must_use]
    pub const fn faults(&self) -> &SimFaults {
        &self.faults
    }

    /// A reboot of the machine: every instance is off, the network is gone, the boot id is another one.
    ///
    /// # Errors
    /// The state cannot be written.
    pub fn reboot(&self) -> Result<(), Failure> {
        self.machine.reboot()
    }

    /// Whether nothing of an instance is left: no domain, no disk, no forwarding.
    #[must_use]
    pub fn is_clean(&self, instance: InstanceId) -> bool {
        self.machine.is_clean(instance)
    }

    /// Whether an instance can be reached from outside.
    #[must_use]
    pub fn is_forwarded(&self, instance: InstanceId) -> bool {
        self.machine.is_forwarded(instance)
    }

    /// The disks of an instance that are there.
    #[must_use]
    pub fn disks(&self, instance: InstanceId, storage_class: &StorageClass) -> Vec<Edition> {
        self.machine.disk_list(instance, storage_class)
    }

    /// Whether a rescue system sees the instance's own disk.
    #[must_use]
    pub fn is_attached(&self, instance: InstanceId) -> bool {
        self.machine.is_attached(instance)
    }

    /// The GPUs that an instance has.
    #[must_use]
    pub fn gpus(&self, instance: InstanceId) -> Vec<PciAddress> {
        self.machine.gpus(instance)
    }

    /// The name that the guest on the disk that boots has given itself.
    #[must_use]
    pub fn host_name(&self, instance: InstanceId) -> Option<String> {
        self.machine.host_name(instance)
    }

    /// Something else on the machine takes a port.
    pub fn take_port(&self, port: u16) {
        self.machine.world().taken_ports.insert(port);
    }

    /// Somebody connects to a guest, and finds a desktop.
    ///
    /// # Errors
    /// The guest does not run.
    pub fn open_desktop(&self, instance: InstanceId) -> Result<(), Failure> {
        self.machine.open_desktop(instance)
    }

    /// What was seen on that desktop since, in order.
    #[must_use]
    pub fn desktop(&self, instance: InstanceId) -> Vec<Desktop> {
        self.machine.desktop(instance)
    }

    /// A domain of somebody else on the name of an instance of ours.
    pub fn add_foreign(&self, instance: InstanceId) {
        self.machine.add_foreign(instance);
    }

    /// Whether somebody else's domain is still there.
    #[must_use]
    pub fn has_foreign(&self, instance: InstanceId) -> bool {
        self.machine.has_foreign(instance)
    }

    /// Runs an effect with the faults that are set for its call.
    async fn call<T: Send>(
        &self,
        call: Call,
        effect: impl Future<Output = Result<T, Failure>> + Send,
    ) -> Result<T, Failure> {
        let after = self.faults.before(call).await?;
        let result = effect.await;
        match after {
            None => result,
            Some(lost) => Err(lost),
        }
    }
}

impl Host for SimHost {
    async fn inventory(&self) -> Result<NodeInventory, Failure> {
        self.call(Call::Inventory, async { self.machine.inventory() }).await
    }

    async fn load(&self) -> Result<NodeLoad, Failure> {
        self.call(Call::Load, async { Ok(NodeLoad::default()) }).await
    }

    fn template_path(&self, digest: TemplateDigest) -> PathBuf {
        self.machine.template_path(digest)
    }

    async fn template_adopt(&self, template: &Template) -> Result<(), Failure> {
        self.call(Call::TemplateAdopt, async { self.machine.template_adopt(template) }).await
    }

    async fn template_list(&self) -> Result<Vec<TemplateDigest>, Failure> {
        self.call(Call::TemplateList, async { self.machine.template_list() }).await
    }

    async fn instance_list(&self) -> Result<Vec<HostInstance>, Failure> {
        self.call(Call::InstanceList, async { Ok(self.machine.instances()) }).await
    }

    async fn instance_find(&self, instance: InstanceId) -> Result<Option<HostInstance>, Failure> {
        self.call(Call::InstanceFind, async { Ok(self.machine.instance(instance)) }).await
    }

    async fn disk_clone(&self, instance: InstanceId, spec: &InstanceSpec) -> Result<(), Failure> {
        self.call(Call::DiskClone, self.machine.disk_clone(instance, spec)).await
    }

    async fn disk_list(&self, instance: InstanceId, storage_class: &StorageClass) -> Result<Vec<Edition>, Failure> {
        self.call(Call::DiskList, async { Ok(self.machine.disk_list(instance, storage_class)) }).await
    }

    async fn disk_grow(&self, instance: InstanceId, spec: &InstanceSpec) -> Result<(), Failure> {
        self.call(Call::DiskGrow, async { self.machine.disk_grow(instance, spec) }).await
    }

    async fn disk_tidy(&self, instance: InstanceId, spec: &InstanceSpec) -> Result<(), Failure> {
        self.call(Call::DiskTidy, async { self.machine.disk_tidy(instance, spec) }).await
    }

    async fn disk_attach(&self, instance: InstanceId) -> Result<(), Failure> {
        self.call(Call::DiskAttach, async { self.machine.disk_attach(instance) }).await
    }

    async fn disk_delete(&self, instance: InstanceId, storage_class: &StorageClass) -> Result<(), Failure> {
        self.call(Call::DiskDelete, async { self.machine.disk_delete(instance, storage_class) }).await
    }

    async fn domain_define(&self, mark: &Mark, spec: &InstanceSpec) -> Result<(), Failure> {
        self.call(Call::DomainDefine, async { self.machine.define(mark, spec) }).await
    }

    async fn domain_undefine(&self, instance: InstanceId) -> Result<(), Failure> {
        self.call(Call::DomainUndefine, async { self.machine.undefine(instance) }).await
    }

    async fn domain_start(&self, instance: InstanceId) -> Result<(), Failure> {
        self.call(Call::DomainStart, async { self.machine.start(instance) }).await
    }

    async fn domain_shutdown(&self, instance: InstanceId) -> Result<(), Failure> {
        self.call(Call::DomainShutdown, async { self.machine.stop(instance) }).await
    }

    async fn domain_destroy(&self, instance: InstanceId) -> Result<(), Failure> {
        self.call(Call::DomainDestroy, async { self.machine.stop(instance) }).await
    }

    async fn network_rebuild(&self, bindings: &[Binding]) -> Result<(), Failure> {
        self.call(Call::NetworkRebuild, async { self.machine.network_rebuild(bindings) }).await
    }

    async fn network_add(&self, binding: &Binding) -> Result<(), Failure> {
        self.call(Call::NetworkAdd, async { self.machine.network_add(binding) }).await
    }

    async fn network_remove(&self, instance: InstanceId) -> Result<(), Failure> {
        self.call(Call::NetworkRemove, async {
            self.machine.network_remove(instance);
            Ok(())
        })
        .await
    }

    async fn ports_taken(&self) -> Result<Vec<u16>, Failure> {
        Ok(self.machine.world().taken_ports.iter().copied().collect())
    }

    async fn guest_ping(&self, instance: InstanceId, _deadline: Duration) -> Result<(), Failure> {
        self.call(Call::GuestPing, async { self.machine.agent(instance) }).await
    }

    async fn guest_address(&self, instance: InstanceId) -> Result<Option<GuestAddress>, Failure> {
        self.call(Call::GuestAddress, async { self.machine.address(instance) }).await
    }

    async fn guest_personalise(&self, instance: InstanceId, guest: &GuestSpec) -> Result<(), Failure> {
        self.call(Call::GuestPersonalise, async { self.machine.personalise(instance, guest) }).await
    }

    async fn guest_rdp_certificate(&self, instance: InstanceId) -> Result<Option<[u8; 32]>, Failure> {
        self.call(Call::GuestRdpCertificate, async { self.machine.rdp_certificate(instance) }).await
    }

    async fn guest_rdp_answers(&self, instance: InstanceId, _deadline: Duration) -> Result<bool, Failure> {
        self.call(Call::GuestRdpAnswers, async { Ok(self.machine.booted(instance)) }).await
    }

    async fn guest_set_password(
        &self,
        instance: InstanceId,
        login: &LoginName,
        password: &SecretString,
    ) -> Result<(), Failure> {
        self.call(Call::GuestSetPassword, async { self.machine.set_password(instance, login, password) }).await
    }

    async fn guest_account(
        &self,
        instance: InstanceId,
        login: &LoginName,
        since: Timestamp,
    ) -> Result<Account, Failure> {
        self.call(Call::GuestAccount, async { self.machine.account(instance, login, since) }).await
    }

    async fn guest_announce(&self, instance: InstanceId, _login: &LoginName, text: &str) -> Result<bool, Failure> {
        self.call(Call::GuestAnnounce, async { self.machine.announce(instance, text) }).await
    }

    async fn guest_sessions(&self, instance: InstanceId) -> Result<Vec<GuestSession>, Failure> {
        // A login ends before a session would begin (NLA): there is one only where a test opened it.
        self.call(Call::GuestSessions, async { self.machine.sessions(instance) }).await
    }

    async fn guest_end_sessions(
        &self,
        instance: InstanceId,
        _login: &LoginName,
        proof_only: bool,
    ) -> Result<(), Failure> {
        self.call(Call::GuestEndSessions, async { self.machine.end_sessions(instance, proof_only) }).await
    }

    async fn counters(&self) -> Result<Vec<(InstanceId, InstanceCounters)>, Failure> {
        self.call(Call::Counters, async { Ok(self.machine.counters()) }).await
    }
}

/// No domain of ours.
fn absent(instance: InstanceId) -> Failure {
    Failure::new(Reason::NotFound, format!("no domain of instance {instance} on this node"))
}
