//! A store with a tenant, a key, a plan, a template and nodes, under a clock that only the test moves.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_model::{ApiScope, ApiScopes, Label, Overcommit, SagaKind, Terms};
use nemordp_store::{
    Accepted, Contender, Decision, Effect, Enrolled, Hold, NewApiKey, NewCertificate, NewOrder, NewPlace, NewPlan,
    NewSaga, NewTicket, NodeEnroll, NodeHeartbeat, Once, OrderAccept, Page, SagaWrite, Shape, Signs, Store, StoreError,
};
use nemordp_types::instance::GuestSpec;
use nemordp_types::node::{Acceleration, EndpointPool, NodeInventory, NodeLoad, PoolInventory};
use nemordp_types::{
    ApiKeyId, Bytes, Clock, Entropy, GiB, HostName, InstallationId, InstanceId, LoginName, ManualClock, MiB,
    NodeAddress, NodeId, OrderId, PlanName, RegionName, ReservationId, SagaId, SeededEntropy, StorageClass, Template,
    TemplateName, TenantId, TicketId, Vcpu,
};

use crate::postgres;

/// Runs each test on both stores.
macro_rules! on_both_stores {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                let world = crate::support::World::on_sqlite().await;
                super::$name(&world).await;
                world.store.close().await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                if let Some(world) = crate::support::World::on_postgres().await {
                    super::$name(&world).await;
                    world.store.close().await;
                }
            })*
        }
    };
}
pub(crate) use on_both_stores;

pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const DAY: Duration = Duration::from_secs(86_400);

pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) url: String,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entropy: Arc<SeededEntropy>,
    pub(crate) tenant: TenantId,
    pub(crate) key: ApiKeyId,
    _folder: tempfile::TempDir,
}

/// A store that nobody has open.
pub(crate) struct Apart {
    pub(crate) url: String,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entropy: Arc<SeededEntropy>,
    _folder: tempfile::TempDir,
}

impl Apart {
    pub(crate) async fn reopen(&self) -> Result<Store, StoreError> {
        World::open_at(&self.url, &self.clock, &self.entropy).await
    }
}

pub(crate) fn plan_name() -> PlanName {
    PlanName::new("basic").unwrap()
}

pub(crate) fn region() -> RegionName {
    RegionName::new("fsn1").unwrap()
}

pub(crate) fn storage() -> StorageClass {
    StorageClass::new("nvme").unwrap()
}

pub(crate) fn label(text: &str) -> Label {
    Label::new(text, "name").unwrap()
}

pub(crate) fn shape() -> Shape {
    Shape { vcpu: Vcpu(2), memory: MiB(4_096), disk: GiB(50), storage_class: storage(), gpus: None }
}

pub(crate) fn template() -> Template {
    serde_json::from_value(serde_json::json!({
        "name": "debian-12-xrdp", "digest": format!("sha256:{}", "ab".repeat(32)), "file_size": 1_000_000,
        "virtual_size": 2_000_000_000u64, "rdp_security": "tls", "personalisation": "guest_agent",
        "login_name": "user",
    }))
    .unwrap()
}

/// A node that holds `instances` of the plan, all of them by each single dimension.
pub(crate) fn inventory(address: u8, instances: u32, ports: u16) -> NodeInventory {
    let disk = Bytes::from(GiB(50 * u64::from(instances)));
    NodeInventory {
        agent_version: "0.1.0".to_owned(),
        hypervisor: "sim".to_owned(),
        acceleration: Acceleration::Simulated,
        vcpu: Vcpu(instances),
        memory: MiB(4_096 * u64::from(instances)),
        memory_for_instances: MiB(4_096 * u64::from(instances)),
        pools: vec![PoolInventory { storage_class: storage(), physical: disk, free: disk, reserved: Bytes::ZERO }],
        private_subnet: "10.64.0.0/24".parse().unwrap(),
        endpoints: EndpointPool {
            address: IpAddr::V4(Ipv4Addr::new(203, 0, 113, address)),
            first_port: 20_000,
            last_port: 20_000 + ports - 1,
        },
        templates: vec![template().digest],
        boot_id: "boot".to_owned(),
        gpus: Vec::new(),
    }
}

impl World {
    pub(crate) async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = folder.path().join("store.db").display().to_string();
        Self::at(url, folder).await
    }

    pub(crate) async fn on_postgres() -> Option<Self> {
        let url = postgres::fresh_database().await?;
        Some(Self::at(url, tempfile::tempdir().unwrap()).await)
    }

    /// On an empty database of the test's own.
    pub(crate) async fn on(url: String) -> Self {
        Self::at(url, tempfile::tempdir().unwrap()).await
    }

    /// As another process on the same database, whose ids begin elsewhere.
    pub(crate) async fn attach(url: &str, tenant: TenantId, key: ApiKeyId, seed: u64) -> Self {
        let clock = Arc::new(ManualClock::at_second(1_800_000_000));
        let entropy = Arc::new(SeededEntropy::new(seed));
        let store = Self::open_at(url, &clock, &entropy).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        Self { store, url: url.to_owned(), clock, entropy, tenant, key, _folder: folder }
    }

    pub(crate) async fn at(url: String, folder: tempfile::TempDir) -> Self {
        let clock = Arc::new(ManualClock::at_second(1_800_000_000));
        let entropy = Arc::new(SeededEntropy::new(42));
        let store = Self::open_at(&url, &clock, &entropy).await.unwrap();
        store.migrate().await.unwrap();
        store.migrate().await.unwrap();
        let (c, e): (&dyn Clock, &dyn Entropy) = (clock.as_ref(), entropy.as_ref());
        let installation = InstallationId::new(c, e);
        assert_eq!(store.installation_ensure(installation).await.unwrap(), installation);
        let (tenant, key) = (TenantId::new(c, e), ApiKeyId::new(c, e));
        store.tenant_create(tenant, &label("shop")).await.unwrap();
        let world = Self { store, url, clock, entropy, tenant, key, _folder: folder };
        let scopes = ApiScopes::new([ApiScope::Orders, ApiScope::Read]).unwrap();
        let new = NewApiKey { id: key, tenant_id: tenant, label: label("web"), scopes, secret_sha256: [9; 32] };
        world.store.api_key_create(&new, None).await.unwrap();
        let plan = NewPlan {
            name: plan_name(),
            vcpu: Vcpu(2),
            memory: MiB(4_096),
            disk: GiB(50),
            storage_class: storage(),
            gpus: None,
            labels: Default::default(),
            on_sale: true,
        };
        world.store.plan_put(&plan, None).await.unwrap();
        world
    }

    async fn open_at(url: &str, clock: &Arc<ManualClock>, entropy: &Arc<SeededEntropy>) -> Result<Store, StoreError> {
        Store::open(url, Arc::<ManualClock>::clone(clock), Arc::<SeededEntropy>::clone(entropy)).await
    }

    /// A second store on the same database, as another replica or after a restart.
    pub(crate) async fn reopen(&self) -> Result<Store, StoreError> {
        Self::open_at(&self.url, &self.clock, &self.entropy).await
    }

    /// The same world after the process that had the store open has ended.
    pub(crate) fn let_go(self) -> Apart {
        let Self { store, url, clock, entropy, _folder: folder, .. } = self;
        drop(store);
        Apart { url, clock, entropy, _folder: folder }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn later(&self, by: Duration) -> Timestamp {
        self.now().checked_add(by).unwrap()
    }

    pub(crate) fn ids(&self) -> (&dyn Clock, &dyn Entropy) {
        (self.clock.as_ref(), self.entropy.as_ref())
    }

    pub(crate) fn node_id(&self) -> NodeId {
        NodeId::new(self.clock.as_ref(), self.entropy.as_ref())
    }

    pub(crate) async fn ticket(&self, secret: u8, bound: Option<NodeId>) {
        let (c, e) = self.ids();
        let new = NewTicket {
            id: TicketId::new(c, e),
            secret_sha256: [secret; 32],
            region: region(),
            overcommit: Overcommit::default(),
            bound_node_id: bound,
            expires_at: self.later(DAY),
        };
        self.store.ticket_create(&new, None).await.unwrap();
    }

    pub(crate) fn enroll_request(&self, id: NodeId, name: &str, secret: u8, key: u8) -> NodeEnroll {
        let mut serial = id.as_uuid().into_bytes().to_vec();
        serial.push(key);
        NodeEnroll {
            ticket_sha256: [secret; 32],
            node_id: id,
            name: label(name),
            agent_address: NodeAddress("127.0.0.1:7443".parse().unwrap()),
            inventory: inventory(1, 4, 10),
            certificate: NewCertificate {
                serial,
                public_key_sha256: [key; 32],
                der: vec![key; 8],
                not_after: self.later(30 * DAY),
            },
        }
    }

    pub(crate) async fn beat(&self, id: NodeId, inventory: NodeInventory) -> nemordp_store::HeartbeatOutcome {
        let beat = NodeHeartbeat {
            agent_address: NodeAddress("127.0.0.1:7443".parse().unwrap()),
            inventory,
            load: NodeLoad::default(),
            instances: Vec::new(),
            signs: Signs::default(),
        };
        self.store.node_heartbeat(id, &beat).await.unwrap()
    }

    /// An enrolled node that sent a heartbeat and holds so many instances.
    pub(crate) async fn node(&self, name: &str, address: u8, instances: u32, ports: u16) -> NodeId {
        let id = self.node_id();
        self.ticket(address, None).await;
        let mut request = self.enroll_request(id, name, address, address);
        request.inventory = inventory(address, instances, ports);
        let enrolled: Enrolled = self.store.node_enroll(&request).await.unwrap();
        assert_eq!(enrolled.node_id, id);
        self.beat(id, inventory(address, instances, ports)).await;
        id
    }

    pub(crate) fn saga(&self, kind: SagaKind) -> NewSaga {
        let (c, e) = self.ids();
        let steps = vec!["first".to_owned(), "second".to_owned()];
        NewSaga { id: SagaId::new(c, e), kind, state: "{\"at\":0}".to_owned(), steps }
    }

    pub(crate) fn order(&self, node_id: NodeId) -> OrderAccept {
        let (c, e) = self.ids();
        let host_name = HostName::new("desk").unwrap();
        OrderAccept {
            order: NewOrder {
                id: OrderId::new(c, e),
                tenant_id: self.tenant,
                external_reference: Some(label("shop-1")),
                plan: plan_name(),
                template: TemplateName::new("debian-12-xrdp").unwrap(),
                region: region(),
                host_name: host_name.clone(),
                time_zone: None,
                keyboard: None,
            },
            instance_id: InstanceId::new(c, e),
            reservation_id: ReservationId::new(c, e),
            node_id,
            alternatives: Vec::new(),
            decision: None,
            template: template(),
            shape: shape(),
            siting: Default::default(),
            paid_until: None,
            guest: GuestSpec {
                host_name,
                login_name: LoginName::new("user").unwrap(),
                time_zone: None,
                keyboard: None,
            },
            saga: self.saga(SagaKind::Provision),
        }
    }

    /// Another node for an instance, as a placement on a fleet of that node alone would say.
    pub(crate) fn place(&self, instance_id: InstanceId, node_id: NodeId) -> NewPlace {
        let (c, e) = self.ids();
        let decision = Decision {
            snapshot: "0".repeat(64),
            best: vec![Contender { node_id, terms: Terms::default() }],
            refusals: Default::default(),
            reserved: None,
        };
        NewPlace { instance_id, node_id, reservation_id: ReservationId::new(c, e), decision }
    }

    pub(crate) async fn accept(&self, node_id: NodeId) -> Result<Accepted, StoreError> {
        let once: Once<Accepted> = self.store.order_accept(&self.order(node_id), None).await?;
        Ok(once.done().expect("without a key nothing is replayed"))
    }

    /// An order whose instance was handed over.
    pub(crate) async fn active(&self, node_id: NodeId) -> Accepted {
        let accepted = self.accept(node_id).await.unwrap();
        self.activate(&accepted).await;
        accepted
    }

    /// Carries the order's saga, the only one that is due, to its end.
    pub(crate) async fn activate(&self, accepted: &Accepted) {
        let leased = self.store.saga_claim("test", 10 * SECOND).await.unwrap().expect("the order's saga is due");
        let (order_id, instance_id) = (accepted.order.id, accepted.instance.id);
        let effects = [
            Effect::Order { order_id, change: nemordp_model::OrderChange::Provision },
            Effect::Order { order_id, change: nemordp_model::OrderChange::Activate },
            Effect::InstanceActive { instance_id },
            Effect::SealSecret { instance_id, sealed: b"sealed".to_vec() },
        ];
        let write = SagaWrite {
            state: "{}",
            status: nemordp_model::SagaStatus::Done,
            step: 2,
            failure: None,
            hold: Hold::Keep(SECOND),
            steps: &[],
            effects: &effects,
        };
        self.store.saga_write(&leased.lease, &write).await.unwrap();
    }

    /// The words of all events so far.
    pub(crate) async fn events(&self) -> Vec<&'static str> {
        let page = self.store.event_list(nemordp_store::EventFilter::default(), Page::first(500)).await.unwrap();
        page.items.iter().map(|event| event.kind.word()).collect()
    }

    pub(crate) async fn count_events(&self, word: &str) -> usize {
        self.events().await.iter().filter(|kind| **kind == word).count()
    }
}
