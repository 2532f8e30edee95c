//! To the collector: OTLP over gRPC, by batches from a bounded queue, whatever does not fit or arrive dropped.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::uri::Scheme;
use nemordp_types::Failure;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{RetryPolicy, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider};
use tokio::runtime::Handle;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tracing::Subscriber;
use tracing_subscriber::filter::{FilterExt, LevelFilter, filter_fn};
use tracing_subscriber::layer::{Filter, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::patient::{Patient, Sender};
use crate::{Settings, TARGET};

/// Spans that wait to be sent; more are dropped.
const QUEUE: usize = 8_192;
/// Spans of one message.
const BATCH: usize = 512;
/// How long a span waits for company.
const DELAY: Duration = Duration::from_secs(1);
/// How long one batch may take, connecting included.
const LIMIT: Duration = Duration::from_secs(5);
/// How long the last batches may take when the program ends.
const FLUSH: Duration = Duration::from_secs(3);

/// The export of one process.
#[derive(Debug)]
pub struct Export {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
    sender: Arc<Sender>,
}

impl Export {
    /// Prepares the export, where a collector is named; connects with the first batch. Runs on the present runtime.
    ///
    /// # Errors
    /// A setting cannot be used; the error names it and the fix.
    pub fn start(settings: &Settings, program: &str) -> Result<Option<Self>, Failure> {
        settings.check()?;
        let Some(channel) = channel(settings)? else { return Ok(None) };
        let otlp = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_channel(channel)
            .with_timeout(LIMIT)
            // The next batch comes soon enough; one that is repeated holds up those behind it.
            .with_retry_policy(RetryPolicy::disabled())
            .build()
            .map_err(|error| Failure::field("otlp_endpoint", format!("cannot be used: {error}")))?;
        let service = settings.service_name.clone().unwrap_or_else(|| program.to_owned());
        let sender = Arc::new(Sender { service, ..Sender::default() });
        let patient = Patient::new(otlp, Arc::clone(&sender), Handle::current(), LIMIT);
        let queue = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(DELAY)
            .build();
        let ratio = Sampler::TraceIdRatioBased(settings.sampling_ratio);
        let provider = SdkTracerProvider::builder()
            .with_span_processor(BatchSpanProcessor::builder(patient).with_batch_config(queue).build())
            .with_sampler(Sampler::ParentBased(Box::new(ratio)))
            .with_resource(sender.resource())
            .build();
        let tracer = provider.tracer("nemordp");
        Ok(Some(Self { provider, tracer, sender }))
    }

    /// What turns spans into exported ones: those of [`TARGET`], no other, and no event.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span> + Send + Sync,
    {
        let ours = filter_fn(|metadata| metadata.is_span() && metadata.target() == TARGET);
        tracing_opentelemetry::layer()
            .with_tracer(self.tracer.clone())
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(ours.with_max_level_hint(LevelFilter::INFO))
    }

    /// Says which process of its service this is, once that is known: a replica's name, a node's id.
    pub fn identify(&self, instance: &str) {
        // It is known once.
        drop(self.sender.instance.set(instance.to_owned()));
    }

    /// Sends what waits, for a short while, and ends.
    pub async fn end(self) {
        let provider = self.provider;
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH)).await;
        if !matches!(ended, Ok(Ok(()))) {
            tracing::debug!(?ended, "the last spans were not taken");
        }
    }
}

/// Installs the log's lines and, where there is one, the export, for the whole process; the first one of a process serves.
pub fn install(lines: impl Layer<Registry> + Send + Sync, filter: EnvFilter, export: Option<&Export>) {
    let log = tracing_subscriber::registry().with(lines.with_filter(logs(filter)));
    // The second subscriber of a process is refused. An absent layer would count as one that wants every span.
    drop(match export {
        Some(export) => log.with(export.layer()).try_init(),
        None => log.try_init(),
    });
}

/// The filter of a log, which shows no span that is made for the export.
pub fn logs<S>(filter: EnvFilter) -> impl Filter<S> + Send + Sync + 'static
where
    S: 'static,
{
    // Without a level of its own this filter would lift the log's, and every line of every library would be looked at.
    let others = filter_fn(|metadata| metadata.target() != TARGET).with_max_level_hint(LevelFilter::TRACE);
    FilterExt::<S>::and(filter, others)
}

/// The way to the collector; connects when it is used.
fn channel(settings: &Settings) -> Result<Option<Channel>, Failure> {
    let Some(uri) = settings.endpoint()? else { return Ok(None) };
    let unusable = |error: &dyn std::fmt::Display| Failure::field("otlp_endpoint", format!("use another: {error}"));
    let is_tls = uri.scheme() == Some(&Scheme::HTTPS);
    let mut endpoint = Endpoint::from(uri).timeout(LIMIT).connect_timeout(LIMIT).tcp_nodelay(true);
    if is_tls {
        let tls = match &settings.ca_file {
            Some(file) => ClientTlsConfig::new().ca_certificate(ca(file)?),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        endpoint = endpoint.tls_config(tls).map_err(|error| unusable(&error))?;
    }
    Ok(Some(endpoint.connect_lazy()))
}

fn ca(file: &Path) -> Result<Certificate, Failure> {
    let pem = std::fs::read(file)
        .map_err(|error| Failure::field("ca_file", format!("use a PEM file that can be read: {error}")))?;
    Ok(Certificate::from_pem(pem))
}
