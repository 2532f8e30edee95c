//! Failures on the wire.

use nemordp_types::{Failure, Reason};

use crate::v1;

impl From<&Failure> for v1::Failure {
    fn from(failure: &Failure) -> Self {
        Self {
            reason: failure.reason.word().to_owned(),
            message: failure.message.clone(),
            field: failure.field.clone().unwrap_or_default(),
            context: failure.context.clone().unwrap_or_default(),
        }
    }
}

impl From<v1::Failure> for Failure {
    /// A word that this version does not know (a newer peer) becomes `internal`, with the word in its context.
    fn from(message: v1::Failure) -> Self {
        let context = some(message.context);
        let (reason, context) = match Reason::from_word(&message.reason) {
            Some(reason) => (reason, context),
            None => (
                Reason::Internal,
                Some(format!("unknown reason {:?}: {}", message.reason, context.unwrap_or_default())),
            ),
        };
        Self { reason, message: message.message, field: some(message.field), context }
    }
}

/// Empty text stands for none.
fn some(text: String) -> Option<String> {
    if text.is_empty() { None } else { Some(text) }
}
