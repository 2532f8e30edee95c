//! Lists in pages, and causes inside answers.

use nemordp_types::Failure;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why something inside an answer did not work: the same words as in a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Fault {
    /// The machine-readable cause.
    #[schema(example = "disk_full")]
    pub reason: String,
    /// What to do about it.
    pub message: String,
    /// The field at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl From<&Failure> for Fault {
    fn from(failure: &Failure) -> Self {
        Self {
            reason: failure.reason.word().to_owned(),
            message: failure.message.clone(),
            field: failure.field.clone(),
        }
    }
}

/// Defines a page of a list.
macro_rules! page {
    ($(#[$doc:meta])* $name:ident of $item:ty) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
        pub struct $name {
            /// In the order of their making, oldest first (catalogue entries by name).
            pub items: Vec<$item>,
            /// Give it back as `cursor` for the next page; absent on the last one. Its form says nothing.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub next_cursor: Option<String>,
        }
    };
}

pub(crate) use page;
