//! What lies beneath the agent: every side effect on a hypervisor, its disks, its network and its guests.
//!
//! [`Host`] makes no decision. Each call does one thing, is safe to repeat, and says in its error whether trying again
//! helps. What an instance is stands in the hypervisor itself (the mark in the domain's metadata), so that a restarted
//! agent reads back what is there.

pub mod disk;
#[cfg(test)]
mod golden;
pub mod gpu;
pub mod guest;
#[cfg(feature = "libvirt")]
pub mod libvirt;
pub mod network;
pub mod process;
pub mod seed;
#[cfg(feature = "sim")]
pub mod sim;
pub mod traced;
pub mod xml;

use std::future::Future;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_types::guest::{Account, GuestSession};
use nemordp_types::instance::{Edition, GuestSpec, InstanceSpec, Mark, NetworkSpec, ObservedPower};
use nemordp_types::node::{NodeInventory, NodeLoad};
use nemordp_types::{Bytes, Failure, InstanceId, LoginName, MiB, StorageClass, Template, TemplateDigest, Vcpu};
use secrecy::SecretString;

/// An instance as the hypervisor has it: only domains that carry this installation's mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostInstance {
    /// The mark in its metadata.
    pub mark: Mark,
    /// What it was made from; kept in the metadata beside the mark.
    pub spec: InstanceSpec,
    /// Power as the hypervisor reports it.
    pub power: ObservedPower,
    /// When it last started, if it runs and the hypervisor knows.
    pub started_at: Option<Timestamp>,
    /// Processors as defined.
    pub vcpu: Vcpu,
    /// Memory as defined.
    pub memory: MiB,
    /// Size of its own disk as a guest sees it; zero when there is no disk.
    pub disk: Bytes,
    /// Devices of the machine that its domain was given, as defined.
    pub gpus: u32,
}

/// Running totals of one instance, since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InstanceCounters {
    /// Processor time, nanoseconds.
    pub cpu_ns: u64,
    /// Memory that the guest's process occupies, bytes.
    pub memory_bytes: u64,
    /// Read from the disk, bytes.
    pub disk_read_bytes: u64,
    /// Written to the disk, bytes.
    pub disk_written_bytes: u64,
    /// Occupied in the pool, bytes.
    pub disk_allocated_bytes: u64,
    /// Received by the guest, bytes.
    pub network_received_bytes: u64,
    /// Sent by the guest, bytes.
    pub network_sent_bytes: u64,
}

/// One instance's share of the node's network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Binding {
    /// Whose.
    pub instance_id: InstanceId,
    /// Card, address, endpoint.
    pub network: NetworkSpec,
}

/// What was waited for in a guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestAddress {
    /// The address that the guest's card really has.
    pub ipv4: Ipv4Addr,
}

/// Every side effect of the agent. All calls are safe to repeat.
pub trait Host: Send + Sync + 'static {
    /// What the node is and offers; `reserved` of each pool is added up from the instances that carry our mark.
    fn inventory(&self) -> impl Future<Output = Result<NodeInventory, Failure>> + Send;
    /// How loaded the node is now; `clones` is filled in by the caller.
    fn load(&self) -> impl Future<Output = Result<NodeLoad, Failure>> + Send;

    /// Where a template's file lies, or will lie (the caller writes `<path>.part`, verifies, renames).
    fn template_path(&self, digest: TemplateDigest) -> PathBuf;
    /// Makes a verified file usable for the hypervisor (owner, mode) and checks that it is what its manifest says.
    fn template_adopt(&self, template: &Template) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Templates whose file is complete and adopted.
    fn template_list(&self) -> impl Future<Output = Result<Vec<TemplateDigest>, Failure>> + Send;

    /// Every instance with this installation's mark. Foreign domains are neither listed nor touched.
    fn instance_list(&self) -> impl Future<Output = Result<Vec<HostInstance>, Failure>> + Send;
    /// One instance; none when no domain carries its mark.
    fn instance_find(&self, instance: InstanceId)
    -> impl Future<Output = Result<Option<HostInstance>, Failure>> + Send;

    /// Clones the template (linked), in the plan's size, for each disk of the specification that is not there: its own,
    /// and a rescue system's. Clones wait for their turn on each storage class.
    fn disk_clone(&self, instance: InstanceId, spec: &InstanceSpec)
    -> impl Future<Output = Result<(), Failure>> + Send;
    /// Which disks of an instance are there, whoever needs them.
    fn disk_list(
        &self,
        instance: InstanceId,
        storage_class: &StorageClass,
    ) -> impl Future<Output = Result<Vec<Edition>, Failure>> + Send;
    /// Grows its own disk to the plan's size, while the domain is off; nothing when it is as large. Never shrinks.
    fn disk_grow(&self, instance: InstanceId, spec: &InstanceSpec) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Removes the disks that the specification does not need.
    fn disk_tidy(&self, instance: InstanceId, spec: &InstanceSpec) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Shows a rescue system that has booted the instance's own disk; nothing when it sees it, or when the instance boots
    /// from its own.
    fn disk_attach(&self, instance: InstanceId) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Removes all disks and the seed. Nothing when they are gone.
    fn disk_delete(
        &self,
        instance: InstanceId,
        storage_class: &StorageClass,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Writes the seed where the template is personalised by cloud-init, and defines the domain with mark and
    /// specification in its metadata. A domain of the same name without our mark: `not_ours`. GPUs are chosen here: those that
    /// the domain has already stay its own, others are those that no domain of the machine has; too few: `capacity_exhausted`.
    fn domain_define(&self, mark: &Mark, spec: &InstanceSpec) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Removes the domain, which must be off; nothing when it is gone; `not_ours` without our mark.
    fn domain_undefine(&self, instance: InstanceId) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Boots it; nothing when it runs.
    fn domain_start(&self, instance: InstanceId) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Asks the guest to shut down (agent, then ACPI); returns at once.
    fn domain_shutdown(&self, instance: InstanceId) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Cuts the power; nothing when it is off; `not_ours` without our mark.
    fn domain_destroy(&self, instance: InstanceId) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Rebuilds the node's network from nothing: bridge, DHCP, isolation, forwarding for exactly these instances.
    fn network_rebuild(&self, bindings: &[Binding]) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Adds (or replaces) one instance's forwarding and isolation.
    fn network_add(&self, binding: &Binding) -> impl Future<Output = Result<(), Failure>> + Send;
    /// Removes one instance's forwarding and isolation; nothing when there is none.
    fn network_remove(&self, instance: InstanceId) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Whether the guest agent answers, within the deadline (which really holds).
    fn guest_ping(&self, instance: InstanceId, deadline: Duration) -> impl Future<Output = Result<(), Failure>> + Send;
    /// The address that the guest agent reads from the card with this instance's MAC; none while it has none.
    fn guest_address(&self, instance: InstanceId)
    -> impl Future<Output = Result<Option<GuestAddress>, Failure>> + Send;
    /// Sets host name, time zone, keyboard, and makes sure that the account exists.
    fn guest_personalise(
        &self,
        instance: InstanceId,
        guest: &GuestSpec,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
    /// SHA-256 of the certificate (DER) that the guest's RDP server shows; none while there is none.
    fn guest_rdp_certificate(
        &self,
        instance: InstanceId,
    ) -> impl Future<Output = Result<Option<[u8; 32]>, Failure>> + Send;
    /// Whether something answers an RDP connection request at the guest's own address, within the deadline.
    fn guest_rdp_answers(
        &self,
        instance: InstanceId,
        deadline: Duration,
    ) -> impl Future<Output = Result<bool, Failure>> + Send;
    /// Sets a password and returns when the guest has confirmed it.
    fn guest_set_password(
        &self,
        instance: InstanceId,
        login: &LoginName,
        password: &SecretString,
    ) -> impl Future<Output = Result<(), Failure>> + Send;
    /// The account's state, and what the guest's log says of the last refused login since the given time.
    fn guest_account(
        &self,
        instance: InstanceId,
        login: &LoginName,
        since: Timestamp,
    ) -> impl Future<Output = Result<Account, Failure>> + Send;
    /// Shows a text on every desktop that the account has open, and waits for no answer; says whether there was any.
    fn guest_announce(
        &self,
        instance: InstanceId,
        login: &LoginName,
        text: &str,
    ) -> impl Future<Output = Result<bool, Failure>> + Send;
    /// Open desktop sessions.
    fn guest_sessions(&self, instance: InstanceId) -> impl Future<Output = Result<Vec<GuestSession>, Failure>> + Send;
    /// Ends the session that a login proof opened (`proof_only`), or all of the account's, and returns when they are gone.
    fn guest_end_sessions(
        &self,
        instance: InstanceId,
        login: &LoginName,
        proof_only: bool,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Ports of the node's range that something else on the machine listens on or forwards, ascending.
    fn ports_taken(&self) -> impl Future<Output = Result<Vec<u16>, Failure>> + Send;

    /// Calls to the hypervisor that never ended and that nobody waits for any more; each holds a thread. None where that
    /// cannot happen.
    fn abandoned_calls(&self) -> usize {
        0
    }

    /// Running totals of every running instance of ours.
    fn counters(&self) -> impl Future<Output = Result<Vec<(InstanceId, InstanceCounters)>, Failure>> + Send;
}
