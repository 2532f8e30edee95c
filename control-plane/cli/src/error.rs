//! What can go wrong on the way, each with the exit code that scripts see.

use nemordp_api::{Fault, Problem};

/// Everything that ends a command early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something given on the command line cannot be used.
    #[error("{0}")]
    Usage(String),
    /// The API refused the request.
    #[error("{}", refusal(.0))]
    Refused(Box<Problem>),
    /// The operation ended without success.
    #[error("operation {id} ended as {status}{}", cause(.fault.as_deref()))]
    OperationFailed {
        /// Its id.
        id: String,
        /// Its last status.
        status: String,
        /// Why.
        fault: Option<Box<Fault>>,
    },
    /// An audit found something.
    #[error("{count} findings: each names its fix")]
    Findings {
        /// How many.
        count: usize,
    },
    /// Nobody answers, or the connection broke.
    #[error("the control plane at {url} cannot be reached: {why}; is it running, is --url right?")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What the network said.
        why: String,
    },
    /// The answer is not what this version understands.
    #[error("the answer to {what} cannot be read: {why}; are client and control plane of one version?")]
    Answer {
        /// Of which request.
        what: String,
        /// Why not.
        why: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: String,
        /// Why.
        why: String,
    },
    /// The output could not be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
}

impl Error {
    /// The process's exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) | Self::File { .. } => 2,
            Self::Refused(problem) => match problem.status {
                404 => 4,
                409 | 410 => 5,
                400..=499 => 3,
                _ => 7,
            },
            Self::OperationFailed { .. } | Self::Findings { .. } => 6,
            Self::Unreachable { .. } | Self::Answer { .. } | Self::Output(_) => 7,
        }
    }
}

fn refusal(problem: &Problem) -> String {
    let field = problem.field.as_ref().map(|field| format!("{field}: ")).unwrap_or_default();
    let request = problem.request_id.as_ref().map(|id| format!(", request {id}")).unwrap_or_default();
    format!("{field}{} ({}{request})", problem.detail, problem.reason)
}

fn cause(fault: Option<&Fault>) -> String {
    fault.map(|fault| format!(": {} ({})", fault.message, fault.reason)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> Error {
        Error::Refused(Box::new(Problem {
            kind: "/problems/x".to_owned(),
            title: "x".to_owned(),
            status,
            detail: "no plan of this name".to_owned(),
            reason: "unknown_plan".to_owned(),
            field: Some("plan".to_owned()),
            request_id: None,
        }))
    }

    #[test]
    fn scripts_can_tell_the_kinds_apart() {
        let codes: Vec<u8> =
            [400, 401, 404, 409, 422, 500, 503].into_iter().map(|status| refused(status).exit_code()).collect();
        assert_eq!(codes, [3, 3, 4, 5, 3, 7, 7]);
    }

    #[test]
    fn a_refusal_names_field_and_reason() {
        assert_eq!(refused(422).to_string(), "plan: no plan of this name (unknown_plan)");
    }
}
