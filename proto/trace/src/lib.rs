//! Traces: one order can be followed from the storefront's request to the hypervisor's call, across processes.
//!
//! Only spans made with [`span!`] and [`child!`] are exported, with the fields that stand there: no line of the log, no
//! span of a library, so that nothing leaves that was not meant to. Where no collector is configured these spans are
//! disabled at their place, and nothing of this runs.
//!
//! Map: [`TraceParent`] a place in a trace, as text · [`mod@span`] making spans, and joining them · [`metadata`] across
//! gRPC · [`Settings`] what the operator decides · [`Export`] to the collector.

mod export;
pub mod metadata;
mod parent;
mod patient;
mod settings;
pub mod span;

#[doc(hidden)]
pub use tracing;

pub use export::{Export, install, logs};
pub use parent::TraceParent;
pub use settings::Settings;
pub use span::{TARGET, context, current, fail, follow, is_traced, record};
