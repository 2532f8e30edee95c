//! Making spans, and joining them to what was begun elsewhere.
//!
//! A span that begins in another process or task than its parent is made with `parent: None` and told with [`follow`]: so
//! the parent ends when its own work does, however long what it caused goes on.

use std::future::Future;

use nemordp_types::{Failure, Reason};
use opentelemetry::Context;
use opentelemetry::trace::TraceContextExt;
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::TraceParent;

/// What the metadata of every span that may be exported says, and of nothing else.
pub const TARGET: &str = "nemordp-span";

/// A span that is exported, with its name and fields as [`tracing::info_span!`] takes them; `otel.name` is the name that is
/// shown. How it ended is noted by [`record()`] or [`fail`].
#[macro_export]
macro_rules! span {
    (parent: $parent:expr, $name:expr, $($fields:tt)*) => {
        $crate::tracing::info_span!(
            target: $crate::TARGET, parent: $parent, $name, reason = $crate::tracing::field::Empty,
            otel.status_code = $crate::tracing::field::Empty, $($fields)*
        )
    };
    ($name:expr, $($fields:tt)*) => {
        $crate::tracing::info_span!(
            target: $crate::TARGET, $name, reason = $crate::tracing::field::Empty,
            otel.status_code = $crate::tracing::field::Empty, $($fields)*
        )
    };
}

/// As [`span!`], but only within a trace: what happens every few seconds by itself makes none.
#[macro_export]
macro_rules! child {
    ($name:expr, $($fields:tt)*) => {
        if $crate::is_traced() { $crate::span!($name, $($fields)*) } else { $crate::tracing::Span::none() }
    };
}

/// Whether what runs now belongs to a trace.
#[must_use]
pub fn is_traced() -> bool {
    Context::map_current(TraceContextExt::has_active_span)
}

/// Where in which trace the caller is; none when nothing is exported.
#[must_use]
pub fn current() -> Option<TraceParent> {
    Context::map_current(|context| TraceParent::of(context.span().span_context()))
}

/// Where in which trace a span is, which cannot be given another parent from here on; none when it is not exported.
#[must_use]
pub fn context(span: &Span) -> Option<TraceParent> {
    TraceParent::of(span.context().span().span_context())
}

/// Puts a new span beneath a parent elsewhere; without one it begins a trace.
pub fn follow(span: &Span, parent: Option<TraceParent>) {
    if let Some(parent) = parent {
        // Refused only for a span that is not exported.
        drop(span.set_parent(Context::new().with_remote_span_context(parent.as_remote())));
    }
}

/// Notes in a span why its work failed: the reason's word, never a message.
pub fn fail(span: &Span, reason: Reason) {
    span.record("reason", reason.word());
    span.record("otel.status_code", "ERROR");
}

/// Does work within a span, and notes in it how that ended.
///
/// # Errors
/// The work's.
pub async fn record<T>(span: Span, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let outcome = work.instrument(span.clone()).await;
    if let Err(failure) = &outcome {
        fail(&span, failure.reason);
    }
    outcome
}
