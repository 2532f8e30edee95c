//! What libvirt's errors mean: the one table from its codes and words to reasons.

use nemordp_types::{Failure, Reason};
use virt::error::{Error, ErrorDomain, ErrorNumber};

/// Whether the connection is gone, so that the same call may work on a new one.
#[must_use]
pub fn is_lost(error: &Error) -> bool {
    let by_code = matches!(
        error.code(),
        ErrorNumber::InvalidConn | ErrorNumber::NoConnect | ErrorNumber::Rpc | ErrorNumber::NoServer
    );
    let words = [
        "Cannot recv data",
        "Cannot write data",
        "Broken pipe",
        "Connection reset",
        "Failed to connect socket",
        "End of file while reading data",
        "client socket is closed",
        "Unable to read from socket",
    ];
    let by_words = matches!(error.code(), ErrorNumber::SystemError | ErrorNumber::InternalError)
        && words.iter().any(|words| error.message().contains(words));
    by_code || by_words
}

/// Whether libvirt says that there is no such domain.
#[must_use]
pub fn is_absent(error: &Error) -> bool {
    error.code() == ErrorNumber::NoDomain || error.code() == ErrorNumber::NoNetwork
}

/// An error of libvirt itself.
#[must_use]
pub fn host(error: &Error) -> Failure {
    if error.message().contains("No space left on device") {
        return Failure::new(Reason::DiskFull, "the node's storage is full; free space there or add storage")
            .with_field("storage_class")
            .with_context(error);
    }
    if is_lost(error) {
        return Failure::new(Reason::HostFailure, "libvirt does not answer on this node; check its service")
            .with_context(error);
    }
    let reason = if error.domain() == ErrorDomain::Network { Reason::NetworkFailure } else { Reason::HostFailure };
    Failure::new(reason, "libvirt refused; the operator finds its words in the log").with_context(error)
}

/// An error of a call to a guest's agent.
#[must_use]
pub fn agent(error: &Error) -> Failure {
    let refused = error.code() == ErrorNumber::AgentCommandFailed
        || error.message().contains("unable to execute QEMU agent command");
    if refused {
        return crate::host::guest::agent::refused(&error.to_string());
    }
    let silent = matches!(
        error.code(),
        ErrorNumber::AgentUnresponsive | ErrorNumber::AgentCommandTimeout | ErrorNumber::AgentUnsynced
    ) || error.message().contains("agent is not");
    if silent {
        return silent_agent().with_context(error);
    }
    if error.code() == ErrorNumber::OperationInvalid {
        return Failure::new(Reason::GuestAgentTimeout, "the instance does not run; start it first")
            .with_context(error);
    }
    host(error)
}

/// The agent did not answer in time.
#[must_use]
pub fn silent_agent() -> Failure {
    Failure::new(Reason::GuestAgentTimeout, "the guest agent does not answer; check that it runs in the template")
}
