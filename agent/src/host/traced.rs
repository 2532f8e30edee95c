//! Each call of the host as a span of the trace that it serves, whatever the host is.

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_trace::{child, record};
use nemordp_types::guest::{Account, GuestSession};
use nemordp_types::instance::{Edition, GuestSpec, InstanceSpec, Mark};
use nemordp_types::node::{NodeInventory, NodeLoad};
use nemordp_types::{Failure, InstanceId, LoginName, StorageClass, Template, TemplateDigest};
use secrecy::SecretString;
use tracing::Span;

use super::{Binding, GuestAddress, Host, HostInstance, InstanceCounters};

/// A host whose calls are seen. Of their arguments only the instance is.
#[derive(Debug)]
pub struct Traced<H>(pub H);

/// A call that concerns the node.
fn node(call: &'static str) -> Span {
    child!("host", otel.name = call, otel.kind = "client")
}

/// A call that concerns one instance.
fn one(call: &'static str, instance: InstanceId) -> Span {
    child!("host", otel.name = call, otel.kind = "client", instance_id = %instance)
}

impl<H: Host> Host for Traced<H> {
    async fn inventory(&self) -> Result<NodeInventory, Failure> {
        record(node("inventory"), self.0.inventory()).await
    }

    async fn load(&self) -> Result<NodeLoad, Failure> {
        record(node("load"), self.0.load()).await
    }

    fn template_path(&self, digest: TemplateDigest) -> PathBuf {
        self.0.template_path(digest)
    }

    async fn template_adopt(&self, template: &Template) -> Result<(), Failure> {
        record(node("template_adopt"), self.0.template_adopt(template)).await
    }

    async fn template_list(&self) -> Result<Vec<TemplateDigest>, Failure> {
        record(node("template_list"), self.0.template_list()).await
    }

    async fn instance_list(&self) -> Result<Vec<HostInstance>, Failure> {
        record(node("instance_list"), self.0.instance_list()).await
    }

    async fn instance_find(&self, instance: InstanceId) -> Result<Option<HostInstance>, Failure> {
        record(one("instance_find", instance), self.0.instance_find(instance)).await
    }

    async fn disk_clone(&self, instance: InstanceId, spec: &InstanceSpec) -> Result<(), Failure> {
        record(one("disk_clone", instance), self.0.disk_clone(instance, spec)).await
    }

    async fn disk_list(&self, instance: InstanceId, storage_class: &StorageClass) -> Result<Vec<Edition>, Failure> {
        record(one("disk_list", instance), self.0.disk_list(instance, storage_class)).await
    }

    async fn disk_grow(&self, instance: InstanceId, spec: &InstanceSpec) -> Result<(), Failure> {
        record(one("disk_grow", instance), self.0.disk_grow(instance, spec)).await
    }

    async fn disk_tidy(&self, instance: InstanceId, spec: &InstanceSpec) -> Result<(), Failure> {
        record(one("disk_tidy", instance), self.0.disk_tidy(instance, spec)).await
    }

    async fn disk_attach(&self, instance: InstanceId) -> Result<(), Failure> {
        record(one("disk_attach", instance), self.0.disk_attach(instance)).await
    }

    async fn disk_delete(&self, instance: InstanceId, storage_class: &StorageClass) -> Result<(), Failure> {
        record(one("disk_delete", instance), self.0.disk_delete(instance, storage_class)).await
    }

    async fn domain_define(&self, mark: &Mark, spec: &InstanceSpec) -> Result<(), Failure> {
        record(one("domain_define", mark.instance_id), self.0.domain_define(mark, spec)).await
    }

    async fn domain_undefine(&self, instance: InstanceId) -> Result<(), Failure> {
        record(one("domain_undefine", instance), self.0.domain_undefine(instance)).await
    }

    async fn domain_start(&self, instance: InstanceId) -> Result<(), Failure> {
        record(one("domain_start", instance), self.0.domain_start(instance)).await
    }

    async fn domain_shutdown(&self, instance: InstanceId) -> Result<(), Failure> {
        record(one("domain_shutdown", instance), self.0.domain_shutdown(instance)).await
    }

    async fn domain_destroy(&self, instance: InstanceId) -> Result<(), Failure> {
        record(one("domain_destroy", instance), self.0.domain_destroy(instance)).await
    }

    async fn network_rebuild(&self, bindings: &[Binding]) -> Result<(), Failure> {
        record(node("network_rebuild"), self.0.network_rebuild(bindings)).await
    }

    async fn network_add(&self, binding: &Binding) -> Result<(), Failure> {
        record(one("network_add", binding.instance_id), self.0.network_add(binding)).await
    }

    async fn network_remove(&self, instance: InstanceId) -> Result<(), Failure> {
        record(one("network_remove", instance), self.0.network_remove(instance)).await
    }

    async fn guest_ping(&self, instance: InstanceId, deadline: Duration) -> Result<(), Failure> {
        record(one("guest_ping", instance), self.0.guest_ping(instance, deadline)).await
    }

    async fn guest_address(&self, instance: InstanceId) -> Result<Option<GuestAddress>, Failure> {
        record(one("guest_address", instance), self.0.guest_address(instance)).await
    }

    async fn guest_personalise(&self, instance: InstanceId, guest: &GuestSpec) -> Result<(), Failure> {
        record(one("guest_personalise", instance), self.0.guest_personalise(instance, guest)).await
    }

    async fn guest_rdp_certificate(&self, instance: InstanceId) -> Result<Option<[u8; 32]>, Failure> {
        record(one("guest_rdp_certificate", instance), self.0.guest_rdp_certificate(instance)).await
    }

    async fn guest_rdp_answers(&self, instance: InstanceId, deadline: Duration) -> Result<bool, Failure> {
        record(one("guest_rdp_answers", instance), self.0.guest_rdp_answers(instance, deadline)).await
    }

    async fn guest_set_password(
        &self,
        instance: InstanceId,
        login: &LoginName,
        password: &SecretString,
    ) -> Result<(), Failure> {
        record(one("guest_set_password", instance), self.0.guest_set_password(instance, login, password)).await
    }

    async fn guest_account(
        &self,
        instance: InstanceId,
        login: &LoginName,
        since: Timestamp,
    ) -> Result<Account, Failure> {
        record(one("guest_account", instance), self.0.guest_account(instance, login, since)).await
    }

    async fn guest_sessions(&self, instance: InstanceId) -> Result<Vec<GuestSession>, Failure> {
        record(one("guest_sessions", instance), self.0.guest_sessions(instance)).await
    }

    async fn guest_end_sessions(
        &self,
        instance: InstanceId,
        login: &LoginName,
        proof_only: bool,
    ) -> Result<(), Failure> {
        record(one("guest_end_sessions", instance), self.0.guest_end_sessions(instance, login, proof_only)).await
    }

    async fn guest_announce(&self, instance: InstanceId, login: &LoginName, text: &str) -> Result<bool, Failure> {
        record(one("guest_announce", instance), self.0.guest_announce(instance, login, text)).await
    }

    async fn ports_taken(&self) -> Result<Vec<u16>, Failure> {
        record(node("ports_taken"), self.0.ports_taken()).await
    }

    fn abandoned_calls(&self) -> usize {
        self.0.abandoned_calls()
    }

    async fn counters(&self) -> Result<Vec<(InstanceId, InstanceCounters)>, Failure> {
        record(node("counters"), self.0.counters()).await
    }
}
