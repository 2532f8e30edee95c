//! What leaves a process, and what does not.

use nemordp_trace::{Export, Settings, TraceParent, child, current, follow, logs, span};
use nemordp_types::{Failure, Reason};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry};

use crate::collector::Collector;

fn settings(collector: &Collector) -> Settings {
    Settings { otlp_endpoint: Some(format!("http://{}", collector.address)), ..Settings::default() }
}

/// A log that shows everything, and the export.
fn subscriber(export: &Export) -> impl tracing::Subscriber + Send + Sync + use<> {
    let log = tracing_subscriber::fmt::layer().with_test_writer().with_filter(logs(EnvFilter::new("trace")));
    Registry::default().with(log).with(export.layer())
}

#[tokio::test]
async fn only_what_was_meant_to_leaves_and_the_end_sends_all_of_it() {
    let collector = Collector::start().await;
    let export = Export::start(&settings(&collector), "a-program").unwrap().unwrap();
    export.identify("process-1");
    let remote: TraceParent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
    {
        let _in_force = tracing::subscriber::set_default(subscriber(&export));
        let outer = span!(parent: None, "outer", otel.name = "POST /things", count = 3);
        follow(&outer, Some(remote));
        let work = async {
            // Neither a line of the log nor a span for it leaves, and neither hides where we are.
            let hidden = tracing::info_span!("hidden", password = "Zauberwort-7");
            let _entered = hidden.enter();
            tracing::error!(token = "Zauberwort-7", "a line of the log");
            assert_eq!(current().unwrap().trace_id(), remote.trace_id());
            drop(child!("inner", otel.name = "inner"));
            Err::<(), _>(Failure::new(Reason::HostFailure, "Zauberwort-7"))
        };
        nemordp_trace::record(outer, work).await.unwrap_err();
        assert!(child!("outside of a trace", x = 1).is_none());
    }
    export.end().await;
    let spans = collector.spans();
    let [inner, outer] = spans.as_slice() else { panic!("{spans:#?}") };
    assert_eq!((outer.name.as_str(), outer.parent.as_str()), ("POST /things", "00f067aa0ba902b7"));
    assert_eq!((inner.name.as_str(), inner.parent.as_str()), ("inner", outer.id.as_str()));
    assert!(spans.iter().all(|span| span.trace == remote.trace_id() && span.events == 0));
    assert_eq!((outer.says("reason"), outer.says("count"), outer.failed), ("host_failure", "3", true));
    assert!(!inner.failed);
    assert_eq!((outer.service.as_str(), outer.process.as_str()), ("a-program", "process-1"));
    assert!(!collector.dump().contains("Zauberwort"), "{}", collector.dump());
}

#[tokio::test]
async fn what_its_sender_does_not_keep_is_not_kept() {
    let collector = Collector::start().await;
    let export = Export::start(&settings(&collector), "a-program").unwrap().unwrap();
    {
        let _in_force = tracing::subscriber::set_default(subscriber(&export));
        let dropped = span!(parent: None, "dropped", otel.name = "dropped");
        follow(&dropped, Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00".parse().unwrap()));
        let passed_on = dropped.in_scope(|| current().unwrap().to_string());
        assert!(passed_on.ends_with("-00"), "{passed_on}");
        drop(span!(parent: None, "kept", otel.name = "kept"));
    }
    export.end().await;
    let names: Vec<String> = collector.spans().into_iter().map(|span| span.name).collect();
    assert_eq!(names, ["kept"]);
}

#[tokio::test]
async fn a_ca_that_cannot_be_read_is_named_with_its_key() {
    let settings = Settings {
        otlp_endpoint: Some("https://collector.example:4317".to_owned()),
        ca_file: Some("/nonexistent/ca.pem".into()),
        ..Settings::default()
    };
    let failure = Export::start(&settings, "a-program").unwrap_err();
    assert_eq!(failure.field.as_deref(), Some("ca_file"));
}
