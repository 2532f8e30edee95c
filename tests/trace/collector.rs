//! A collector of ours: takes traces over OTLP on loopback, and remembers all of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nemordp_tests::cluster::until;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// How long what was done may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(30);

/// A span that arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) kind: &'static str,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) service: String,
    pub(crate) process: String,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) events: usize,
    pub(crate) failed: bool,
}

impl Seen {
    /// An attribute; empty when it is not there.
    pub(crate) fn says(&self, name: &str) -> &str {
        self.attributes.get(name).map(String::as_str).unwrap_or_default()
    }
}

#[derive(Debug, Default)]
struct Memory {
    spans: Vec<Seen>,
    /// Every message as a whole, for who looks for what must not be in it.
    dump: String,
}

/// Takes traces as long as it lives.
#[derive(Debug)]
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    memory: Arc<Mutex<Memory>>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Service(Arc<Mutex<Memory>>);

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let message = request.into_inner();
        let mut memory = self.0.lock().unwrap();
        memory.dump.push_str(&format!("{message:?}\n"));
        memory.spans.extend(seen(message));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn seen(message: ExportTraceServiceRequest) -> Vec<Seen> {
    let mut all = Vec::new();
    for resource in message.resource_spans {
        let sender = texts(resource.resource.map(|resource| resource.attributes).unwrap_or_default());
        let sender = |name: &str| sender.get(name).cloned().unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let kind = match span.kind() {
                SpanKind::Server => "server",
                SpanKind::Client => "client",
                SpanKind::Unspecified | SpanKind::Internal | SpanKind::Producer | SpanKind::Consumer => "",
            };
            all.push(Seen {
                kind,
                trace: hex::encode(&span.trace_id),
                id: hex::encode(&span.span_id),
                parent: hex::encode(&span.parent_span_id),
                service: sender("service.name"),
                process: sender("service.instance.id"),
                events: span.events.len(),
                failed: span.status.as_ref().is_some_and(|status| status.code == 2),
                attributes: texts(span.attributes),
                name: span.name,
            });
        }
    }
    all
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Value| {
        if let Value::StringValue(text) = value {
            text
        } else if let Value::IntValue(number) = value {
            number.to_string()
        } else {
            format!("{value:?}")
        }
    };
    let named = |pair: KeyValue| (pair.key, pair.value.and_then(|value| value.value).map(text).unwrap_or_default());
    attributes.into_iter().map(named).collect()
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let memory = Arc::new(Mutex::new(Memory::default()));
        let service = TraceServiceServer::new(Service(Arc::clone(&memory)));
        let serve = tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener));
        let server = tokio::spawn(async move { serve.await.unwrap() });
        Self { address, memory, server }
    }

    /// All spans that have arrived.
    pub(crate) fn spans(&self) -> Vec<Seen> {
        self.memory.lock().unwrap().spans.clone()
    }

    /// Everything that has arrived, as text.
    pub(crate) fn dump(&self) -> String {
        self.memory.lock().unwrap().dump.clone()
    }

    /// The spans of a trace, as soon as all that are named have arrived.
    pub(crate) async fn trace(&self, trace: &str, wanted: &[&str]) -> Vec<Seen> {
        let what = format!("{wanted:?} in trace {trace}");
        let arrived = until(&what, ARRIVAL, || async {
            let spans: Vec<Seen> = self.spans().into_iter().filter(|span| span.trace == trace).collect();
            let complete = wanted.iter().all(|name| spans.iter().any(|span| span.name == *name));
            Ok(complete.then_some(spans))
        });
        arrived.await.unwrap_or_else(|error| {
            let names: Vec<String> =
                self.spans().iter().map(|s| format!("{} {} {}", s.service, s.name, s.trace)).collect();
            panic!("{error}; arrived: {names:#?}")
        })
    }
}
