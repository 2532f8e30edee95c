//! The closed list of causes, the same in HTTP, gRPC, logs and metrics.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What can be done about a cause, by the saga that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same again may work: retried with jitter, within bounds.
    Transient,
    /// Not here: another node may take it.
    Elsewhere,
    /// Nothing changes by trying: undo.
    Permanent,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $retry:ident;)*) => {
        /// Machine-readable cause; its word is the last part of a problem's `type` (RFC 9457) and stands in every
        /// transport as it is here. Words are never reused for another meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        pub enum Reason {
            $($(#[$doc])* #[serde(rename = $word)] $variant,)*
        }

        impl Reason {
            /// Every reason, for tables and documentation.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The word that stands in every transport.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Reason::$variant => $word,)* }
            }

            /// The reason of a word that was received.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Reason::$variant),)* _ => None }
            }

            /// What a saga may do about it.
            #[must_use]
            pub const fn retry(self) -> Retry {
                match self { $(Reason::$variant => Retry::$retry,)* }
            }
        }
    };
}

reasons! {
    // requests
    /// A field has a value that cannot be used.
    InvalidArgument = "invalid_argument", Permanent;
    /// No such thing, or not the caller's.
    NotFound = "not_found", Permanent;
    /// The name is taken.
    AlreadyExists = "already_exists", Permanent;
    /// No credential, or one that is not known.
    Unauthenticated = "unauthenticated", Permanent;
    /// Known, but not allowed.
    Forbidden = "forbidden", Permanent;
    /// The state of the thing does not allow it now.
    Conflict = "conflict", Permanent;
    /// The same Idempotency-Key came with another request.
    IdempotencyKeyReused = "idempotency_key_reused", Permanent;
    /// A POST without its Idempotency-Key.
    IdempotencyKeyMissing = "idempotency_key_missing", Permanent;
    /// The first request with this Idempotency-Key is still being worked on.
    IdempotencyKeyInUse = "idempotency_key_in_use", Transient;
    /// The body is larger than allowed.
    PayloadTooLarge = "payload_too_large", Permanent;
    /// Too many requests.
    RateLimited = "rate_limited", Transient;
    // catalogue
    /// No plan of this name is on sale.
    UnknownPlan = "unknown_plan", Permanent;
    /// No template of this name is registered.
    UnknownTemplate = "unknown_template", Permanent;
    /// No node or cloud has this region.
    UnknownRegion = "unknown_region", Permanent;
    /// The disk is smaller than the template, or than it is already.
    DiskTooSmall = "disk_too_small", Permanent;
    // capacity
    /// Nothing fits, neither on a node nor on a cloud.
    CapacityExhausted = "capacity_exhausted", Elsewhere;
    /// The node's ports are all claimed or resting.
    PortPoolExhausted = "port_pool_exhausted", Elsewhere;
    /// The node's private addresses are all claimed or resting.
    AddressPoolExhausted = "address_pool_exhausted", Elsewhere;
    // templates
    /// The template's bytes are not there.
    TemplateMissing = "template_missing", Permanent;
    /// The bytes end before the announced size.
    TemplateTruncated = "template_truncated", Transient;
    /// The bytes are not those of the digest.
    TemplateDigestMismatch = "template_digest_mismatch", Permanent;
    // nodes and identities
    /// The node does not answer.
    NodeUnreachable = "node_unreachable", Transient;
    /// The node takes no new instances.
    NodeCordoned = "node_cordoned", Elsewhere;
    /// An operator stated that the node is off: nothing can be done there.
    NodeFenced = "node_fenced", Elsewhere;
    /// The certificate is another node's, or has another role.
    IdentityMismatch = "identity_mismatch", Permanent;
    /// The certificate was revoked.
    CertificateRevoked = "certificate_revoked", Permanent;
    /// No such enrollment ticket.
    TicketInvalid = "ticket_invalid", Permanent;
    /// The enrollment ticket is too old.
    TicketExpired = "ticket_expired", Permanent;
    /// The enrollment ticket was used with another key.
    TicketReused = "ticket_reused", Permanent;
    // fencing
    /// Newer work was seen for this instance.
    StaleGeneration = "stale_generation", Permanent;
    /// The instance was deleted here; its tombstone refuses late work.
    InstanceDeleted = "instance_deleted", Permanent;
    /// The node has seen newer numbers than the store knows: the store was restored from a backup.
    StoreBehindNode = "store_behind_node", Permanent;
    /// The domain does not carry our mark.
    NotOurs = "not_ours", Permanent;
    // host
    /// libvirt, Proxmox or the host's tools refused.
    HostFailure = "host_failure", Transient;
    /// The storage has no room left.
    DiskFull = "disk_full", Elsewhere;
    /// The host's network or firewall could not be set.
    NetworkFailure = "network_failure", Transient;
    // guest
    /// The guest did not come up in time.
    GuestBootTimeout = "guest_boot_timeout", Elsewhere;
    /// The guest agent does not answer.
    GuestAgentTimeout = "guest_agent_timeout", Transient;
    /// The guest agent answered with an error.
    GuestAgentFailure = "guest_agent_failure", Transient;
    /// The guest does not have the address that was ordered.
    AddressNotConfirmed = "address_not_confirmed", Transient;
    // login proof
    /// The login was refused: wrong password.
    LoginWrongPassword = "login_wrong_password", Transient;
    /// The login was refused: the account may not log in.
    LoginAccountState = "login_account_state", Permanent;
    /// The login was cut without a reason.
    LoginDropped = "login_dropped", Transient;
    /// Nobody answers at the endpoint.
    LoginNoAnswer = "login_no_answer", Transient;
    /// Something answers that is not RDP.
    LoginNotRdp = "login_not_rdp", Permanent;
    /// The RDP server refuses the security protocol.
    LoginNegotiationRefused = "login_negotiation_refused", Permanent;
    /// The RDP server shows another certificate than the guest's.
    LoginCertificateMismatch = "login_certificate_mismatch", Permanent;
    /// The login did not finish in time.
    LoginTimedOut = "login_timed_out", Transient;
    // general
    /// Somebody asked to stop.
    Cancelled = "cancelled", Permanent;
    /// A deadline passed.
    DeadlineExceeded = "deadline_exceeded", Transient;
    /// Not now; try again.
    Unavailable = "unavailable", Transient;
    /// The credentials were shown already; nobody has them any more.
    AlreadyRevealed = "already_revealed", Permanent;
    /// A defect inside.
    Internal = "internal", Transient;
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_leads_back_to_its_reason_and_is_unique() {
        let mut words = std::collections::BTreeSet::new();
        for reason in Reason::ALL {
            assert_eq!(Reason::from_word(reason.word()), Some(*reason));
            assert!(words.insert(reason.word()), "{} stands twice", reason.word());
        }
        assert_eq!(Reason::from_word("no_such_word"), None);
    }
}
