//! Typed ids: a UUIDv7 (RFC 9562) each, so that ids sort by the time they were made and cannot be confused.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::failure::Failure;
use crate::reason::Reason;

/// Makes a UUIDv7 from the given time and randomness.
#[must_use]
pub fn uuid_v7(clock: &dyn Clock, entropy: &dyn Entropy) -> Uuid {
    let mut random = [0u8; 10];
    entropy.fill(&mut random);
    let millis = u64::try_from(clock.now().as_millisecond()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident => $noun:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// What the id names, for messages.
            pub const NOUN: &'static str = $noun;

            /// A new id; time and randomness are the caller's.
            #[must_use]
            pub fn new(clock: &dyn Clock, entropy: &dyn Entropy) -> Self {
                Self(uuid_v7(clock, entropy))
            }

            /// Wraps a UUID that was stored or received.
            #[must_use]
            pub const fn from_uuid(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The UUID, for storage and the wire.
            #[must_use]
            pub const fn as_uuid(&self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = Failure;

            fn from_str(text: &str) -> Result<Self, Failure> {
                Uuid::parse_str(text).map(Self).map_err(|_| {
                    Failure::new(Reason::InvalidArgument, format!("not a valid {} id: give the UUID that the API returned", $noun))
                })
            }
        }
    )*};
}

ids! {
    /// One NemoRDP installation; written into every mark, so that two installations never touch each other's domains.
    InstallationId => "installation";
    /// An enrolled machine that runs the agent. Never reused.
    NodeId => "node";
    /// The customer's desktop VM; the same across restarts and moves.
    InstanceId => "instance";
    /// What a customer bought.
    OrderId => "order";
    /// One mutation on a node; the same across retries of the saga step that asks for it.
    OperationId => "operation";
    /// One intention that finishes or is undone; its public face in HTTP is an operation with this very id.
    SagaId => "saga";
    /// Capacity held on a node for an instance.
    ReservationId => "reservation";
    /// Whose customers.
    TenantId => "tenant";
    /// An API key; the secret part is stored hashed only.
    ApiKeyId => "API key";
    /// A one-use enrollment ticket.
    TicketId => "ticket";
    /// One event of the outbox.
    EventId => "event";
    /// A node's count of what one instance uses; a journal that was lost begins another.
    MeterId => "meter";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::entropy::SeededEntropy;

    #[test]
    fn ids_made_later_sort_later() {
        let clock = ManualClock::at_second(1_000);
        let entropy = SeededEntropy::new(7);
        let first = OrderId::new(&clock, &entropy);
        clock.advance(std::time::Duration::from_millis(2));
        let second = OrderId::new(&clock, &entropy);
        assert!(first < second);
        assert_eq!(first.as_uuid().get_version_num(), 7);
    }

    #[test]
    fn a_broken_id_is_refused_with_its_noun() {
        let failure = "nonsense".parse::<NodeId>().unwrap_err();
        assert!(failure.message.contains("node id"), "{}", failure.message);
    }
}
