//! What nodes tell the control plane, what they hear from it, and what an operator says of them.

use nemordp_control_plane::saga::plan;
use nemordp_providers::{Place, Provider as _};
use nemordp_store::{HeartbeatOutcome, NodeHeartbeat, Signs, StoreError};
use nemordp_types::node::{NodeAvailability, NodeLoad};
use nemordp_types::suspension::SuspensionReport;

use crate::kit::{World, inventory};

impl World {
    /// A node that can be reached sends a heartbeat and heeds the answer.
    pub(crate) async fn node_speaks(&self, index: usize) -> Option<HeartbeatOutcome> {
        let node = self.node_ids[index];
        if self.nodes.is_away(node) {
            return None;
        }
        let store = &self.tools.store;
        let agent_address = store.node_fetch(node).await.unwrap().agent_address;
        let instances = self.nodes.instances(&Place { node, address: agent_address }).await.unwrap();
        let inventory = inventory(u8::try_from(index + 1).unwrap());
        let (load, signs) = (NodeLoad::default(), Signs::default());
        let beat = NodeHeartbeat { agent_address, inventory, load, instances, signs };
        let outcome = store.node_heartbeat(node, &beat).await.unwrap();
        let withdrawn: Vec<_> = outcome.withdrawn.iter().map(|w| (w.instance_id, w.generation)).collect();
        if outcome.availability != NodeAvailability::Fenced {
            self.nodes.heard(node, &withdrawn);
        }
        for report in self.nodes.suspended(node) {
            if self.suspension_happened(&report).await {
                self.nodes.suspension_received(node, &report);
            }
        }
        Some(outcome)
    }

    /// As `control-plane/src/app/suspensions.rs` does it; whether it need not be told again.
    pub(crate) async fn suspension_happened(&self, report: &SuspensionReport) -> bool {
        let (store, id) = (&self.tools.store, report.instance_id);
        let Some(known) = store.suspension_known(id).await.unwrap() else { return true };
        let (kind, wish) = known.happened(report.operation_id).work();
        let saga = plan::begin(kind, self.clock.as_ref(), self.entropy.as_ref()).unwrap();
        match store.suspension_happened(&known, report.operation_id, &wish, &saga).await {
            Ok(begun) => begun,
            Err(StoreError::Refused(_)) => {
                let instance = self.instance(id).await;
                let off = instance.suspended_at.is_some() || instance.delete_after.is_some();
                if instance.require_active().is_ok() && !off {
                    return false;
                }
                store.suspension_forget(id, known.operation_id).await.unwrap();
                true
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A machine dies, and an operator says so once it is lost.
    pub(crate) async fn fence(&self, index: usize) {
        let node = self.node_ids[index];
        self.nodes.switch_off(node, true);
        self.lose(index).await;
        self.tools.store.node_fence(node, None).await.unwrap();
    }

    /// Heartbeats stay away for long.
    pub(crate) async fn lose(&self, index: usize) {
        let (store, node) = (&self.tools.store, self.node_ids[index]);
        let before = store.node_fetch(node).await.unwrap().availability;
        store.node_set_availability(node, before, NodeAvailability::Lost).await.unwrap();
    }

    /// The machine is well again.
    pub(crate) async fn unfence(&self, index: usize) {
        let node = self.node_ids[index];
        self.tools.store.node_unfence(node, None).await.unwrap();
        self.nodes.switch_off(node, false);
    }
}
