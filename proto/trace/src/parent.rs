//! A place in a trace, in the form of W3C Trace Context (`traceparent`): it crosses HTTP, gRPC, and a crash in the store.

use std::fmt;
use std::str::FromStr;

use nemordp_types::Failure;
use opentelemetry::trace::{SpanContext, SpanId, TraceFlags, TraceId, TraceState};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Length of the text in the only version there is, 00.
const LENGTH: usize = 55;

/// The span beneath which further ones hang, and whether anybody keeps them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceParent {
    trace_id: TraceId,
    span_id: SpanId,
    sampled: bool,
}

impl TraceParent {
    /// The name of the header and of the gRPC metadata.
    pub const NAME: &'static str = "traceparent";

    /// The trace's id, 32 hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> String {
        self.trace_id.to_string()
    }

    pub(crate) fn of(context: &SpanContext) -> Option<Self> {
        context.is_valid().then(|| Self {
            trace_id: context.trace_id(),
            span_id: context.span_id(),
            sampled: context.is_sampled(),
        })
    }

    pub(crate) fn as_remote(&self) -> SpanContext {
        let flags = if self.sampled { TraceFlags::SAMPLED } else { TraceFlags::default() };
        SpanContext::new(self.trace_id, self.span_id, flags, true, TraceState::default())
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// Lower-case hexadecimal digits of exactly this many bytes, not all of them zero.
fn id(text: &str, bytes: usize) -> Option<&str> {
    let digits = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (text.len() == bytes * 2 && text.bytes().all(digits) && text.bytes().any(|b| b != b'0')).then_some(text)
}

fn byte(text: &str) -> Option<u8> {
    let digits = text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    u8::from_str_radix(text, 16).ok().filter(|_| digits)
}

/// As <https://www.w3.org/TR/trace-context/#traceparent-header> has it: a later version may say more at its end.
fn read(text: &str) -> Option<TraceParent> {
    let (head, rest) = text.split_at_checked(LENGTH)?;
    let mut parts = head.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let version = byte(version)?;
    let known = if version == 0 { rest.is_empty() } else { rest.is_empty() || rest.starts_with('-') };
    if version == u8::MAX || !known || parts.next().is_some() {
        return None;
    }
    let flags = byte(flags)?;
    Some(TraceParent {
        trace_id: TraceId::from_hex(id(trace, 16)?).ok()?,
        span_id: SpanId::from_hex(id(span, 8)?).ok()?,
        sampled: flags & 1 == 1,
    })
}

impl FromStr for TraceParent {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        read(text).ok_or_else(|| Failure::field(Self::NAME, "use the form 00-<trace id>-<span id>-<flags>"))
    }
}

impl Serialize for TraceParent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceParent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn what_was_read_is_written_alike() {
        let parent: TraceParent = GOOD.parse().unwrap();
        assert_eq!(parent.to_string(), GOOD);
        assert_eq!(parent.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(TraceParent::of(&parent.as_remote()), Some(parent));
        let unsampled = GOOD.replace("-01", "-00");
        assert_eq!(unsampled.parse::<TraceParent>().unwrap().to_string(), unsampled);
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        let later = GOOD.replacen("00", "cc", 1);
        for text in [later.clone(), format!("{later}-what-it-says")] {
            assert_eq!(text.parse::<TraceParent>().unwrap().to_string(), GOOD, "{text}");
        }
    }

    #[test]
    fn what_breaks_the_form_is_no_parent() {
        for bad in [
            "",
            "00",
            "+0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0g",
            "0é-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(bad.parse::<TraceParent>().is_err(), "{bad}");
        }
    }
}
