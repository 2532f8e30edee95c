//! What the control plane calls: decode, call, encode. Nothing is decided here but who may call.

mod guest;
mod instance;
mod node;
mod operation;
mod watch;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use nemordp_trace::{TraceParent, metadata};
use nemordp_types::{Failure, InstanceId, LoginName};
use nemordp_wire::identity::Role;
use nemordp_wire::mtls::{MtlsStream, Revocations, require};
use nemordp_wire::v1::agent_server::{Agent, AgentServer};
use nemordp_wire::{id, status, v1};
use tokio_stream::Stream;
use tonic::service::Interceptor;
use tonic::{Request, Response, Status};

use crate::host::Host;
use crate::instance::Shared;
use crate::instance::registry::Registry;

/// How long a call may take; mutations return as soon as they are journalled.
const CALL: Duration = Duration::from_secs(30);
/// How long a guest may take to answer a question.
const GUEST: Duration = Duration::from_secs(25);
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Calls at once on one connection.
const CONCURRENCY: usize = 256;
/// Largest request.
const MESSAGE_MAX: usize = 1 << 20;

/// The service of one agent.
#[derive(Debug)]
pub struct AgentService<H> {
    shared: Arc<Shared<H>>,
    registry: Arc<Registry<H>>,
    revocations: Revocations,
}

/// Demands the role control-plane of every call, of whatever service on this server.
#[derive(Debug, Clone)]
struct ControlPlaneOnly(Revocations);

impl Interceptor for ControlPlaneOnly {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        require(&request, Role::ControlPlane, &self.0)?;
        Ok(request)
    }
}

/// Serves until `stop` is ready, then lets calls under way end.
///
/// # Errors
/// The reflection data cannot be read, or the server ended by itself.
pub async fn serve<H: Host>(
    incoming: impl Stream<Item = std::io::Result<MtlsStream>> + Send + 'static,
    shared: Arc<Shared<H>>,
    registry: Arc<Registry<H>>,
    revocations: Revocations,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), Failure> {
    let only = ControlPlaneOnly(revocations.clone());
    let service = AgentService { shared, registry, revocations };
    let agent = AgentServer::new(service).max_decoding_message_size(MESSAGE_MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_serving::<AgentServer<AgentService<H>>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| Failure::internal(format!("reflection: {error}")))?;
    tonic::transport::Server::builder()
        .timeout(CALL)
        .concurrency_limit_per_connection(CONCURRENCY)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE / 2))
        .add_service(tonic::service::interceptor::InterceptedService::new(agent, only.clone()))
        .add_service(tonic::service::interceptor::InterceptedService::new(health, only.clone()))
        .add_service(tonic::service::interceptor::InterceptedService::new(reflection, only))
        .serve_with_incoming_shutdown(incoming, stop)
        .await
        .map_err(|error| Failure::internal(format!("the gRPC server ended: {error}")))
}

type Answer<T> = Result<Response<T>, Status>;
type Watch<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl<H: Host> AgentService<H> {
    /// The caller's role and certificate, then what it asks.
    fn open<T>(&self, request: Request<T>) -> Result<T, Status> {
        require(&request, Role::ControlPlane, &self.revocations)?;
        Ok(request.into_inner())
    }

    /// The same, with the trace that the caller is in.
    fn open_traced<T>(&self, request: Request<T>) -> Result<(T, Option<TraceParent>), Status> {
        let by = metadata::read(request.metadata());
        Ok((self.open(request)?, by))
    }
}

/// Serves a call as a span of the caller's trace.
async fn served<T>(
    method: &'static str,
    by: Option<TraceParent>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Answer<T> {
    let span = nemordp_trace::span!(
        parent: None,
        "serve",
        otel.name = method,
        otel.kind = "server",
        rpc.system = "grpc",
        rpc.method = method
    );
    nemordp_trace::follow(&span, by);
    answer(nemordp_trace::record(span, work).await)
}

/// Whom a request is about.
fn instance_id(bytes: &[u8]) -> Result<InstanceId, Failure> {
    id::decode(bytes, "instance_id")
}

fn login_name(text: String) -> Result<LoginName, Failure> {
    LoginName::new(text)
}

fn answer<T>(result: Result<T, Failure>) -> Answer<T> {
    result.map(Response::new).map_err(|failure| status::to_status(&failure))
}

#[tonic::async_trait]
impl<H: Host> Agent for AgentService<H> {
    type WatchOperationStream = Watch<v1::Operation>;
    type WatchInstancesStream = Watch<v1::InstanceStatus>;

    async fn get_inventory(&self, request: Request<v1::GetInventoryRequest>) -> Answer<v1::GetInventoryResponse> {
        self.open(request)?;
        answer(self.inventory().await)
    }

    async fn list_templates(&self, request: Request<v1::ListTemplatesRequest>) -> Answer<v1::ListTemplatesResponse> {
        self.open(request)?;
        answer(self.templates().await)
    }

    async fn prepare_template(
        &self,
        request: Request<v1::PrepareTemplateRequest>,
    ) -> Answer<v1::PrepareTemplateResponse> {
        let message = self.open(request)?;
        answer(self.template_prepare(message))
    }

    async fn ensure_instance(&self, request: Request<v1::EnsureInstanceRequest>) -> Answer<v1::Operation> {
        let (message, by) = self.open_traced(request)?;
        served("ensure_instance", by, self.submit(message.wait_ms, operation::ensure(message))).await
    }

    async fn power_instance(&self, request: Request<v1::PowerInstanceRequest>) -> Answer<v1::Operation> {
        let (message, by) = self.open_traced(request)?;
        served("power_instance", by, self.submit(message.wait_ms, operation::power(message))).await
    }

    async fn delete_instance(&self, request: Request<v1::DeleteInstanceRequest>) -> Answer<v1::Operation> {
        let (message, by) = self.open_traced(request)?;
        served("delete_instance", by, self.submit(message.wait_ms, operation::delete(message))).await
    }

    async fn set_password(&self, request: Request<v1::SetPasswordRequest>) -> Answer<v1::Operation> {
        let (message, by) = self.open_traced(request)?;
        served("set_password", by, self.submit(message.wait_ms, operation::set_password(message))).await
    }

    async fn end_sessions(&self, request: Request<v1::EndSessionsRequest>) -> Answer<v1::Operation> {
        let (message, by) = self.open_traced(request)?;
        served("end_sessions", by, self.submit(message.wait_ms, operation::end_sessions(message))).await
    }

    async fn schedule_suspension(
        &self,
        request: Request<v1::ScheduleSuspensionRequest>,
    ) -> Answer<v1::ScheduleSuspensionResponse> {
        let (message, by) = self.open_traced(request)?;
        served("schedule_suspension", by, self.suspension_schedule(message)).await
    }

    async fn get_operation(&self, request: Request<v1::GetOperationRequest>) -> Answer<v1::Operation> {
        let message = self.open(request)?;
        answer(self.operation_get(message).await)
    }

    async fn watch_operation(&self, request: Request<v1::WatchOperationRequest>) -> Answer<Watch<v1::Operation>> {
        let message = self.open(request)?;
        answer(self.operation_watch(&message.operation_id))
    }

    async fn get_instance(&self, request: Request<v1::GetInstanceRequest>) -> Answer<v1::InstanceStatus> {
        let (message, by) = self.open_traced(request)?;
        served("get_instance", by, self.instance_get(&message.instance_id)).await
    }

    async fn list_instances(&self, request: Request<v1::ListInstancesRequest>) -> Answer<v1::ListInstancesResponse> {
        self.open(request)?;
        answer(Ok(self.instance_list()))
    }

    async fn watch_instances(&self, request: Request<v1::WatchInstancesRequest>) -> Answer<Watch<v1::InstanceStatus>> {
        self.open(request)?;
        answer(Ok(self.instance_watch()))
    }

    async fn get_account(&self, request: Request<v1::GetAccountRequest>) -> Answer<v1::GetAccountResponse> {
        let (message, by) = self.open_traced(request)?;
        served("get_account", by, self.account(message)).await
    }

    async fn list_sessions(&self, request: Request<v1::ListSessionsRequest>) -> Answer<v1::ListSessionsResponse> {
        let (message, by) = self.open_traced(request)?;
        served("list_sessions", by, self.sessions(message)).await
    }
}
