//! A control plane in this process, keys for it, and a node that is enrolled with it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use nemordp_control_plane::app::{LongWork, Subject};
use nemordp_control_plane::{Config, Installation, Running, serve_with};
use nemordp_model::{OrderChange, SagaKind, SagaStatus};
use nemordp_store::{Effect, Hold, NewSaga, SagaWrite};
use nemordp_types::node::{Acceleration, EndpointPool, NodeInventory, NodeLoad, PoolInventory};
use nemordp_types::{
    Bytes, Clock, Entropy, Failure, InstanceId, ManualClock, MiB, OrderId, Reason, SagaId, SeededEntropy, StorageClass,
    SystemClock, Vcpu,
};
use nemordp_wire::identity::Role;
use nemordp_wire::mtls::{self, Credentials, Expected, client_config, enrollment_client_config};
use nemordp_wire::ticket::EnrollmentTicket;
use nemordp_wire::v1;
use nemordp_wire::v1::control_client::ControlClient;
use rcgen::{CertificateParams, KeyPair};
use reqwest::{Method, StatusCode};
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Every scope.
pub(crate) const ALL: &[&str] = &["orders", "read", "operate", "admin"];

/// Stores sagas and leaves them alone: the tests carry them on.
#[derive(Debug)]
struct Unmoved {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl LongWork for Unmoved {
    fn begin(&self, kind: SagaKind, subject: Subject) -> Result<NewSaga, Failure> {
        let state = json!({ "instance_id": subject.instance_id }).to_string();
        let id = SagaId::new(self.clock.as_ref(), self.entropy.as_ref());
        Ok(NewSaga { id, kind, state, steps: vec!["clone".to_owned(), "prove".to_owned()] })
    }

    fn poke(&self) {}

    fn reconcilers(&self) -> BoxFuture<'_, Result<Vec<nemordp_api::Reconciler>, Failure>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn reconciler_want<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Failure>> {
        async move { Err(Failure::new(Reason::NotFound, format!("{name} does not run here"))) }.boxed()
    }

    fn audit(&self) -> BoxFuture<'_, Result<nemordp_api::AuditReport, Failure>> {
        async { self.last_audit().ok_or_else(|| Failure::internal("made below")) }.boxed()
    }

    fn last_audit(&self) -> Option<nemordp_api::AuditReport> {
        let audited_at = self.clock.now();
        Some(nemordp_api::AuditReport { audited_at, orders: 0, instances: 0, nodes: 0, findings: Vec::new() })
    }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {} {}", self.status, self.text))
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }

    /// A problem document with this status, reason and field.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, reason: &str, field: Option<&str>) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["reason"], reason, "{problem}");
        assert_eq!(problem["type"], format!("/problems/{reason}"));
        assert_eq!(problem["field"].as_str(), field, "{problem}");
        assert!(problem["request_id"].is_string());
        assert_eq!(problem["request_id"].as_str().unwrap(), self.headers["x-request-id"].to_str().unwrap());
        problem
    }
}

/// A control plane.
pub(crate) struct Plane {
    pub(crate) running: Running,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) dir: TempDir,
    pub(crate) key: String,
    http: reqwest::Client,
    tickets: AtomicU32,
}

impl Plane {
    pub(crate) async fn start() -> Self {
        Self::start_with("", "").await
    }

    /// With more of the tables `http` and `metrics`.
    pub(crate) async fn start_with(http: &str, metrics: &str) -> Self {
        static PROVIDER: Once = Once::new();
        static SEED: AtomicU64 = AtomicU64::new(1);
        PROVIDER.call_once(|| rustls::crypto::aws_lc_rs::default_provider().install_default().unwrap());
        let dir = tempfile::tempdir().unwrap();
        // TLS libraries ask the system for the time: the test's clock begins there.
        let clock = Arc::new(ManualClock::at_second(SystemClock.now().as_second()));
        let seed = SEED.fetch_add(1, Ordering::Relaxed);
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(seed));
        let config = format!(
            "data_dir = \"{}\"\nregions = [\"hel1\"]\n[http]\nlisten = \"127.0.0.1:0\"\n{http}\n\
             [grpc]\nlisten = \"127.0.0.1:0\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n{metrics}",
            dir.path().join("data").display()
        );
        let config = Config::from_toml(&config).unwrap();
        let installation = Installation::ensure(&config, clock.clone(), entropy.clone()).await.unwrap();
        let work = Arc::new(Unmoved { clock: clock.clone(), entropy: entropy.clone() });
        let shutdown = CancellationToken::new();
        let running = serve_with(Arc::new(config), installation, clock.clone(), entropy, work, shutdown).await.unwrap();
        let http = reqwest::Client::builder().build().unwrap();
        let mut plane = Self { running, clock, dir, key: String::new(), http, tickets: AtomicU32::new(0) };
        plane.key = plane.key_for("default", ALL).await;
        plane
    }

    /// A key of a tenant, which is made where it is missing.
    pub(crate) async fn key_for(&self, tenant: &str, scopes: &[&str]) -> String {
        let app = &self.running.app;
        let tenant =
            nemordp_control_plane::app::ensure_tenant(&app.store, tenant, app.clock.as_ref(), app.entropy.as_ref());
        let tenant = tenant.await.unwrap();
        let label = nemordp_model::Label::new("test", "name").unwrap();
        let scopes = scopes.join(" ").parse().unwrap();
        app.key_create(tenant, label, scopes, None).await.unwrap().1.expose_secret().to_owned()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.running.http_addr)
    }

    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.url(path)).bearer_auth(&self.key)
    }

    /// Without a key.
    pub(crate) fn bare(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.http.request(method, self.url(path))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn get_as(&self, key: &str, path: &str) -> Answer {
        self.send(self.bare(Method::GET, path).bearer_auth(key)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(self.request(Method::DELETE, path)).await
    }

    /// With an intention of this name.
    pub(crate) async fn post(&self, path: &str, intention: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).header("Idempotency-Key", intention).json(body)).await
    }

    pub(crate) async fn post_as(&self, key: &str, path: &str, intention: &str, body: &Value) -> Answer {
        let request = self.bare(Method::POST, path).bearer_auth(key).header("Idempotency-Key", intention);
        self.send(request.json(body)).await
    }

    /// Plan `basic`, template `debian`, and a node in `fsn1` that has room.
    pub(crate) async fn stocked(&self) -> Agent {
        self.plan("basic", 50).await;
        self.template("debian", b"a golden disk", 10 << 30).await;
        let agent = self.node("node-1").await;
        agent.beat(self).await;
        agent
    }

    pub(crate) async fn plan(&self, name: &str, disk_gib: u64) {
        let plan = json!({
            "name": name, "vcpu": 2, "memory_mib": 4096, "disk_gib": disk_gib, "storage_class": "nvme",
        });
        self.post("/v1/plans", &format!("plan-{name}-{disk_gib}"), &plan).await.expect(200);
    }

    pub(crate) async fn template(&self, name: &str, bytes: &[u8], virtual_size: u64) {
        let digest = digest(bytes);
        let upload = self.request(Method::PUT, &format!("/v1/templates/{digest}/file")).body(bytes.to_vec());
        self.send(upload).await.expect(200);
        let manifest = manifest(name, bytes, virtual_size);
        self.post("/v1/templates", &format!("template-{name}"), &manifest).await.expect(201);
    }

    pub(crate) async fn ticket(&self, body: Value) -> String {
        let intention = format!("ticket-{}", self.tickets.fetch_add(1, Ordering::Relaxed));
        let created = self.post("/v1/nodes/tickets", &intention, &body).await.expect(201);
        created["text"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn node(&self, name: &str) -> Agent {
        let ticket = self.ticket(json!({ "region": "fsn1" })).await;
        Agent::enroll(self, name, &ticket, &KeyPair::generate().unwrap()).await.unwrap()
    }

    pub(crate) fn order_body(&self) -> Value {
        json!({ "plan": "basic", "template": "debian", "region": "fsn1" })
    }

    /// An order whose saga the test carries to its end: the instance is active, its password sealed.
    pub(crate) async fn delivered(&self, intention: &str) -> (OrderId, InstanceId) {
        let order = self.post("/v1/orders", intention, &self.order_body()).await.expect(202);
        let order_id: OrderId = order["id"].as_str().unwrap().parse().unwrap();
        let instance_id: InstanceId = order["instance_id"].as_str().unwrap().parse().unwrap();
        let sealed = self.running.app.sealer.seal(instance_id, &SecretString::from(PASSWORD)).unwrap();
        self.end_saga(&[
            Effect::Order { order_id, change: OrderChange::Provision },
            Effect::SealSecret { instance_id, sealed },
            Effect::PinCertificate { instance_id, sha256: [7; 32] },
            Effect::InstanceActive { instance_id },
            Effect::Order { order_id, change: OrderChange::Activate },
        ])
        .await;
        (order_id, instance_id)
    }

    /// Ends the one open saga with these effects.
    pub(crate) async fn end_saga(&self, effects: &[Effect]) {
        self.write_saga(SagaStatus::Done, effects).await;
    }

    /// Leaves the one open saga in this status, with these effects.
    pub(crate) async fn write_saga(&self, status: SagaStatus, effects: &[Effect]) {
        let store = &self.running.app.store;
        let leased = store.saga_claim("test", Duration::from_secs(60)).await.unwrap().unwrap();
        let write = SagaWrite {
            state: "{}",
            status,
            step: 2,
            failure: None,
            hold: Hold::Keep(Duration::from_secs(60)),
            steps: &[],
            effects,
        };
        store.saga_write(&leased.lease, &write).await.unwrap();
    }
}

pub(crate) const PASSWORD: &str = "Zauberwort-7";

pub(crate) fn digest(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    format!("sha256:{}", hex::encode(sha2::Sha256::digest(bytes)))
}

pub(crate) fn manifest(name: &str, bytes: &[u8], virtual_size: u64) -> Value {
    json!({
        "name": name, "digest": digest(bytes), "file_size_bytes": bytes.len(), "virtual_size_bytes": virtual_size,
        "rdp_security": "tls", "personalisation": "guest_agent",
    })
}

pub(crate) fn inventory() -> NodeInventory {
    NodeInventory {
        agent_version: "0.1.0".to_owned(),
        hypervisor: "simulated".to_owned(),
        acceleration: Acceleration::Simulated,
        vcpu: Vcpu(8),
        memory: MiB(16_384),
        memory_for_instances: MiB(12_288),
        pools: vec![PoolInventory {
            storage_class: StorageClass::new("nvme").unwrap(),
            physical: Bytes(500 << 30),
            free: Bytes(500 << 30),
            reserved: Bytes(0),
        }],
        private_subnet: "10.64.0.0/24".parse().unwrap(),
        endpoints: EndpointPool { address: "203.0.113.7".parse().unwrap(), first_port: 20_000, last_port: 20_009 },
        templates: Vec::new(),
        boot_id: "boot-1".to_owned(),
        gpus: Vec::new(),
    }
}

/// A node's side of the connection.
pub(crate) struct Agent {
    pub(crate) node_id: String,
    pub(crate) certificate: Vec<u8>,
    pub(crate) key_pem: String,
    pub(crate) client: ControlClient<Channel>,
}

pub(crate) fn request(pair: &KeyPair) -> Vec<u8> {
    CertificateParams::new(Vec::new()).unwrap().serialize_request(pair).unwrap().der().to_vec()
}

pub(crate) fn channel(plane: &Plane, config: Arc<ClientConfig>) -> ControlClient<Channel> {
    let expected = Expected::Role(Role::ControlPlane);
    ControlClient::new(mtls::channel(plane.running.grpc_addr, expected, Arc::new(ArcSwap::new(config))))
}

impl Agent {
    pub(crate) async fn enroll(plane: &Plane, name: &str, ticket: &str, pair: &KeyPair) -> Result<Self, Failure> {
        let parsed = EnrollmentTicket::parse(ticket).unwrap();
        let mut client = channel(plane, enrollment_client_config(parsed.ca_key_sha256).unwrap());
        let ask = v1::EnrollRequest {
            ticket: ticket.to_owned(),
            csr_der: request(pair).into(),
            node_name: name.to_owned(),
            agent_address: "192.0.2.9:7444".to_owned(),
            inventory: Some(v1::NodeInventory::from(&inventory())),
        };
        let answer = client.enroll(ask).await.map_err(|s| nemordp_wire::status::from_status(&s))?.into_inner();
        let certificate = answer.certificate_chain_der[0].to_vec();
        let credentials = Credentials {
            chain: vec![CertificateDer::from(certificate.clone())],
            key: PrivateKeyDer::try_from(pair.serialize_der()).unwrap(),
            ca: CertificateDer::from(answer.ca_der.to_vec()),
        };
        let node_id = nemordp_wire::id::decode::<nemordp_types::NodeId>(&answer.node_id, "node_id").unwrap();
        let client = channel(plane, client_config(&credentials).unwrap());
        Ok(Self { node_id: node_id.to_string(), certificate, key_pem: pair.serialize_pem(), client })
    }

    pub(crate) fn heartbeat() -> v1::HeartbeatRequest {
        v1::HeartbeatRequest {
            inventory: Some(v1::NodeInventory::from(&inventory())),
            load: Some(v1::NodeLoad::from(&NodeLoad::default())),
            instances: Vec::new(),
            revocation_number: 0,
            agent_address: "192.0.2.9:7444".to_owned(),
            ..v1::HeartbeatRequest::default()
        }
    }

    pub(crate) async fn beat(&self, _plane: &Plane) -> v1::HeartbeatResponse {
        self.client.clone().heartbeat(Self::heartbeat()).await.unwrap().into_inner()
    }
}
