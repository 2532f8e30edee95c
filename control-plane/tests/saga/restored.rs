//! Yesterday's store over today's nodes: whatever happened in between, nothing on a node is deleted or overwritten.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nemordp_control_plane::saga::{Engine, Settings};
use nemordp_model::audit::FindingKind;
use nemordp_model::{Adoption, Freeze, Instance, OrderState, SagaKind};
use nemordp_providers::{Place, Provider as _};
use nemordp_store::{HeartbeatOutcome, NodeHeartbeat, Signs, Store, StoreError, TenantScope, Wish, restore};
use nemordp_types::node::NodeLoad;
use nemordp_types::{InstanceId, NodeId};
use tokio_util::sync::CancellationToken;

use crate::kit::{Backend, Bought, World, inventory};

/// What a customer would notice.
type Guests = BTreeMap<(NodeId, InstanceId), (bool, Option<String>)>;

impl World {
    fn guests_now(&self) -> Guests {
        let guests = self.nodes.guests().into_iter();
        guests.map(|(node, id, guest)| ((node, id), (guest.running, guest.password().map(str::to_owned)))).collect()
    }

    async fn frozen(&self, bought: Bought) -> Option<Freeze> {
        self.tools.store.instance_fetch(TenantScope::All, bought.instance).await.unwrap().frozen
    }

    async fn adopt(&self, bought: Bought, how: Adoption) -> Instance {
        self.tools.store.instance_adopt(bought.instance, how, None).await.unwrap().done().unwrap()
    }

    /// A replica works for a while, and time passes for it.
    async fn work_for_a_while(&self) {
        let stop = CancellationToken::new();
        let settings = Settings { look_every: Duration::from_millis(5), ..Settings::named("restored".to_owned()) };
        let replica = tokio::spawn(Engine::new().run(self.tools.clone(), settings, stop.clone()));
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(20)).await;
            self.clock.advance(Duration::from_secs(31));
        }
        stop.cancel();
        replica.await.unwrap();
    }

    async fn nodes_report(&self) -> Vec<HeartbeatOutcome> {
        let mut outcomes = Vec::new();
        for (index, id) in (1u8..).zip(&self.node_ids) {
            let agent_address = self.tools.store.node_fetch(*id).await.unwrap().agent_address;
            let place = Place { node: *id, address: agent_address };
            let instances = self.nodes.instances(&place).await.unwrap();
            let (inventory, load, signs) = (inventory(index), NodeLoad::default(), Signs::default());
            let beat = NodeHeartbeat { agent_address, inventory, load, instances, signs };
            outcomes.push(self.tools.store.node_heartbeat(*id, &beat).await.unwrap());
        }
        outcomes
    }

    /// Replaces the store by a backup, as an operator does with the service stopped.
    async fn put_back(&mut self, file: &std::path::Path) {
        let url = self.url.clone();
        let elsewhere = self.dir.path().join("elsewhere.db").display().to_string();
        let open = async |url: &str| Store::open(url, self.clock.clone(), Arc::clone(&self.entropy)).await.unwrap();
        let aside = open(&elsewhere).await;
        std::mem::replace(&mut self.tools.store, aside).close().await;
        restore(&url, file, true, self.clock.clone(), Arc::clone(&self.entropy)).await.unwrap();
        self.tools.store = open(&url).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn yesterdays_store_harms_nothing_of_today() {
    let mut world = World::with_nodes(2, Backend::Sqlite).await;
    let installation = nemordp_types::InstallationId::new(world.clock.as_ref(), world.entropy.as_ref());
    world.tools.store.installation_ensure(installation).await.unwrap();
    let (deleted, restarted, kept) = (world.delivered().await, world.delivered().await, world.delivered().await);
    let under_way = world.order().await;
    let file = world.dir.path().join("yesterday");
    world.tools.store.backup(&file).await.unwrap();

    world.settle(under_way.saga).await;
    world.settle(world.change(deleted.instance, SagaKind::Delete, Wish::Delete).await).await;
    for _ in 0..3 {
        world.settle(world.change(restarted.instance, SagaKind::PasswordReset, Wish::Keep).await).await;
    }
    let new = world.delivered().await;
    world.clock.advance(Duration::from_secs(86_400));
    let today = world.guests_now();
    assert_eq!(today.len(), 4);

    world.put_back(&file).await;
    world.work_for_a_while().await;
    assert_eq!(world.guests_now(), today, "no node was asked for anything");
    let outcomes = world.nodes_report().await;
    assert_eq!(outcomes[0].unknown, [new.instance]);
    assert_eq!(world.frozen(deleted).await, Some(Freeze::Missing));
    assert_eq!(world.frozen(restarted).await, Some(Freeze::StoreBehind));
    assert_eq!(world.frozen(kept).await, None, "nothing happened to it");
    let waits = world.frozen(under_way).await;
    assert!(matches!(waits, Some(Freeze::StoreBehind | Freeze::Undecided)), "{waits:?}");
    let saga = nemordp_control_plane::saga::plan::begin(SagaKind::Delete, world.clock.as_ref(), world.entropy.as_ref());
    let saga = saga.unwrap();
    let wish = world.tools.store.instance_change(TenantScope::All, restarted.instance, &Wish::Delete, &saga, None);
    assert!(matches!(wish.await, Err(StoreError::Refused(_))), "not even a deletion, before it is settled");
    world.work_for_a_while().await;
    assert_eq!(world.guests_now(), today, "nothing is deleted or overwritten");

    world.nodes_report().await;
    let found = world.auditor().audit().await.unwrap().findings;
    let frozen = found.iter().filter(|finding| finding.kind == FindingKind::InstanceFrozen).count();
    let unknown = found.iter().filter(|finding| finding.kind == FindingKind::DomainUnknown);
    assert_eq!((frozen, unknown.map(|finding| finding.instance_id).collect::<Vec<_>>()), (3, vec![Some(new.instance)]));
    assert_eq!(found.len(), 4, "nothing else is wrong: {found:?}");
    world.adopt(deleted, Adoption::Gone).await;
    world.adopt(restarted, Adoption::Keep).await;
    world.adopt(under_way, Adoption::Delivered).await;
    assert_eq!(world.order_now(under_way).await.state, OrderState::Active);
    world.work_for_a_while().await;
    assert_eq!(world.guests_now(), today, "what is settled is as its node has it");
    assert!(world.tools.store.instance_frozen_count().await.unwrap().is_empty());
    let reset = world.settle(world.change(restarted.instance, SagaKind::PasswordReset, Wish::Keep).await).await;
    assert_eq!(reset.failure, None, "work on it goes on, with numbers above all that its node has seen");
    assert_ne!(world.guests_now(), today);
    assert!(world.nodes.guest(new.instance).is_some(), "the order of today is still on its node");
    let found = world.auditor().audit().await.unwrap().findings;
    assert_eq!(found.iter().map(|finding| finding.kind).collect::<Vec<_>>(), [FindingKind::DomainUnknown]);
}
