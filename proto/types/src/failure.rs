//! A reason with what is said about it: to the outside the message and the field, to the operator the context.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::reason::Reason;

/// Why something was refused or did not work, in the form that crosses crates, the wire and the store.
///
/// `message` may be shown to anybody and names the fix; `context` is for logs and operators and never leaves through the
/// public API.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Failure {
    /// The machine-readable cause.
    pub reason: Reason,
    /// What a caller reads; says what to do about it.
    pub message: String,
    /// The request field that is at fault, in the caller's spelling (`plan`, `disk_gib`, …).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What only the operator reads: the chain of errors beneath.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
}

impl Failure {
    /// A failure with its public message.
    #[must_use]
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), field: None, context: None }
    }

    /// A bad value in a request field.
    #[must_use]
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { reason: Reason::InvalidArgument, message: message.into(), field: Some(field.into()), context: None }
    }

    /// Something inside broke; the caller learns only that, the operator gets the context.
    #[must_use]
    pub fn internal(context: impl fmt::Display) -> Self {
        Self {
            reason: Reason::Internal,
            message: "something inside failed; the operator finds the cause in the log".to_owned(),
            field: None,
            context: Some(context.to_string()),
        }
    }

    /// Names the field at fault.
    #[must_use]
    pub fn with_field(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// Puts a parent in front of the field's name: `spec.` + `memory_mib`.
    #[must_use]
    pub fn within(mut self, parent: &str) -> Self {
        self.field = Some(match self.field {
            Some(field) => format!("{parent}.{field}"),
            None => parent.to_owned(),
        });
        self
    }

    /// Adds what only the operator reads.
    #[must_use]
    pub fn with_context(mut self, context: impl fmt::Display) -> Self {
        self.context = Some(context.to_string());
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.field {
            Some(field) => write!(f, "{}: {field}: {}", self.reason, self.message),
            None => write!(f, "{}: {}", self.reason, self.message),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        if let Some(context) = &self.context {
            write!(f, " [{context}]")?;
        }
        Ok(())
    }
}
