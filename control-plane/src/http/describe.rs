//! The OpenAPI document: what every operation shares.

use std::collections::BTreeMap;

use nemordp_api::{PROBLEM_MEDIA_TYPE, Problem};
use nemordp_types::Reason;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Content, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi, PartialSchema as _, ToSchema as _};

use super::error::status;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "NemoRDP",
        description = "Remote desktops, from an order to a proven login. Keys go into `Authorization: Bearer …`; every POST \
                       that changes something needs an `Idempotency-Key`, except creating a credentials link and revealing \
                       it, whose answers are secrets and are never kept, and except asking for an audit or a reconciler's \
                       run. Long work answers 202 with an operation whose \
                       steps can be watched. Errors are problem documents (RFC 9457) whose `type` ends in a reason of a \
                       closed list, explained at `/problems`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Problem)),
    tags(
        (name = "orders", description = "What a storefront places and follows"),
        (name = "instances", description = "The customers' desktops"),
        (name = "catalogue", description = "Plans, templates, what can be had where"),
        (name = "nodes", description = "Machines and their tickets"),
        (name = "operator", description = "Tenants, keys, events, sagas, reconcilers, health"),
    ),
    modifiers(&Shared),
)]
pub(super) struct Document;

struct Shared;

impl Modify for Shared {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let mut scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer);
        scheme = scheme.description(Some("An API key (`nrk1.…`). Each operation names the scope that it demands."));
        if let Some(components) = document.components.as_mut() {
            components.add_security_scheme("api_key", SecurityScheme::Http(scheme.build()));
        }
    }
}

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident: $($reason:ident),*;)*) => {$(
        $(#[$doc])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                responses(&[$(Reason::$reason),*])
            }
        }
    )*};
}

errors! {
    /// What a read may be refused with.
    ReadErrors: InvalidArgument, Unauthenticated, Forbidden, NotFound, RateLimited, Unavailable, Internal;
    /// What a change may be refused with.
    ChangeErrors: InvalidArgument, IdempotencyKeyMissing, Unauthenticated, Forbidden, NotFound, Conflict,
        IdempotencyKeyInUse, PayloadTooLarge, IdempotencyKeyReused, RateLimited, Unavailable, Internal;
    /// What a larger size may be refused with.
    ResizeErrors: InvalidArgument, DiskTooSmall, IdempotencyKeyMissing, Unauthenticated, Forbidden, NotFound, Conflict,
        CapacityExhausted, IdempotencyKeyInUse, PayloadTooLarge, IdempotencyKeyReused, RateLimited, Unavailable, Internal;
    /// What a fresh disk may be refused with.
    ReinstallErrors: InvalidArgument, UnknownTemplate, DiskTooSmall, IdempotencyKeyMissing, Unauthenticated, Forbidden,
        NotFound, Conflict, IdempotencyKeyInUse, PayloadTooLarge, IdempotencyKeyReused, RateLimited, Unavailable, Internal;
    /// What an order may be refused with.
    OrderErrors: InvalidArgument, UnknownPlan, UnknownTemplate, UnknownRegion, DiskTooSmall, IdempotencyKeyMissing,
        Unauthenticated, Forbidden, CapacityExhausted, PortPoolExhausted, AddressPoolExhausted, IdempotencyKeyInUse,
        PayloadTooLarge, IdempotencyKeyReused, RateLimited, Unavailable, Internal;
    /// What a template's bytes may be refused with.
    UploadErrors: InvalidArgument, TemplateTruncated, TemplateDigestMismatch, Unauthenticated, Forbidden,
        PayloadTooLarge, DiskFull, RateLimited, Internal;
    /// What a credentials link may be refused with.
    RevealErrors: InvalidArgument, NotFound, AlreadyRevealed, RateLimited, Internal;
}

/// One response per status; its description lists the reasons.
fn responses(reasons: &[Reason]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<u16, Vec<&str>> = BTreeMap::new();
    for reason in reasons {
        by_status.entry(status(*reason).as_u16()).or_default().push(reason.word());
    }
    by_status
        .into_iter()
        .map(|(status, words)| {
            let schema = utoipa::openapi::Ref::from_schema_name(Problem::name());
            let response = ResponseBuilder::new()
                .description(words.join(", "))
                .content(PROBLEM_MEDIA_TYPE, Content::new(Some(schema)))
                .build();
            (status.to_string(), RefOr::T(response))
        })
        .collect()
}

/// The document without a server: routes that exist only with one are not part of the contract.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    debug_assert!(matches!(Problem::schema(), RefOr::T(_)), "the problem's schema is a part of the document");
    super::routes().1
}
