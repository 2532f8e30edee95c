//! The independent check: store against nodes, after everything has settled.

use std::collections::BTreeMap;

use nemordp_model::{Instance, Lifecycle, OrderState, SagaStatus};
use nemordp_store::{InstanceFilter, Page, Reservation, SagaFilter, TenantScope};
use nemordp_types::instance::DesiredPower;
use nemordp_types::node::Reserved;
use nemordp_types::{Bytes, InstanceId, MiB, NodeId, Vcpu};
use secrecy::ExposeSecret as _;

use crate::kit::World;

impl World {
    /// Nothing is left behind, nothing is there twice.
    pub(crate) async fn audit(&self) {
        let store = &self.tools.store;
        let instances =
            store.instance_list(TenantScope::All, InstanceFilter::default(), Page::first(500)).await.unwrap();
        assert!(instances.next.is_none(), "the check sees all instances");
        let reservations = store.reservation_list(Page::first(500)).await.unwrap();
        assert!(reservations.next.is_none(), "the check sees all reservations");
        let open: Vec<_> = reservations.items.into_iter().filter(|r| r.released_at.is_none()).collect();
        for status in [SagaStatus::Running, SagaStatus::Unwinding, SagaStatus::Stuck] {
            let filter = SagaFilter { status: Some(status), ..SagaFilter::default() };
            let sagas = store.saga_list(TenantScope::All, filter, Page::first(10)).await.unwrap();
            assert!(sagas.items.is_empty(), "{:?}", sagas.items);
        }
        let mut living = 0;
        for instance in &instances.items {
            let held: Vec<_> = open.iter().filter(|r| r.instance_id == instance.id).collect();
            match instance.lifecycle {
                Lifecycle::Active => {
                    living += 1;
                    self.audit_delivered(instance, &held).await;
                }
                Lifecycle::Deleted | Lifecycle::Failed => self.audit_gone(instance.id, &held).await,
                Lifecycle::Provisioning | Lifecycle::Deleting => panic!("{instance:?} did not settle"),
            }
            assert!(self.nodes.made(instance.id) <= 1, "{} was made twice on a node", instance.id);
        }
        assert_eq!(self.nodes.guests().len(), living, "nodes run what orders own, and nothing else");
        self.audit_sums(&open).await;
    }

    async fn audit_delivered(&self, instance: &Instance, held: &[&Reservation]) {
        let order = self.tools.store.order_fetch(TenantScope::All, instance.order_id).await.unwrap();
        assert_eq!(order.state, OrderState::Active);
        let places: Vec<_> = self.nodes.guests().into_iter().filter(|(_, id, _)| *id == instance.id).collect();
        assert_eq!(places.len(), 1, "{} is at one place", instance.id);
        let (node, _, guest) = &places[0];
        assert_eq!(*node, instance.node_id);
        assert_eq!(guest.spec, instance.spec, "the node has what is wanted");
        assert_eq!(guest.running, instance.desired_power() == DesiredPower::On);
        if guest.running {
            assert_eq!(guest.disk().host_name, instance.spec.guest.host_name);
        }
        assert_eq!(instance.misaligned_at, None, "its node has what is wanted");
        assert_eq!(guest.forwarded, !instance.spec.suspended, "what is suspended cannot be reached");
        let disks = &instance.spec.disks;
        assert_eq!(guest.born[&disks.system], 1, "what is on its own disk was never lost");
        let there: Vec<_> = guest.disks.keys().copied().collect();
        if instance.delete_after.is_none() {
            // A deletion with grace may have ended a change before it was final: that is settled when it is had back.
            assert_eq!(disks.kept, None, "nothing is kept for a change that is over");
            let mut needed: Vec<_> = [Some(disks.system), disks.rescue].into_iter().flatten().collect();
            needed.sort_unstable();
            assert_eq!(there, needed, "one disk, and a rescue system's beside it");
            assert_eq!(instance.rdp_certificate_sha256, Some(guest.certificate()));
        }
        assert_eq!(instance.spec.suspended, instance.suspended_at.is_some() || instance.delete_after.is_some());
        assert!(guest.sessions.iter().all(|session| session.id != "proof"), "the proof's session is still there");
        assert_eq!(held.len(), 1);
        assert_eq!(held[0].node_id, instance.node_id);
        let size = (held[0].vcpu, held[0].memory, held[0].disk);
        assert_eq!(size, (instance.spec.vcpu, instance.spec.memory, Bytes::from(instance.spec.disk)));
        assert_eq!(held[0].gpus, instance.spec.gpus);
        assert_eq!(guest.spec.gpus, instance.spec.gpus);
        assert_eq!(guest.disks[&instance.spec.disks.system].size, instance.spec.disk);
        if let Some(sealed) = self.tools.store.secret_fetch(instance.id).await.unwrap() {
            let password = self.tools.sealer.open(instance.id, &sealed).unwrap();
            assert_eq!(guest.password(), Some(password.expose_secret()), "what is delivered opens the guest");
        }
    }

    async fn audit_gone(&self, id: InstanceId, held: &[&Reservation]) {
        assert!(self.nodes.guest(id).is_none(), "{id} is gone, but a node has it");
        assert!(held.is_empty(), "{id} is gone, but holds {held:?}");
        assert!(self.tools.store.secret_standing(id).await.unwrap().is_none(), "{id} is gone, but has a secret");
    }

    async fn audit_sums(&self, open: &[Reservation]) {
        let mut sums: BTreeMap<NodeId, Reserved> = BTreeMap::new();
        for reservation in open {
            let sum = sums.entry(reservation.node_id).or_default();
            sum.vcpu = Vcpu(sum.vcpu.0 + reservation.vcpu.0);
            sum.memory = MiB(sum.memory.0 + reservation.memory.0);
            sum.disk = Bytes(sum.disk.0 + reservation.disk.0);
        }
        for id in &self.node_ids {
            let node = self.tools.store.node_fetch(*id).await.unwrap();
            assert_eq!(node.reserved, sums.get(id).copied().unwrap_or_default(), "{id}");
            let here = open.iter().filter(|reservation| reservation.node_id == *id);
            let held: u64 = here.filter_map(|held| held.gpus.as_ref()).map(|gpus| u64::from(gpus.count)).sum();
            assert_eq!(node.gpus.iter().map(|gpus| gpus.room.used).sum::<u64>(), held, "{id}");
        }
    }
}
