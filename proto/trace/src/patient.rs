//! An exporter whose failures disturb nobody: each batch has its time, and a collector that is away is told of once.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::timeout;

/// Who sends: the service, and which of its processes once that is known.
#[derive(Debug, Default)]
pub(crate) struct Sender {
    pub(crate) service: String,
    pub(crate) instance: OnceLock<String>,
}

impl Sender {
    /// As OpenTelemetry's semantic conventions call it.
    pub(crate) fn resource(&self) -> Resource {
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let builder = Resource::builder_empty().with_service_name(self.service.clone()).with_attribute(version);
        match self.instance.get() {
            Some(id) => builder.with_attribute(KeyValue::new("service.instance.id", id.clone())).build(),
            None => builder.build(),
        }
    }
}

/// Sends batches through another exporter, on the runtime that its connection belongs to.
#[derive(Debug)]
pub(crate) struct Patient<E> {
    inner: Arc<Mutex<E>>,
    sender: Arc<Sender>,
    runtime: Handle,
    limit: Duration,
    named: AtomicBool,
    failing: AtomicBool,
}

impl<E: SpanExporter + 'static> Patient<E> {
    /// Each batch may take this long.
    pub(crate) fn new(mut inner: E, sender: Arc<Sender>, runtime: Handle, limit: Duration) -> Self {
        inner.set_resource(&sender.resource());
        let inner = Arc::new(Mutex::new(inner));
        Self { inner, sender, runtime, limit, named: AtomicBool::new(false), failing: AtomicBool::new(false) }
    }

    /// Says once that the collector is away, and once that it is back.
    fn tell(&self, outcome: &OTelSdkResult) {
        match outcome {
            Ok(()) if self.failing.swap(false, Ordering::Relaxed) => {
                tracing::info!("the collector takes traces again");
            }
            Err(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "the collector takes no traces: they are dropped until it does");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

impl<E: SpanExporter + 'static> SpanExporter for Patient<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let name = self.sender.instance.get().is_some() && !self.named.swap(true, Ordering::Relaxed);
        let (inner, sender, limit) = (Arc::clone(&self.inner), Arc::clone(&self.sender), self.limit);
        let sent = self.runtime.spawn(async move {
            let mut inner = inner.lock().await;
            if name {
                inner.set_resource(&sender.resource());
            }
            timeout(limit, inner.export(batch)).await.unwrap_or(Err(OTelSdkError::Timeout(limit)))
        });
        let outcome = sent.await.unwrap_or_else(|error| Err(OTelSdkError::InternalFailure(error.to_string())));
        self.tell(&outcome);
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use super::*;

    /// A collector that answers as it is told, and remembers who sent.
    #[derive(Debug, Default)]
    struct Double {
        answers: StdMutex<Vec<bool>>,
        senders: Arc<StdMutex<Vec<String>>>,
        resource: Option<Resource>,
    }

    impl SpanExporter for Double {
        async fn export(&self, _batch: Vec<SpanData>) -> OTelSdkResult {
            let told = self.resource.as_ref().map(|resource| format!("{resource:?}")).unwrap_or_default();
            self.senders.lock().unwrap().push(told);
            let answer = self.answers.lock().unwrap().pop();
            match answer {
                Some(true) => Ok(()),
                Some(false) => Err(OTelSdkError::InternalFailure("away".to_owned())),
                None => std::future::pending().await,
            }
        }

        fn set_resource(&mut self, resource: &Resource) {
            self.resource = Some(resource.clone());
        }
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<StdMutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let mut lines = self.0.lock().map_err(|_| std::io::Error::other("a writer panicked"))?;
            lines.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_collector_that_is_away_is_told_of_once_until_it_is_back() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        let _log = tracing::subscriber::set_default(log);
        // Taken from the end; without an answer left the batch never ends by itself.
        let double = Double { answers: StdMutex::new(vec![false, true, false, false, false]), ..Default::default() };
        let patient = Patient::new(double, Arc::default(), Handle::current(), Duration::from_millis(50));
        for works in [false, false, false, true, false] {
            assert_eq!(patient.export(Vec::new()).await.is_ok(), works);
        }
        assert!(matches!(patient.export(Vec::new()).await, Err(OTelSdkError::Timeout(_))));
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("takes no traces").count(), 2, "{text}");
        assert_eq!(text.matches("again").count(), 1, "{text}");
    }

    #[tokio::test]
    async fn who_sends_is_said_as_soon_as_it_is_known() {
        let senders = Arc::new(StdMutex::new(Vec::new()));
        let double =
            Double { answers: StdMutex::new(vec![true; 3]), senders: Arc::clone(&senders), ..Default::default() };
        let sender = Arc::new(Sender { service: "shop".to_owned(), ..Default::default() });
        let patient = Patient::new(double, Arc::clone(&sender), Handle::current(), Duration::from_secs(5));
        patient.export(Vec::new()).await.unwrap();
        sender.instance.set("node-7".to_owned()).unwrap();
        patient.export(Vec::new()).await.unwrap();
        patient.export(Vec::new()).await.unwrap();
        let named: Vec<bool> = senders.lock().unwrap().iter().map(|text| text.contains("node-7")).collect();
        assert_eq!(named, [false, true, true]);
        assert!(senders.lock().unwrap().iter().all(|text| text.contains("shop")));
    }
}
