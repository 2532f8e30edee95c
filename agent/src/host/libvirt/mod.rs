//! The real hypervisor: QEMU through libvirt on this node.
//!
//! Map: [`settings`] what the operator decides · [`connection`] blocking calls on bounded threads · [`error`] what libvirt's
//! errors mean · [`domain_xml`] and [`parse`] a domain as text, both ways · `domains` finding and changing our domains · `gpus` which of them has which ·
//! `guests` calls into guests · `network` the libvirt network and our rules · `facts`, `strain` and [`stats`] what the node is,
//! how strained, and what its instances use. Disks, rules and guest commands know nothing of libvirt and live beside this module.

pub mod connection;
pub mod domain_xml;
mod domains;
pub mod error;
mod facts;
mod gpus;
mod guests;
mod network;
pub mod parse;
pub mod settings;
pub mod stats;
mod strain;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_types::guest::{Account, GuestSession};
use nemordp_types::instance::{Edition, GuestSpec, InstanceSpec, Mark};
use nemordp_types::node::{NodeInventory, NodeLoad};
use nemordp_types::{Failure, InstallationId, InstanceId, LoginName, StorageClass, Template, TemplateDigest};
use secrecy::SecretString;

use crate::config::{GpuConfig, LibvirtConfig, NetworkConfig};

use super::disk::{Disks, file};
use super::network::NetworkSettings;
use super::network::table::Tables;
use super::{Binding, GuestAddress, Host, HostInstance, InstanceCounters};
use connection::Connection;
pub use settings::LibvirtSettings;

/// QEMU through libvirt.
pub struct LibvirtHost {
    installation: InstallationId,
    settings: LibvirtSettings,
    network: NetworkSettings,
    connection: Connection,
    disks: Disks,
    tables: Tables,
    gauge: strain::Gauge,
    /// Held by whoever gives GPUs away, from the look at all domains until its own is defined.
    gpus: tokio::sync::Mutex<()>,
}

impl LibvirtHost {
    /// Opens what the agent's configuration describes. Changes no domain, network or rule.
    pub async fn open(
        libvirt: &LibvirtConfig,
        network: &NetworkConfig,
        gpus: &[GpuConfig],
        installation: InstallationId,
    ) -> Result<Self, Failure> {
        let settings = settings::from_config(libvirt, gpus)?;
        Self::with_settings(settings, settings::network_from_config(network), installation).await
    }

    /// Checks the settings, makes the directories, and reaches libvirt once.
    pub async fn with_settings(
        settings: LibvirtSettings,
        network: NetworkSettings,
        installation: InstallationId,
    ) -> Result<Self, Failure> {
        let connection = Connection::new(&settings.uri, settings.calls, settings.agent_calls);
        Self::open_with(connection, settings, network, installation).await
    }

    /// The same over a connection that was made already.
    pub async fn open_with(
        connection: Connection,
        settings: LibvirtSettings,
        network: NetworkSettings,
        installation: InstallationId,
    ) -> Result<Self, Failure> {
        network.check()?;
        if let Some(directory) = &settings.serial_log_dir {
            file::ensure_directory(directory).await?;
        }
        gpus::tell_unusable(&settings);
        let disks = Disks::open(&settings.disks).await?;
        let tables = Tables::new(network.clone());
        let gauge = strain::Gauge::over(settings.disks.pools.iter().map(|pool| pool.path.as_path()));
        let gpus = tokio::sync::Mutex::default();
        let host = Self { installation, settings, network, connection, disks, tables, gauge, gpus };
        host.connection.call(|connect| connect.get_lib_version()).await?;
        Ok(host)
    }
}

impl Host for LibvirtHost {
    async fn inventory(&self) -> Result<NodeInventory, Failure> {
        self.node_inventory().await
    }

    async fn load(&self) -> Result<NodeLoad, Failure> {
        Ok(self.node_load().await)
    }

    fn template_path(&self, digest: TemplateDigest) -> PathBuf {
        self.disks.template_path(digest)
    }

    async fn template_adopt(&self, template: &Template) -> Result<(), Failure> {
        self.disks.template_adopt(template).await
    }

    async fn template_list(&self) -> Result<Vec<TemplateDigest>, Failure> {
        self.disks.template_list().await
    }

    async fn instance_list(&self) -> Result<Vec<HostInstance>, Failure> {
        self.list().await
    }

    async fn instance_find(&self, instance: InstanceId) -> Result<Option<HostInstance>, Failure> {
        self.find(instance).await
    }

    async fn disk_clone(&self, instance: InstanceId, spec: &InstanceSpec) -> Result<(), Failure> {
        let (class, template) = (&spec.storage_class, &spec.template);
        for edition in [Some(spec.disks.system), spec.disks.rescue].into_iter().flatten() {
            self.disks.clone_template(instance, class, edition, template, spec.disk.into()).await?;
        }
        Ok(())
    }

    async fn disk_list(&self, instance: InstanceId, storage_class: &StorageClass) -> Result<Vec<Edition>, Failure> {
        self.disks.editions(instance, storage_class).await
    }

    async fn disk_grow(&self, instance: InstanceId, spec: &InstanceSpec) -> Result<(), Failure> {
        let _lock = self.connection.lock_domain(instance).await;
        self.require_disk_unused(instance).await?;
        self.disks.grow(instance, &spec.storage_class, spec.disks.system, spec.disk.into()).await
    }

    async fn disk_tidy(&self, instance: InstanceId, spec: &InstanceSpec) -> Result<(), Failure> {
        let _lock = self.connection.lock_domain(instance).await;
        self.require_defined_on(instance, &spec.disks).await?;
        self.disks.tidy(instance, &spec.storage_class, &spec.disks).await
    }

    async fn disk_attach(&self, instance: InstanceId) -> Result<(), Failure> {
        self.attach_own_disk(instance).await
    }

    async fn disk_delete(&self, instance: InstanceId, storage_class: &StorageClass) -> Result<(), Failure> {
        let _lock = self.connection.lock_domain(instance).await;
        self.require_disk_unused(instance).await?;
        self.disks.delete(instance, storage_class).await?;
        match self.serial_log(instance) {
            Some(log) => file::remove(&log).await,
            None => Ok(()),
        }
    }

    async fn domain_define(&self, mark: &Mark, spec: &InstanceSpec) -> Result<(), Failure> {
        self.define(mark, spec).await
    }

    async fn domain_undefine(&self, instance: InstanceId) -> Result<(), Failure> {
        self.undefine(instance).await
    }

    async fn domain_start(&self, instance: InstanceId) -> Result<(), Failure> {
        self.start(instance).await
    }

    async fn domain_shutdown(&self, instance: InstanceId) -> Result<(), Failure> {
        self.shutdown(instance).await
    }

    async fn domain_destroy(&self, instance: InstanceId) -> Result<(), Failure> {
        self.destroy(instance).await
    }

    async fn network_rebuild(&self, bindings: &[Binding]) -> Result<(), Failure> {
        self.rebuild_network(bindings).await
    }

    async fn network_add(&self, binding: &Binding) -> Result<(), Failure> {
        self.know_bindings().await?;
        self.tables.add(binding).await
    }

    async fn network_remove(&self, instance: InstanceId) -> Result<(), Failure> {
        self.know_bindings().await?;
        self.tables.remove(instance).await
    }

    async fn ports_taken(&self) -> Result<Vec<u16>, Failure> {
        crate::host::network::taken::look(&self.network.endpoints, &self.network.nft).await
    }

    async fn guest_ping(&self, instance: InstanceId, deadline: Duration) -> Result<(), Failure> {
        self.ping(instance, deadline).await
    }

    async fn guest_address(&self, instance: InstanceId) -> Result<Option<GuestAddress>, Failure> {
        self.address(instance).await
    }

    async fn guest_personalise(&self, instance: InstanceId, guest: &GuestSpec) -> Result<(), Failure> {
        self.personalise(instance, guest).await
    }

    async fn guest_rdp_certificate(&self, instance: InstanceId) -> Result<Option<[u8; 32]>, Failure> {
        self.certificate(instance).await
    }

    async fn guest_rdp_answers(&self, instance: InstanceId, deadline: Duration) -> Result<bool, Failure> {
        self.rdp_answers(instance, deadline).await
    }

    async fn guest_set_password(
        &self,
        instance: InstanceId,
        login: &LoginName,
        password: &SecretString,
    ) -> Result<(), Failure> {
        self.set_password(instance, login, password).await
    }

    async fn guest_account(
        &self,
        instance: InstanceId,
        login: &LoginName,
        since: Timestamp,
    ) -> Result<Account, Failure> {
        self.account(instance, login, since).await
    }

    async fn guest_announce(&self, instance: InstanceId, login: &LoginName, text: &str) -> Result<bool, Failure> {
        self.announce(instance, login, text).await
    }

    async fn guest_sessions(&self, instance: InstanceId) -> Result<Vec<GuestSession>, Failure> {
        self.sessions(instance).await
    }

    async fn guest_end_sessions(
        &self,
        instance: InstanceId,
        login: &LoginName,
        proof_only: bool,
    ) -> Result<(), Failure> {
        self.end_sessions(instance, login, proof_only).await
    }

    fn abandoned_calls(&self) -> usize {
        self.connection.abandoned()
    }

    async fn counters(&self) -> Result<Vec<(InstanceId, InstanceCounters)>, Failure> {
        self.all_counters().await
    }
}
