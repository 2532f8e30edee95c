//! A control plane of a few lines with a real CA and real mTLS, and an agent that runs against it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use nemordp_agent::config::Config;
use nemordp_agent::host::sim::SimHost;
use nemordp_agent::{Running, run};
use nemordp_types::instance::{DesiredPower, DiskSet, GuestSpec, InstanceSpec, NetworkSpec};
use nemordp_types::operation::{Operation, OperationState};
use nemordp_types::template::{Personalisation, RdpSecurity};
use nemordp_types::*;
use nemordp_wire::identity::{Identity, Role, spki_sha256};
use nemordp_wire::mtls::{self, ClientAuth, Credentials, Expected};
use nemordp_wire::ticket::EnrollmentTicket;
use nemordp_wire::v1::agent_client::AgentClient;
use nemordp_wire::v1::control_server::{Control, ControlServer};
use nemordp_wire::{id, status, v1};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use secrecy::ExposeSecret as _;
use sha2::Digest as _;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use uuid::Uuid;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Our own CA.
pub(crate) struct Ca {
    pub(crate) certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Ca {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    fn params(identity: Identity) -> CertificateParams {
        let mut params = CertificateParams::new([identity.dns_name()]).unwrap();
        params.subject_alt_names.push(SanType::URI(identity.uri().try_into().unwrap()));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params
    }

    pub(crate) fn issue(&self, role: Role) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let params = Self::params(Identity { role, id: Uuid::from_u128(u128::from(role as u8) + 1) });
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Credentials {
            chain: vec![leaf.der().clone()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            ca: self.certificate.clone(),
        }
    }

    fn sign(&self, csr: &[u8], identity: Identity) -> CertificateDer<'static> {
        let csr = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr)).unwrap();
        Self::params(identity).signed_by(&csr.public_key, &self.issuer).unwrap().der().clone()
    }
}

/// How the bytes of a template are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sending {
    Whole,
    /// Every stream breaks with an error after so many bytes.
    BreaksAfter(usize),
    /// The file ends early.
    Truncated,
    /// A byte in the middle is another one.
    Corrupt,
}

pub(crate) struct ControlState {
    pub(crate) ca: Ca,
    pub(crate) ticket: EnrollmentTicket,
    pub(crate) node_id: NodeId,
    pub(crate) installation_id: InstallationId,
    pub(crate) template: Vec<u8>,
    pub(crate) sending: Mutex<Sending>,
    pub(crate) fetches: AtomicU32,
    pub(crate) enrolled: AtomicU32,
    /// The next answers of enroll that are lost after they took effect.
    pub(crate) lose_enrollments: AtomicU32,
    pub(crate) keys: Mutex<Vec<Vec<u8>>>,
    pub(crate) heartbeats: AtomicU64,
    pub(crate) answers_heartbeats: AtomicBool,
    pub(crate) renewals: AtomicU32,
    pub(crate) renew: AtomicBool,
    pub(crate) revocations: Mutex<Option<v1::RevocationList>>,
    pub(crate) last_heartbeat: Mutex<Option<v1::HeartbeatRequest>>,
    pub(crate) withdrawals: Mutex<Vec<v1::Withdrawal>>,
    pub(crate) fenced: AtomicBool,
    pub(crate) clock_skew_us: AtomicI64,
    pub(crate) doubled: AtomicBool,
    /// Every entry of every heartbeat, as it came.
    pub(crate) usage: Mutex<Vec<v1::UsageEntry>>,
    /// Whether the answers carry receipts.
    pub(crate) receipts: AtomicBool,
    /// Every suspension of every answered heartbeat, as it came.
    pub(crate) suspensions: Mutex<Vec<v1::SuspensionReport>>,
}

#[derive(Clone)]
pub(crate) struct ControlPlane {
    pub(crate) state: Arc<ControlState>,
    pub(crate) address: SocketAddr,
}

impl ControlPlane {
    pub(crate) async fn start() -> Self {
        let ca = Ca::new();
        let ticket = EnrollmentTicket::new(&SystemEntropy, spki_sha256(&ca.certificate).unwrap());
        let server = mtls::server_config(&ca.issue(Role::ControlPlane), ClientAuth::Optional).unwrap();
        let mut template = vec![0u8; 300_000];
        SeededEntropy::new(5).fill(&mut template);
        let state = Arc::new(ControlState {
            ca,
            ticket,
            node_id: NodeId::new(&SystemClock, &SystemEntropy),
            installation_id: InstallationId::new(&SystemClock, &SystemEntropy),
            template,
            sending: Mutex::new(Sending::Whole),
            fetches: AtomicU32::new(0),
            enrolled: AtomicU32::new(0),
            lose_enrollments: AtomicU32::new(0),
            keys: Mutex::default(),
            heartbeats: AtomicU64::new(0),
            answers_heartbeats: AtomicBool::new(true),
            renewals: AtomicU32::new(0),
            renew: AtomicBool::new(false),
            revocations: Mutex::default(),
            last_heartbeat: Mutex::default(),
            withdrawals: Mutex::default(),
            fenced: AtomicBool::new(false),
            clock_skew_us: AtomicI64::new(0),
            doubled: AtomicBool::new(false),
            usage: Mutex::default(),
            receipts: AtomicBool::new(true),
            suspensions: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let incoming = mtls::incoming(listener, Arc::new(ArcSwap::new(server)));
        let service = ControlServer::new(Service(Arc::clone(&state)));
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { state, address }
    }

    pub(crate) fn template(&self) -> Template {
        let size = Bytes(self.state.template.len().try_into().unwrap());
        Template {
            name: TemplateName::new("simulated").unwrap(),
            digest: TemplateDigest::from_bytes(sha2::Sha256::digest(&self.state.template).into()),
            file_size: size,
            virtual_size: size,
            rdp_security: RdpSecurity::Nla,
            personalisation: Personalisation::GuestAgent,
            login_name: LoginName::new("user").unwrap(),
        }
    }
}

struct Service(Arc<ControlState>);

#[tonic::async_trait]
impl Control for Service {
    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::EnrollResponse>, Status> {
        let message = request.into_inner();
        let ticket = EnrollmentTicket::parse(&message.ticket).map_err(|f| status::to_status(&f))?;
        if ticket.secret_sha256() != self.0.ticket.secret_sha256() {
            return Err(status::to_status(&Failure::new(Reason::TicketInvalid, "no such ticket")));
        }
        self.0.enrolled.fetch_add(1, Ordering::SeqCst);
        let csr = CertificateSigningRequestParams::from_der(&message.csr_der.as_ref().into()).unwrap();
        self.0.keys.lock().unwrap().push(rcgen::PublicKeyData::der_bytes(&csr.public_key).to_vec());
        let lost =
            self.0.lose_enrollments.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        if lost {
            return Err(Status::unavailable("the answer was lost"));
        }
        let identity = Identity { role: Role::Node, id: self.0.node_id.as_uuid() };
        Ok(Response::new(v1::EnrollResponse {
            node_id: id::encode(&self.0.node_id),
            installation_id: id::encode(&self.0.installation_id),
            certificate_chain_der: vec![self.0.ca.sign(&message.csr_der, identity).to_vec().into()],
            ca_der: self.0.ca.certificate.to_vec().into(),
            heartbeat_seconds: 1,
        }))
    }

    async fn renew(&self, request: Request<v1::RenewRequest>) -> Result<Response<v1::RenewResponse>, Status> {
        let identity = mtls::require(&request, Role::Node, &mtls::Revocations::new())?;
        self.0.renewals.fetch_add(1, Ordering::SeqCst);
        self.0.renew.store(false, Ordering::SeqCst);
        Ok(Response::new(v1::RenewResponse {
            certificate_chain_der: vec![self.0.ca.sign(&request.into_inner().csr_der, identity).to_vec().into()],
            ca_der: self.0.ca.certificate.to_vec().into(),
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<v1::HeartbeatRequest>,
    ) -> Result<Response<v1::HeartbeatResponse>, Status> {
        mtls::require(&request, Role::Node, &mtls::Revocations::new())?;
        self.0.heartbeats.fetch_add(1, Ordering::SeqCst);
        if !self.0.answers_heartbeats.load(Ordering::SeqCst) {
            return Err(Status::unavailable("not now"));
        }
        let message = request.into_inner();
        let revocations = self.0.revocations.lock().unwrap().clone();
        let revocations = revocations.filter(|list| list.number > message.revocation_number);
        self.0.usage.lock().unwrap().extend(message.usage.iter().cloned());
        let receipts = message.usage.iter().filter(|_| self.0.receipts.load(Ordering::SeqCst));
        let usage_receipts = receipts
            .map(|entry| v1::UsageReceipt {
                instance_id: entry.instance_id.clone(),
                meter_id: entry.meter_id.clone(),
                sequence: entry.sequence,
            })
            .collect();
        self.0.suspensions.lock().unwrap().extend(message.suspensions.iter().cloned());
        let heard = message.suspensions.iter().filter(|_| self.0.receipts.load(Ordering::SeqCst));
        let suspension_receipts = heard.map(|report| report.operation_id.clone()).collect();
        *self.0.last_heartbeat.lock().unwrap() = Some(message);
        let renew = self.0.renew.load(Ordering::SeqCst);
        Ok(Response::new(v1::HeartbeatResponse {
            heartbeat_seconds: 1,
            revocations,
            renew,
            withdrawals: self.0.withdrawals.lock().unwrap().clone(),
            fenced: self.0.fenced.load(Ordering::SeqCst),
            clock_skew_us: self.0.clock_skew_us.load(Ordering::SeqCst),
            doubled: self.0.doubled.load(Ordering::SeqCst),
            usage_receipts,
            suspension_receipts,
        }))
    }

    type FetchTemplateStream = Pin<Box<dyn Stream<Item = Result<v1::TemplateChunk, Status>> + Send>>;

    async fn fetch_template(
        &self,
        request: Request<v1::FetchTemplateRequest>,
    ) -> Result<Response<Self::FetchTemplateStream>, Status> {
        mtls::require(&request, Role::Node, &mtls::Revocations::new())?;
        self.0.fetches.fetch_add(1, Ordering::SeqCst);
        let offset = usize::try_from(request.into_inner().offset).unwrap();
        let sending = *self.0.sending.lock().unwrap();
        let mut bytes = self.0.template.clone();
        match sending {
            Sending::Whole | Sending::BreaksAfter(_) => {}
            Sending::Truncated => bytes.truncate(200_000),
            Sending::Corrupt => bytes[150_000] ^= 1,
        }
        let rest = bytes.get(offset..).unwrap_or_default().to_vec();
        let mut chunks: Vec<Result<v1::TemplateChunk, Status>> = Vec::new();
        let end = if let Sending::BreaksAfter(n) = sending { n.min(rest.len()) } else { rest.len() };
        for chunk in rest[..end].chunks(64 << 10) {
            chunks.push(Ok(v1::TemplateChunk { data: chunk.to_vec().into() }));
        }
        if end < rest.len() {
            chunks.push(Err(Status::unavailable("the connection broke")));
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(chunks))))
    }
}

/// One agent on a simulated host.
pub(crate) struct Node {
    pub(crate) control: ControlPlane,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) extra: String,
    pub(crate) host: SimHost,
    pub(crate) running: Option<Running>,
    pub(crate) stop: CancellationToken,
    pub(crate) clock: Arc<dyn Clock>,
    /// Starts instances after a reboot without asking.
    pub(crate) at_once: bool,
}

pub(crate) fn config(control: &ControlPlane, folder: &Path, extra: &str) -> Config {
    let ticket = folder.join("ticket");
    std::fs::write(&ticket, control.state.ticket.to_text().expose_secret()).unwrap();
    let data = folder.join("data");
    std::fs::create_dir_all(&data).unwrap();
    Config::from_toml(&format!(
        r#"
        data_dir = {data:?}
        control_plane = "{control}"
        listen = "127.0.0.1:0"
        node_name = "node-1"
        ticket_file = {ticket:?}
        boot_timeout_seconds = 3
        shutdown_timeout_seconds = 1
        usage_seconds = 1
        host.kind = "sim"
        metrics.listen = "127.0.0.1:0"
        [network]
        private_subnet = "10.64.0.0/24"
        public_address = "127.0.0.1"
        first_port = 20000
        last_port = 60999
        [sim]
        pools = [{{ storage_class = "nvme", size_gib = 1000 }}]
        {extra}
        "#,
        control = control.address
    ))
    .unwrap()
}

impl Node {
    pub(crate) async fn start(extra: &str) -> Self {
        Self::start_with(ControlPlane::start().await, extra).await
    }

    pub(crate) async fn start_with(control: ControlPlane, extra: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let host = open(&config(&control, folder.path(), extra), &clock);
        let mut node = Self {
            control,
            folder,
            extra: extra.to_owned(),
            host,
            running: None,
            stop: CancellationToken::new(),
            clock,
            at_once: false,
        };
        node.boot().await;
        node
    }

    pub(crate) fn config(&self) -> Config {
        let mut config = config(&self.control, self.folder.path(), &self.extra);
        if self.at_once {
            config.start_after_reboot = nemordp_agent::config::StartAfterReboot::AtOnce;
        }
        config
    }

    /// Starts the agent on the host that is there.
    pub(crate) async fn boot(&mut self) {
        self.stop = CancellationToken::new();
        let host = self.host.clone();
        let open = move |_| std::future::ready(Ok(host.clone()));
        let started =
            Box::pin(run(self.config(), open, Arc::clone(&self.clock), Arc::new(SystemEntropy), self.stop.clone()));
        self.running = Some(tokio::time::timeout(DEADLINE, started).await.unwrap().unwrap());
    }

    /// Stops the agent, as SIGTERM does.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            tokio::time::timeout(DEADLINE, running.finished()).await.unwrap().unwrap();
        }
    }

    /// Another process finds the same files.
    pub(crate) fn reopen_host(&mut self) {
        self.host = open(&self.config(), &self.clock);
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.running.as_ref().unwrap().rpc_address
    }

    pub(crate) fn channel(&self, credentials: &Credentials) -> Channel {
        let expected = Expected::Identity(Identity { role: Role::Node, id: self.control.state.node_id.as_uuid() });
        let tls = Arc::new(ArcSwap::new(mtls::client_config(credentials).unwrap()));
        mtls::channel(self.address(), expected, tls)
    }

    pub(crate) fn client(&self) -> AgentClient<Channel> {
        AgentClient::new(self.channel(&self.control.state.ca.issue(Role::ControlPlane)))
    }

    pub(crate) async fn ensure(&self, instance: &Wanted) -> Result<Operation, Failure> {
        self.send(instance, false).await
    }

    /// The same, whether the guest answers or not.
    pub(crate) async fn reconfigured(&self, instance: &Wanted) -> Result<Operation, Failure> {
        let operation = self.send(instance, true).await?;
        self.outcome(operation).await
    }

    async fn send(&self, instance: &Wanted, without_guest: bool) -> Result<Operation, Failure> {
        let request = v1::EnsureInstanceRequest {
            mutation: Some((&instance.mutation).into()),
            spec: Some((&instance.spec).into()),
            without_guest,
        };
        read(self.client().ensure_instance(request).await)
    }

    pub(crate) async fn delete(&self, mutation: &Mutation) -> Result<Operation, Failure> {
        read(self.client().delete_instance(v1::DeleteInstanceRequest { mutation: Some(mutation.into()) }).await)
    }

    pub(crate) async fn set_password(&self, mutation: &Mutation, password: &str) -> Result<Operation, Failure> {
        let request = v1::SetPasswordRequest {
            mutation: Some(mutation.into()),
            login_name: "user".to_owned(),
            password: password.to_owned(),
        };
        read(self.client().set_password(request).await)
    }

    pub(crate) async fn power(&self, mutation: &Mutation, action: v1::PowerAction) -> Result<Operation, Failure> {
        let request = v1::PowerInstanceRequest { mutation: Some(mutation.into()), action: action.into() };
        read(self.client().power_instance(request).await)
    }

    pub(crate) async fn operation(&self, id: OperationId) -> Result<Operation, Failure> {
        let request = v1::GetOperationRequest { operation_id: id::encode(&id) };
        read(self.client().get_operation(request).await)
    }

    /// Waits for the outcome; a failure is the operation's.
    pub(crate) async fn outcome(&self, operation: Operation) -> Result<Operation, Failure> {
        let waiting = async {
            let id = id::encode(&operation.mutation.operation_id);
            let watch = self.client().watch_operation(v1::WatchOperationRequest { operation_id: id }).await;
            let mut stream = watch.map_err(|s| status::from_status(&s))?.into_inner();
            let mut last = operation;
            while let Some(next) = stream.message().await.map_err(|s| status::from_status(&s))? {
                last = Operation::try_from(next)?;
            }
            Ok::<_, Failure>(last)
        };
        let last = tokio::time::timeout(DEADLINE, waiting).await.expect("the operation ends")?;
        match last.state.clone() {
            OperationState::Failed(failure) => Err(failure),
            OperationState::Succeeded => Ok(last),
            OperationState::Running => panic!("the stream ended before the operation"),
        }
    }

    pub(crate) async fn ensured(&self, instance: &Wanted) -> Result<Operation, Failure> {
        let operation = self.ensure(instance).await?;
        self.outcome(operation).await
    }

    pub(crate) async fn status(&self, id: InstanceId) -> Result<nemordp_types::instance::InstanceStatus, Failure> {
        let answer = self.client().get_instance(v1::GetInstanceRequest { instance_id: id::encode(&id) }).await;
        let message = answer.map_err(|s| status::from_status(&s))?.into_inner();
        message.try_into()
    }

    pub(crate) async fn scrape(&self) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let address = self.running.as_ref().unwrap().metrics_address.unwrap();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }
}

fn open(config: &Config, clock: &Arc<dyn Clock>) -> SimHost {
    SimHost::open(&config.sim, &config.network, &config.data_dir, Arc::clone(clock)).unwrap()
}

pub(crate) fn read(answer: Result<Response<v1::Operation>, Status>) -> Result<Operation, Failure> {
    answer.map_err(|s| status::from_status(&s))?.into_inner().try_into()
}

/// An instance that is ordered.
#[derive(Clone)]
pub(crate) struct Wanted {
    pub(crate) mutation: Mutation,
    pub(crate) spec: InstanceSpec,
}

impl Wanted {
    pub(crate) fn new(control: &ControlPlane) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(2);
        let octet = u8::try_from(NEXT.fetch_add(1, Ordering::SeqCst) % 250 + 2).unwrap();
        let private = std::net::Ipv4Addr::new(10, 64, 0, octet);
        let template = control.template();
        let spec = InstanceSpec {
            order_id: OrderId::new(&SystemClock, &SystemEntropy),
            vcpu: Vcpu(2),
            memory: MiB(4_096),
            disk: GiB(50),
            storage_class: StorageClass::new("nvme").unwrap(),
            guest: GuestSpec {
                host_name: HostName::new("desk").unwrap(),
                login_name: template.login_name.clone(),
                time_zone: None,
                keyboard: None,
            },
            template,
            network: NetworkSpec {
                mac: MacAddr::of_private_ipv4(private),
                private_ipv4: private,
                endpoint: Endpoint { address: [127, 0, 0, 1].into(), port: free_port() },
            },
            power: DesiredPower::On,
            suspended: false,
            disks: DiskSet::default(),
        };
        let mutation = Mutation {
            operation_id: OperationId::new(&SystemClock, &SystemEntropy),
            instance_id: InstanceId::new(&SystemClock, &SystemEntropy),
            pair: pair(1, 1),
        };
        Self { mutation, spec }
    }

    /// Another operation on the same instance, with other numbers.
    pub(crate) fn then(&self, generation: u64, fence: u64) -> Mutation {
        Mutation {
            operation_id: OperationId::new(&SystemClock, &SystemEntropy),
            pair: pair(generation, fence),
            ..self.mutation
        }
    }

    pub(crate) fn with(&self, mutation: Mutation) -> Self {
        Self { mutation, spec: self.spec.clone() }
    }
}

pub(crate) const fn pair(generation: u64, fence: u64) -> Pair {
    Pair { generation: Generation(generation), fence: Fence(fence) }
}

/// A port that is free now, never given twice.
fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashMap<u16, ()>>> = Mutex::new(None);
    loop {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if GIVEN.lock().unwrap().get_or_insert_default().insert(port, ()).is_none() {
            return port;
        }
    }
}

/// Waits until something holds.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while !check().await {
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
