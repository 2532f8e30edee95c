//! An agent that runs against the control plane of a few lines.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use nemordp_agent::config::Config;
use nemordp_agent::host::sim::SimHost;
use nemordp_agent::{Running, run};
use nemordp_types::instance::{DesiredPower, DiskSet, GuestSpec, InstanceSpec, NetworkSpec};
use nemordp_types::operation::{Operation, OperationState};
use nemordp_types::*;
use nemordp_wire::identity::{Identity, Role};
use nemordp_wire::mtls::{self, Credentials, Expected};
use nemordp_wire::v1::agent_client::AgentClient;
use nemordp_wire::{id, status, v1};
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::control::ControlPlane;

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

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
        announce_seconds = 1
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
            wait_ms: 0,
        };
        read(self.client().ensure_instance(request).await)
    }

    pub(crate) async fn delete(&self, mutation: &Mutation) -> Result<Operation, Failure> {
        read(
            self.client()
                .delete_instance(v1::DeleteInstanceRequest { mutation: Some(mutation.into()), wait_ms: 0 })
                .await,
        )
    }

    pub(crate) async fn set_password(&self, mutation: &Mutation, password: &str) -> Result<Operation, Failure> {
        let request = v1::SetPasswordRequest {
            mutation: Some(mutation.into()),
            login_name: "user".to_owned(),
            password: password.to_owned(),
            wait_ms: 0,
        };
        read(self.client().set_password(request).await)
    }

    pub(crate) async fn power(&self, mutation: &Mutation, action: v1::PowerAction) -> Result<Operation, Failure> {
        let request = v1::PowerInstanceRequest { mutation: Some(mutation.into()), action: action.into(), wait_ms: 0 };
        read(self.client().power_instance(request).await)
    }

    pub(crate) async fn operation(&self, id: OperationId) -> Result<Operation, Failure> {
        self.operation_within(id, 0).await
    }

    pub(crate) async fn operation_within(&self, id: OperationId, wait_ms: u32) -> Result<Operation, Failure> {
        let request = v1::GetOperationRequest { operation_id: id::encode(&id), wait_ms };
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
    SimHost::open(&config.sim, &config.network, &config.gpus, &config.data_dir, Arc::clone(clock)).unwrap()
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
            gpus: None,
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
