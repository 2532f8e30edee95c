//! A connection to the second host's libvirt that stays open: a new process for each call would be measured too.

use std::time::Duration;

use nemordp_agent::host::libvirt::connection::Connection;
use nemordp_types::InstanceId;
use virt::domain::Domain;

use super::guest::answer;
use crate::trial::Result;

const CALLS: usize = 2;
const AGENT_DEADLINE: Duration = Duration::from_secs(10);

/// Blocking calls of one thread.
pub(super) struct Libvirt {
    runtime: tokio::runtime::Runtime,
    connection: Connection,
}

impl Libvirt {
    pub(super) fn open(uri: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| answer("tokio", &error))?;
        let libvirt = Self { runtime, connection: Connection::new(uri, CALLS, CALLS) };
        let opened = libvirt.runtime.block_on(libvirt.connection.call(virt::connect::Connect::get_uri));
        opened.map_err(|failure| answer("libvirt", &failure))?;
        Ok(libvirt)
    }

    /// Starts a domain that is not kept.
    pub(super) fn create(&self, xml: &str) -> Result<()> {
        let xml = xml.to_owned();
        let created = self.connection.call(move |connect| Domain::create_xml(connect, &xml, 0).map(drop));
        self.runtime.block_on(created).map_err(|failure| answer("the start of a domain", &failure))
    }

    /// The answer of a guest's agent; none while it does not answer.
    pub(super) fn agent(&self, domain: InstanceId, request: &str) -> Option<String> {
        let request = request.to_owned();
        let asked = self
            .connection
            .agent_call(domain, AGENT_DEADLINE, move |domain, seconds| domain.qemu_agent_command(&request, seconds, 0));
        self.runtime.block_on(asked).ok()
    }
}
