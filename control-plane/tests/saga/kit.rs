//! A store with nodes, orders on them, and replicas that carry their sagas on.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_control_plane::reconcile::Auditor;
use nemordp_control_plane::saga::carry::{Rest, carry};
use nemordp_control_plane::saga::{Limits, Tools, plan};
use nemordp_control_plane::seal::{Sealer, ensure_key_file};
use nemordp_model::{GpuDemand, Instance, Label, Order, Overcommit, Saga, SagaKind, SagaStatus, Siting};
use nemordp_store::{
    LeasedSaga, NewCertificate, NewOrder, NewPlan, NewTicket, NodeEnroll, NodeHeartbeat, Once, OrderAccept, Shape,
    Store, StoreError, TenantScope, Wish,
};
use nemordp_types::instance::GuestSpec;
use nemordp_types::node::{Acceleration, EndpointPool, GpuInventory, NodeInventory, NodeLoad, PoolInventory};
use nemordp_types::template::{Personalisation, RdpSecurity};
use nemordp_types::{
    Bytes, Clock, Entropy, Failure, GiB, GpuModel, HostName, InstanceId, LoginName, ManualClock, MiB, NodeAddress,
    NodeId, OrderId, PlanName, RegionName, ReservationId, SagaId, SeededEntropy, StorageClass, Template,
    TemplateDigest, TemplateName, TenantId, TicketId, Vcpu,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::node::FakeNodes;
use crate::postgres;

/// Which database a test runs on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

/// Runs each test on both stores.
macro_rules! on_both_stores {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(crate::kit::Backend::Sqlite).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if crate::postgres::available() {
                    super::$name(crate::kit::Backend::Postgres).await;
                }
            })*
        }
    };
}
pub(crate) use on_both_stores;

/// How long a replica keeps a lease without a sign of life.
pub(crate) const LEASE: Duration = Duration::from_secs(6);
/// Longer than any pause between two tries.
const PAUSE: Duration = Duration::from_secs(31);

/// A product in miniature.
pub(crate) struct World {
    pub(crate) tools: Tools,
    pub(crate) nodes: Arc<FakeNodes>,
    pub(crate) node_ids: Vec<NodeId>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    tenant: TenantId,
    /// Where the store is, for another replica's connection.
    pub(crate) url: String,
    pub(crate) dir: TempDir,
}

/// An order with what belongs to it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bought {
    pub(crate) order: OrderId,
    pub(crate) instance: InstanceId,
    pub(crate) saga: SagaId,
}

/// Beyond every test.
fn far() -> Timestamp {
    Timestamp::from_second(4_000_000_000).unwrap()
}

fn template() -> Template {
    Template {
        name: TemplateName::new("debian-12-xrdp").unwrap(),
        digest: TemplateDigest::from_bytes([3; 32]),
        file_size: Bytes(1 << 20),
        virtual_size: Bytes::from(GiB(10)),
        rdp_security: RdpSecurity::Tls,
        personalisation: Personalisation::GuestAgent,
        login_name: LoginName::new("user").unwrap(),
    }
}

/// What every node has two of.
pub(crate) fn gpu_model() -> GpuModel {
    GpuModel::new("rtx4000").unwrap()
}

pub(crate) fn inventory(index: u8) -> NodeInventory {
    let nvme = StorageClass::new("nvme").unwrap();
    let (physical, free) = (Bytes::from(GiB(100_000)), Bytes::from(GiB(100_000)));
    NodeInventory {
        agent_version: "0.1.0".to_owned(),
        hypervisor: "the test".to_owned(),
        acceleration: Acceleration::Simulated,
        vcpu: Vcpu(4_000),
        memory: MiB(4_000_000),
        memory_for_instances: MiB(4_000_000),
        pools: vec![PoolInventory { storage_class: nvme, physical, free, reserved: Bytes::ZERO }],
        private_subnet: format!("10.{index}.0.0/20").parse().unwrap(),
        endpoints: EndpointPool { address: [192, 0, 2, index].into(), first_port: 20_000, last_port: 29_999 },
        templates: vec![template().digest],
        boot_id: "boot".to_owned(),
        gpus: vec![GpuInventory { model: gpu_model(), count: 2 }],
    }
}

impl World {
    pub(crate) async fn with_nodes(count: u8, backend: Backend) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at_second(1_800_000_000));
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(42));
        let url = match backend {
            Backend::Sqlite => format!("sqlite:{}", dir.path().join("store.db").display()),
            Backend::Postgres => tokio::task::spawn_blocking(postgres::fresh_database).await.unwrap(),
        };
        let store = Store::open(&url, clock.clone(), entropy.clone()).await.unwrap();
        store.migrate().await.unwrap();
        let key = dir.path().join("seal.key");
        ensure_key_file(&key, entropy.as_ref()).unwrap();
        let nodes = Arc::new(FakeNodes::default());
        let tools = Tools {
            store,
            provider: nodes.clone(),
            prover: nodes.clone(),
            sealer: Sealer::from_file(&key, entropy.clone()).unwrap(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            limits: Limits::default(),
        };
        let tenant = TenantId::new(clock.as_ref(), entropy.as_ref());
        let mut world = Self { tools, nodes, node_ids: Vec::new(), clock, entropy, tenant, dir, url };
        world.furnish(count).await;
        world
    }

    pub(crate) fn auditor(&self) -> Auditor {
        Auditor::new(self.tools.store.clone(), self.nodes.clone(), self.clock.clone())
    }

    /// The same database as another replica has it open.
    pub(crate) async fn reopen(&self) -> Store {
        Store::open(&self.url, self.clock.clone(), self.entropy.clone()).await.unwrap()
    }

    async fn furnish(&mut self, nodes: u8) {
        let store = self.tools.store.clone();
        store.tenant_create(self.tenant, &Label::new("shop", "name").unwrap()).await.unwrap();
        let plan = NewPlan {
            name: PlanName::new("basic").unwrap(),
            vcpu: Vcpu(2),
            memory: MiB(4096),
            disk: GiB(50),
            storage_class: StorageClass::new("nvme").unwrap(),
            gpus: None,
            labels: Default::default(),
            on_sale: true,
        };
        store.plan_put(&plan, None).await.unwrap();
        store.template_register(&template(), "debian.qcow2", None).await.unwrap();
        for index in 1..=nodes {
            self.enroll(index).await;
        }
    }

    async fn enroll(&mut self, index: u8) {
        let (clock, entropy) = (self.clock.as_ref(), self.entropy.as_ref());
        let store = &self.tools.store;
        let ticket = NewTicket {
            id: TicketId::new(clock, entropy),
            secret_sha256: [index; 32],
            region: RegionName::new("fsn1").unwrap(),
            overcommit: Overcommit::default(),
            bound_node_id: None,
            expires_at: far(),
        };
        store.ticket_create(&ticket, None).await.unwrap();
        let agent_address = NodeAddress(([127, 0, 0, 1], 7000 + u16::from(index)).into());
        let enroll = NodeEnroll {
            ticket_sha256: [index; 32],
            node_id: NodeId::new(clock, entropy),
            name: Label::new(format!("node-{index}"), "name").unwrap(),
            agent_address,
            inventory: inventory(index),
            certificate: NewCertificate {
                serial: vec![index],
                public_key_sha256: [index; 32],
                der: vec![index],
                not_after: far(),
            },
        };
        let node = store.node_enroll(&enroll).await.unwrap().node_id;
        let (load, instances) = (NodeLoad::default(), Vec::new());
        let beat = NodeHeartbeat {
            agent_address,
            inventory: inventory(index),
            load,
            instances,
            signs: nemordp_store::Signs::default(),
        };
        store.node_heartbeat(node, &beat).await.unwrap();
        self.node_ids.push(node);
    }

    /// A paid order, placed on the first node.
    pub(crate) async fn order(&self) -> Bought {
        self.order_at(0).await
    }

    /// A paid order, placed on this node.
    pub(crate) async fn order_at(&self, node: usize) -> Bought {
        self.order_if_taken(node).await.unwrap()
    }

    /// A paid order for this node, unless it takes none.
    pub(crate) async fn order_if_taken(&self, node: usize) -> Result<Bought, StoreError> {
        self.order_sited(node, Siting::default()).await
    }

    /// The same with what it asks of its node.
    pub(crate) async fn order_sited(&self, node: usize, siting: Siting) -> Result<Bought, StoreError> {
        self.order_with(node, siting, None).await
    }

    /// The same with GPUs of any model.
    pub(crate) async fn order_with_gpus(&self, node: usize, count: u32) -> Result<Bought, StoreError> {
        self.order_with(node, Siting::default(), Some(GpuDemand { count, model: None })).await
    }

    async fn order_with(&self, node: usize, siting: Siting, gpus: Option<GpuDemand>) -> Result<Bought, StoreError> {
        let (clock, entropy): (&dyn Clock, &dyn Entropy) = (self.clock.as_ref(), self.entropy.as_ref());
        let saga = plan::begin(SagaKind::Provision, clock, entropy).unwrap();
        let bought =
            Bought { order: OrderId::new(clock, entropy), instance: InstanceId::new(clock, entropy), saga: saga.id };
        let host_name = HostName::new("desk").unwrap();
        let accept = OrderAccept {
            order: NewOrder {
                id: bought.order,
                tenant_id: self.tenant,
                external_reference: None,
                plan: PlanName::new("basic").unwrap(),
                template: template().name,
                region: RegionName::new("fsn1").unwrap(),
                host_name: host_name.clone(),
                time_zone: None,
                keyboard: None,
            },
            instance_id: bought.instance,
            reservation_id: ReservationId::new(clock, entropy),
            node_id: self.node_ids[node],
            alternatives: Vec::new(),
            decision: None,
            template: template(),
            shape: Shape {
                vcpu: Vcpu(2),
                memory: MiB(4096),
                disk: GiB(50),
                storage_class: StorageClass::new("nvme").unwrap(),
                gpus,
            },
            siting,
            paid_until: None,
            guest: GuestSpec { host_name, login_name: template().login_name, time_zone: None, keyboard: None },
            saga,
        };
        self.tools.store.order_accept(&accept, None).await.map(|_| bought)
    }

    /// An order that was delivered.
    pub(crate) async fn delivered(&self) -> Bought {
        let bought = self.order().await;
        assert_eq!(self.settle(bought.saga).await.status, SagaStatus::Done);
        bought
    }

    /// Begins other work on an instance.
    pub(crate) async fn change(&self, instance: InstanceId, kind: SagaKind, wish: Wish) -> SagaId {
        let saga = plan::begin(kind, self.clock.as_ref(), self.entropy.as_ref()).unwrap();
        let changed = self.tools.store.instance_change(TenantScope::All, instance, &wish, &saga, None).await.unwrap();
        let Once::Done(changed) = changed else { panic!("nothing was replayed") };
        changed.saga.id
    }

    /// Why other work cannot begin on an instance.
    pub(crate) async fn refusal(&self, instance: InstanceId, kind: SagaKind, wish: Wish) -> Failure {
        let saga = plan::begin(kind, self.clock.as_ref(), self.entropy.as_ref()).unwrap();
        let changed = self.tools.store.instance_change(TenantScope::All, instance, &wish, &saga, None).await;
        changed.unwrap_err().into()
    }

    pub(crate) async fn instance(&self, id: InstanceId) -> Instance {
        self.tools.store.instance_fetch(TenantScope::All, id).await.unwrap()
    }

    pub(crate) async fn saga(&self, id: SagaId) -> Saga {
        self.tools.store.saga_fetch(TenantScope::All, id).await.unwrap()
    }

    pub(crate) async fn order_now(&self, bought: Bought) -> Order {
        self.tools.store.order_fetch(TenantScope::All, bought.order).await.unwrap()
    }

    /// Leases this saga, and no other: the kit works on one at a time.
    pub(crate) async fn claim(&self, owner: &str, saga: SagaId) -> Option<LeasedSaga> {
        let leased = self.tools.store.saga_claim(owner, LEASE).await.unwrap()?;
        assert_eq!(leased.saga.id, saga, "only one saga is open at a time");
        Some(leased)
    }

    /// Carries a saga on until it ended, over all its pauses and leases.
    pub(crate) async fn settle(&self, saga: SagaId) -> Saga {
        for _ in 0..200 {
            let now = self.saga(saga).await;
            if !now.status.is_open() {
                return now;
            }
            match self.claim("settles", saga).await {
                Some(leased) => {
                    carry(&self.tools, leased, LEASE, &CancellationToken::new()).await;
                }
                None => self.clock.advance(PAUSE),
            }
        }
        panic!("{saga} does not end: {:?}", self.saga(saga).await);
    }

    /// Carries a saga on and crashes at the n-th suspension. None: it crashed.
    pub(crate) async fn carry_and_crash(&self, leased: LeasedSaga, suspensions: u32) -> Option<Rest> {
        Self::crash(&self.tools, leased, suspensions).await
    }

    /// The same, by a replica with these tools.
    pub(crate) async fn crash(tools: &Tools, leased: LeasedSaga, suspensions: u32) -> Option<Rest> {
        let stop = CancellationToken::new();
        let mut carried = pin!(carry(tools, leased, LEASE, &stop));
        let mut left = suspensions;
        std::future::poll_fn(move |context| match carried.as_mut().poll(context) {
            Poll::Ready(rest) => Poll::Ready(Some(rest)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => {
                left -= 1;
                Poll::Pending
            }
        })
        .await
    }
}
