//! The saga's trace: each try of a step and each undo is a span beneath what asked for the saga, on whichever replica.

use nemordp_trace::{fail, follow, span};
use tracing::Span;
use tracing::field::Empty;

use super::{Carrier, Left, Rest};
use crate::saga::plan::Step;

impl Carrier<'_> {
    /// A saga that came without a trace, from a reconciler or before traces were exported, begins one; it is stored with
    /// the next write.
    pub(super) fn join_trace(&mut self) {
        if self.state.trace.is_none() {
            let begun = span!(
                parent: None,
                "saga",
                otel.name = self.saga.kind.word(),
                operation_id = %self.saga.id,
                order_id = self.saga.order_id.map(display),
                instance_id = self.saga.instance_id.map(display)
            );
            self.state.trace = nemordp_trace::context(&begun);
        }
    }

    /// One try of a step.
    pub(super) fn step_span(&self, step: Step) -> Span {
        self.span_of(step.name())
    }

    /// One try of undoing the present step.
    pub(super) fn undo_span(&self) -> Span {
        self.span_of(&format!("undo {}", self.step().map_or("none", Step::name)))
    }

    fn span_of(&self, name: &str) -> Span {
        let row = self.saga.steps.iter().find(|row| row.position == self.saga.step);
        let span = span!(
            parent: None,
            "saga step",
            otel.name = name,
            saga = self.saga.kind.word(),
            operation_id = %self.saga.id,
            order_id = self.saga.order_id.map(display),
            instance_id = self.saga.instance_id.map(display),
            position = i64::from(self.saga.step),
            attempt = row.map_or(0, |row| i64::from(row.attempts)),
            outcome = Empty
        );
        follow(&span, self.state.trace);
        span
    }
}

/// Notes how a try ended.
pub(super) fn note<T>(span: &Span, outcome: &Result<T, Left>) {
    let word = match outcome {
        Ok(_) => "done",
        Err(Left::Failed(failed)) => {
            fail(span, failed.failure.reason);
            "failed"
        }
        Err(Left::Cancelled) => "cancelled",
        Err(Left::Rest(Rest::Stopped)) => "stopped",
        Err(Left::Rest(Rest::Lost | Rest::Later | Rest::Ended)) => "lost",
    };
    span.record("outcome", word);
}
