//! The guests' network as libvirt has it, and our rules above it.

use nemordp_types::{Failure, Reason};
use virt::connect::Connect;
use virt::error::Error;
use virt::network::Network;
use virt::sys;

use super::LibvirtHost;
use super::error;
use crate::host::Binding;
use crate::host::network::bridge;

/// What was found under the network's name.
struct Found {
    uuid: uuid::Uuid,
    xml: String,
    active: bool,
}

fn look(connect: &Connect, name: &str) -> Result<Option<Found>, Error> {
    let network = match Network::lookup_by_name(connect, name) {
        Ok(network) => network,
        Err(error) if error::is_absent(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let xml = network.get_xml_desc(sys::VIR_NETWORK_XML_INACTIVE)?;
    Ok(Some(Found { uuid: network.get_uuid()?, xml, active: network.is_active()? }))
}

impl LibvirtHost {
    /// Rules first: no guest ever has a network without them, and they need no bridge to be there.
    pub(super) async fn rebuild_network(&self, bindings: &[Binding]) -> Result<(), Failure> {
        self.tables.rebuild(bindings).await?;
        self.ensure_bridge().await?;
        crate::host::network::sysctl::prepare(&self.network.bridge).await
    }

    /// After a restart the instances themselves say what is bound.
    pub(super) async fn know_bindings(&self) -> Result<(), Failure> {
        if self.tables.are_known().await {
            return Ok(());
        }
        let instances = self.list().await?;
        let bindings: Vec<Binding> = instances
            .iter()
            .filter(|instance| !instance.spec.suspended)
            .map(|instance| Binding { instance_id: instance.mark.instance_id, network: instance.spec.network })
            .collect();
        self.rebuild_network(&bindings).await
    }

    /// Defines and starts the network; one that differs is replaced only while no guest hangs on its bridge.
    async fn ensure_bridge(&self) -> Result<(), Failure> {
        let name = self.network.name.clone();
        let found = self.connection.call(move |connect| look(connect, &name)).await?;
        let want = bridge::network_xml(&self.network, found.as_ref().map(|found| found.uuid));
        let same = found.as_ref().is_some_and(|found| bridge::is_same(&found.xml, &want));
        let active = found.as_ref().is_some_and(|found| found.active);
        if same && active && self.bridge_is_there().await {
            return Ok(());
        }
        if !same && active && self.bridge_is_used().await {
            return Err(Failure::new(
                Reason::Conflict,
                "the guests' network has other settings and guests use it; stop them all, then start the agent again",
            )
            .with_field("network"));
        }
        let (name, replace) = (self.network.name.clone(), active);
        let network = self.connection.call(move |connect| {
            if replace {
                match Network::lookup_by_name(connect, &name)?.destroy() {
                    Err(error) if error::is_lost(&error) => return Err(error),
                    Ok(()) | Err(_) => {}
                }
            }
            let network = Network::define_xml(connect, &want)?;
            if !network.is_active()? {
                network.create()?;
            }
            network.set_autostart(true).map(drop)
        });
        network.await.map_err(|failure| Failure { reason: Reason::NetworkFailure, ..failure })
    }

    async fn bridge_is_there(&self) -> bool {
        tokio::fs::try_exists(format!("/sys/class/net/{}/bridge", self.network.bridge)).await.unwrap_or(false)
    }

    async fn bridge_is_used(&self) -> bool {
        let Ok(mut ports) = tokio::fs::read_dir(format!("/sys/class/net/{}/brif", self.network.bridge)).await else {
            return false;
        };
        matches!(ports.next_entry().await, Ok(Some(_)))
    }
}
