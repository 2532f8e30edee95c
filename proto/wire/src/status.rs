//! The one table between reasons and gRPC codes. The whole failure travels in the status's details.

use nemordp_types::{Failure, Reason};
use prost::Message as _;
use tonic::{Code, Status};

use crate::mtls::explain;
use crate::v1;

/// The gRPC code of a reason.
#[must_use]
pub const fn code(reason: Reason) -> Code {
    match reason {
        Reason::InvalidArgument
        | Reason::IdempotencyKeyReused
        | Reason::IdempotencyKeyMissing
        | Reason::UnknownPlan
        | Reason::UnknownTemplate
        | Reason::UnknownRegion
        | Reason::DiskTooSmall => Code::InvalidArgument,
        Reason::NotFound | Reason::TemplateMissing => Code::NotFound,
        Reason::AlreadyExists => Code::AlreadyExists,
        Reason::Unauthenticated | Reason::TicketInvalid | Reason::TicketExpired | Reason::CertificateRevoked => {
            Code::Unauthenticated
        }
        Reason::Forbidden | Reason::IdentityMismatch | Reason::TicketReused | Reason::NotOurs => Code::PermissionDenied,
        Reason::Conflict | Reason::IdempotencyKeyInUse => Code::Aborted,
        Reason::PayloadTooLarge
        | Reason::RateLimited
        | Reason::CapacityExhausted
        | Reason::PortPoolExhausted
        | Reason::AddressPoolExhausted
        | Reason::DiskFull => Code::ResourceExhausted,
        Reason::TemplateTruncated | Reason::TemplateDigestMismatch => Code::DataLoss,
        Reason::NodeCordoned
        | Reason::NodeFenced
        | Reason::StaleGeneration
        | Reason::InstanceDeleted
        | Reason::StoreBehindNode
        | Reason::GuestAgentFailure
        | Reason::AddressNotConfirmed
        | Reason::AlreadyRevealed
        | Reason::LoginWrongPassword
        | Reason::LoginAccountState
        | Reason::LoginDropped
        | Reason::LoginNotRdp
        | Reason::LoginNegotiationRefused
        | Reason::LoginCertificateMismatch => Code::FailedPrecondition,
        Reason::NodeUnreachable | Reason::Unavailable | Reason::LoginNoAnswer => Code::Unavailable,
        Reason::GuestBootTimeout | Reason::GuestAgentTimeout | Reason::LoginTimedOut | Reason::DeadlineExceeded => {
            Code::DeadlineExceeded
        }
        Reason::Cancelled => Code::Cancelled,
        Reason::HostFailure | Reason::NetworkFailure | Reason::Internal => Code::Internal,
    }
}

/// The status of a failure.
#[must_use]
pub fn to_status(failure: &Failure) -> Status {
    let details = v1::Failure::from(failure).encode_to_vec();
    Status::with_details(code(failure.reason), failure.message.clone(), details.into())
}

/// The failure of a status: the one in its details, or, for a status that tonic itself made, what its code says.
#[must_use]
pub fn from_status(status: &Status) -> Failure {
    if !status.details().is_empty()
        && let Ok(message) = v1::Failure::decode(status.details())
        && !message.reason.is_empty()
    {
        return message.into();
    }
    let reason = match status.code() {
        Code::Unavailable | Code::Unknown => Reason::NodeUnreachable,
        Code::DeadlineExceeded => Reason::DeadlineExceeded,
        Code::Cancelled => Reason::Unavailable,
        Code::Unauthenticated => Reason::Unauthenticated,
        Code::PermissionDenied => Reason::Forbidden,
        Code::NotFound => Reason::NotFound,
        Code::InvalidArgument | Code::OutOfRange => Reason::InvalidArgument,
        Code::AlreadyExists => Reason::AlreadyExists,
        Code::ResourceExhausted => Reason::RateLimited,
        Code::FailedPrecondition | Code::Aborted => Reason::Conflict,
        Code::Ok | Code::Unimplemented | Code::Internal | Code::DataLoss => Reason::Internal,
    };
    let clocks = std::error::Error::source(status).and_then(explain::validity);
    let message = if let Some(clocks) = &clocks {
        clocks.as_str()
    } else if reason == Reason::NodeUnreachable {
        "the other side does not answer"
    } else if reason == Reason::DeadlineExceeded {
        "the other side did not answer in time"
    } else {
        "the call failed"
    };
    Failure::new(reason, message).with_context(format!("{:?}: {}", status.code(), status.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_survives_the_way_there_and_back() {
        for reason in Reason::ALL {
            let failure = Failure::new(*reason, "say what to do").with_field("plan").with_context("deep inside");
            assert_eq!(from_status(&to_status(&failure)), failure);
            assert_ne!(code(*reason), Code::Ok);
        }
    }

    #[test]
    fn a_status_without_details_gets_a_reason_from_its_code() {
        let failure = from_status(&Status::unavailable("tcp connect error"));
        assert_eq!(failure.reason, Reason::NodeUnreachable);
        assert!(failure.context.unwrap().contains("tcp connect error"));
    }
}
