//! Without a collector; in a process of its own, because whether a span is made at all is decided once for a process.

use nemordp_trace::{Export, Settings, child, context, current, install, span};
use tracing_subscriber::EnvFilter;

fn never() -> &'static str {
    unreachable!("no field is looked at")
}

#[test]
fn without_a_collector_no_span_is_made() {
    let export = Export::start(&Settings::default(), "a-program").unwrap();
    assert!(export.is_none());
    install(tracing_subscriber::fmt::layer().with_test_writer(), EnvFilter::new("info"), export.as_ref());
    assert_eq!(tracing::level_filters::LevelFilter::current(), tracing::level_filters::LevelFilter::INFO);
    assert!(!tracing::info_span!("of the log").is_disabled());
    let nothing = span!(parent: None, "nothing", otel.name = never());
    assert!(nothing.is_disabled() && context(&nothing).is_none());
    nothing.in_scope(|| assert!(current().is_none() && child!("nothing", x = 1).is_disabled()));
}
