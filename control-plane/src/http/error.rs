//! The one table between reasons and HTTP statuses, and the problem documents (RFC 9457) that carry them.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use nemordp_api::{PROBLEM_MEDIA_TYPE, Problem};
use nemordp_types::{Failure, Reason};

tokio::task_local! {
    /// The id of the request that is being answered.
    pub(super) static REQUEST_ID: String;
}

/// Where the explanation of a reason lies.
pub(super) const PROBLEMS: &str = "/problems/";

/// The HTTP status of a reason.
#[must_use]
pub const fn status(reason: Reason) -> StatusCode {
    match reason {
        Reason::InvalidArgument
        | Reason::IdempotencyKeyMissing
        | Reason::UnknownPlan
        | Reason::UnknownTemplate
        | Reason::UnknownRegion
        | Reason::DiskTooSmall
        | Reason::TemplateTruncated
        | Reason::TemplateDigestMismatch => StatusCode::BAD_REQUEST,
        Reason::Unauthenticated
        | Reason::TicketInvalid
        | Reason::TicketExpired
        | Reason::TicketReused
        | Reason::CertificateRevoked => StatusCode::UNAUTHORIZED,
        Reason::Forbidden | Reason::IdentityMismatch => StatusCode::FORBIDDEN,
        Reason::NotFound | Reason::TemplateMissing => StatusCode::NOT_FOUND,
        Reason::AlreadyExists
        | Reason::Conflict
        | Reason::IdempotencyKeyInUse
        | Reason::CapacityExhausted
        | Reason::PortPoolExhausted
        | Reason::AddressPoolExhausted
        | Reason::NodeCordoned
        | Reason::NodeFenced
        | Reason::StaleGeneration
        | Reason::InstanceDeleted
        | Reason::StoreBehindNode
        | Reason::NotOurs
        | Reason::Cancelled => StatusCode::CONFLICT,
        Reason::AlreadyRevealed => StatusCode::GONE,
        Reason::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Reason::IdempotencyKeyReused => StatusCode::UNPROCESSABLE_ENTITY,
        Reason::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Reason::DiskFull => StatusCode::INSUFFICIENT_STORAGE,
        Reason::HostFailure
        | Reason::NetworkFailure
        | Reason::GuestAgentFailure
        | Reason::AddressNotConfirmed
        | Reason::LoginWrongPassword
        | Reason::LoginAccountState
        | Reason::LoginDropped
        | Reason::LoginNoAnswer
        | Reason::LoginNotRdp
        | Reason::LoginNegotiationRefused
        | Reason::LoginCertificateMismatch => StatusCode::BAD_GATEWAY,
        Reason::NodeUnreachable | Reason::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Reason::GuestBootTimeout | Reason::GuestAgentTimeout | Reason::LoginTimedOut | Reason::DeadlineExceeded => {
            StatusCode::GATEWAY_TIMEOUT
        }
        Reason::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A reason in a sentence, the same each time.
#[must_use]
pub const fn title(reason: Reason) -> &'static str {
    match reason {
        Reason::InvalidArgument => "A field has a value that cannot be used.",
        Reason::NotFound => "No such thing, or not yours.",
        Reason::AlreadyExists => "The name is taken.",
        Reason::Unauthenticated => "No API key, or one that is not known.",
        Reason::Forbidden => "Known, but not allowed.",
        Reason::Conflict => "The state of the thing does not allow it now.",
        Reason::IdempotencyKeyReused => "The same Idempotency-Key came with another request.",
        Reason::IdempotencyKeyMissing => "A POST that changes something needs an Idempotency-Key.",
        Reason::IdempotencyKeyInUse => "The first request with this Idempotency-Key is still being worked on.",
        Reason::PayloadTooLarge => "The body is larger than allowed.",
        Reason::RateLimited => "Too many requests.",
        Reason::UnknownPlan => "No plan of this name is on sale.",
        Reason::UnknownTemplate => "No template of this name is registered.",
        Reason::UnknownRegion => "No region of this name.",
        Reason::DiskTooSmall => "The plan's disk is smaller than the template.",
        Reason::CapacityExhausted => "Nothing fits.",
        Reason::PortPoolExhausted => "All ports of the nodes are taken.",
        Reason::AddressPoolExhausted => "All private addresses of the nodes are taken.",
        Reason::TemplateMissing => "The template's bytes are not there.",
        Reason::TemplateTruncated => "The bytes end before the announced size.",
        Reason::TemplateDigestMismatch => "The bytes are not those of the digest.",
        Reason::NodeUnreachable => "The node does not answer.",
        Reason::NodeCordoned => "The node takes no new instances.",
        Reason::NodeFenced => "The node is off, as its operator says.",
        Reason::IdentityMismatch => "The certificate is another's, or has another role.",
        Reason::CertificateRevoked => "The certificate was revoked.",
        Reason::TicketInvalid => "No such enrollment ticket.",
        Reason::TicketExpired => "The enrollment ticket is too old.",
        Reason::TicketReused => "The enrollment ticket was used with another key.",
        Reason::StaleGeneration => "Newer work was seen for this instance.",
        Reason::InstanceDeleted => "The instance was deleted.",
        Reason::StoreBehindNode => "The store was restored from a backup; the operator looks.",
        Reason::NotOurs => "The machine does not belong to this installation.",
        Reason::HostFailure => "The node's hypervisor refused.",
        Reason::DiskFull => "The storage has no room left.",
        Reason::NetworkFailure => "The node's network could not be set.",
        Reason::GuestBootTimeout => "The guest did not come up in time.",
        Reason::GuestAgentTimeout => "The guest agent does not answer.",
        Reason::GuestAgentFailure => "The guest agent answered with an error.",
        Reason::AddressNotConfirmed => "The guest does not have the address that was ordered.",
        Reason::LoginWrongPassword => "The login was refused: wrong password.",
        Reason::LoginAccountState => "The login was refused: the account may not log in.",
        Reason::LoginDropped => "The login was cut without a reason.",
        Reason::LoginNoAnswer => "Nobody answers at the endpoint.",
        Reason::LoginNotRdp => "Something answers that is not RDP.",
        Reason::LoginNegotiationRefused => "The RDP server refuses the security protocol.",
        Reason::LoginCertificateMismatch => "The RDP server shows another certificate than the guest's.",
        Reason::LoginTimedOut => "The login did not finish in time.",
        Reason::Cancelled => "Somebody asked to stop.",
        Reason::DeadlineExceeded => "It took too long.",
        Reason::Unavailable => "Not now; try again.",
        Reason::AlreadyRevealed => "The credentials were shown already; nobody has them any more.",
        Reason::Internal => "Something inside failed.",
    }
}

/// A failure on its way to the caller.
#[derive(Debug)]
pub struct HttpError(pub Failure);

impl<E: Into<Failure>> From<E> for HttpError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// What a failure looks like outside; the context stays inside.
#[must_use]
pub fn problem(failure: &Failure, request_id: Option<String>) -> Problem {
    Problem {
        kind: format!("{PROBLEMS}{}", failure.reason),
        title: title(failure.reason).to_owned(),
        status: status(failure.reason).as_u16(),
        detail: failure.message.clone(),
        reason: failure.reason.word().to_owned(),
        field: failure.field.clone(),
        request_id,
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let failure = self.0;
        let status = status(failure.reason);
        if status.is_server_error() {
            tracing::error!(reason = %failure.reason, failure = ?failure, "request failed");
        } else {
            tracing::debug!(reason = %failure.reason, failure = ?failure, "request refused");
        }
        let request_id = REQUEST_ID.try_with(String::clone).ok();
        let mut response = (status, Json(problem(&failure, request_id))).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_MEDIA_TYPE));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match failure.reason.retry() {
            nemordp_types::Retry::Transient if status != StatusCode::INTERNAL_SERVER_ERROR => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            }
            nemordp_types::Retry::Transient | nemordp_types::Retry::Elsewhere | nemordp_types::Retry::Permanent => {}
        }
        if failure.reason == Reason::RateLimited {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
        }
        if failure.reason == Reason::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_an_error_and_keeps_its_context_inside() {
        for reason in Reason::ALL.iter().copied() {
            let failure = Failure::new(reason, "do this").with_field("plan").with_context("libvirt said no");
            let problem = problem(&failure, None);
            assert!(problem.status >= 400, "{reason}");
            assert_eq!(problem.kind.rsplit('/').next(), Some(reason.word()));
            assert!(!serde_json::to_string(&problem).unwrap().contains("libvirt"));
        }
    }
}
