//! What is seen of an instance, by the hypervisor and inside its guest, and shown to the rest of the agent.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_types::InstanceId;
use nemordp_types::instance::InstanceStatus;

use super::Shared;
use super::task::Task;
use crate::host::{Host, HostInstance};

/// What was learned from inside the guest since it started.
#[derive(Debug, Clone, Default)]
pub(super) struct Observed {
    pub(super) started_at: Option<Timestamp>,
    pub(super) agent: bool,
    pub(super) ipv4: Option<Ipv4Addr>,
    pub(super) certificate: Option<[u8; 32]>,
}

impl<H: Host> Task<H> {
    /// Takes what the hypervisor shows; what was learned inside the guest holds until it starts anew.
    pub(super) fn see(&mut self, seen: Option<Box<HostInstance>>) {
        let started_at = seen.as_ref().and_then(|instance| instance.started_at);
        if started_at != self.observed.started_at || started_at.is_none() {
            self.observed = Observed { started_at, ..Observed::default() };
        }
        self.seen = seen;
    }

    pub(super) fn seen(&mut self, seen: Option<Box<HostInstance>>) {
        if self.running.is_some() {
            return;
        }
        self.see(seen);
        self.show();
        let complete = self.observed.agent && self.observed.ipv4.is_some() && self.observed.certificate.is_some();
        if self.observed.started_at.is_some() && !complete && self.probe.is_none() {
            let (shared, id, observed) = (Arc::clone(&self.shared), self.record.instance_id, self.observed.clone());
            self.probe = Some(tokio::spawn(probe(shared, id, observed)));
        }
    }

    pub(super) fn show(&self) {
        let id = self.record.instance_id;
        let Some(seen) = &self.seen else {
            self.shared.board.status_forget(id);
            return;
        };
        self.shared.board.status_put(InstanceStatus {
            instance_id: id,
            order_id: seen.mark.order_id,
            pair: self.record.pair,
            power: seen.power,
            guest_agent: self.observed.agent,
            confirmed_ipv4: self.observed.ipv4,
            rdp_certificate_sha256: self.observed.certificate,
            started_at: seen.started_at,
            vcpu: seen.vcpu,
            memory: seen.memory,
            disk: seen.disk,
            gpus: Some(seen.gpus),
        });
    }
}

/// Reads from a running guest what is not known of it yet; nothing is changed.
async fn probe<H: Host>(shared: Arc<Shared<H>>, id: InstanceId, mut observed: Observed) -> Observed {
    let limit = Duration::from_secs(10);
    let host = &shared.host;
    observed.agent = matches!(tokio::time::timeout(limit, host.guest_ping(id, limit / 2)).await, Ok(Ok(())));
    if !observed.agent {
        return observed;
    }
    if let Ok(Ok(address)) = tokio::time::timeout(limit, host.guest_address(id)).await {
        observed.ipv4 = address.map(|found| found.ipv4);
    }
    if let Ok(Ok(certificate)) = tokio::time::timeout(limit, host.guest_rdp_certificate(id)).await {
        observed.certificate = certificate;
    }
    observed
}
