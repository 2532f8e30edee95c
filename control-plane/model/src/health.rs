//! Whether a node lives, from the age of its last heartbeat.

use std::time::Duration;

use jiff::Timestamp;
use nemordp_types::node::NodeAvailability;
use nemordp_types::{Failure, Reason};
use serde::{Deserialize, Serialize};

/// How far a node's clock may be off. Certificates, suspensions and usage rest on it.
pub const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);

/// After which silence a node is suspect, and lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthPolicy {
    /// Silence after which no new instance goes there.
    pub suspect_after: Duration,
    /// Silence after which an operator is called.
    pub lost_after: Duration,
}

impl Default for HealthPolicy {
    fn default() -> Self {
        Self { suspect_after: Duration::from_secs(30), lost_after: Duration::from_secs(180) }
    }
}

impl HealthPolicy {
    /// Refuses zero, and a node that is lost before it is suspect.
    pub fn check(self) -> Result<Self, Failure> {
        if self.suspect_after.is_zero() || self.lost_after <= self.suspect_after {
            return Err(Failure::field("lost_after", "use more than suspect_after, and that more than zero"));
        }
        Ok(self)
    }

    /// What is to be thought of a node now.
    ///
    /// A fenced node stays fenced whatever it says: only an operator, who knows that what was moved away cannot run
    /// twice, takes that back. A heartbeat from the future (the clock jumped back) counts as fresh.
    #[must_use]
    pub fn availability(
        &self,
        current: NodeAvailability,
        last_heartbeat_at: Option<Timestamp>,
        now: Timestamp,
    ) -> NodeAvailability {
        if current == NodeAvailability::Fenced {
            return NodeAvailability::Fenced;
        }
        let Some(last) = last_heartbeat_at else { return NodeAvailability::Unknown };
        let silence = Duration::try_from(now.duration_since(last)).unwrap_or(Duration::ZERO);
        if silence >= self.lost_after {
            NodeAvailability::Lost
        } else if silence >= self.suspect_after {
            NodeAvailability::Suspect
        } else {
            NodeAvailability::Available
        }
    }
}

/// Whether an operator's word that a node is off can be believed: not while it speaks.
///
/// # Errors
/// `conflict`, with what to do first.
pub fn may_be_fenced(availability: NodeAvailability) -> Result<(), Failure> {
    let refuse = |message: &str| Err(Failure::new(Reason::Conflict, message).with_field("availability"));
    match availability {
        NodeAvailability::Lost | NodeAvailability::Fenced => Ok(()),
        NodeAvailability::Available => refuse(
            "the node still sends heartbeats, so it is not off: switch the machine off, and fence it once it is lost",
        ),
        NodeAvailability::Suspect => refuse(
            "the node's heartbeats stopped only just now: make sure that the machine is off, and fence it once it is lost",
        ),
        NodeAvailability::Unknown => {
            refuse("the node has not sent a heartbeat since it enrolled or was unfenced: there is nothing to fence")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_node_that_is_lost_can_be_fenced() {
        use NodeAvailability::{Available, Fenced, Lost, Suspect, Unknown};
        for (availability, may) in
            [(Lost, true), (Fenced, true), (Available, false), (Suspect, false), (Unknown, false)]
        {
            assert_eq!(may_be_fenced(availability).is_ok(), may, "{availability:?}");
        }
    }

    #[test]
    fn silence_makes_suspect_then_lost_and_a_heartbeat_heals() {
        let policy = HealthPolicy::default().check().unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        let see = |now| policy.availability(NodeAvailability::Available, Some(at(1_000)), at(now));
        assert_eq!(see(1_029), NodeAvailability::Available);
        assert_eq!(see(1_030), NodeAvailability::Suspect);
        assert_eq!(see(1_179), NodeAvailability::Suspect);
        assert_eq!(see(1_180), NodeAvailability::Lost);
        assert_eq!(see(900), NodeAvailability::Available);
        assert_eq!(
            policy.availability(NodeAvailability::Lost, Some(at(1_000)), at(1_001)),
            NodeAvailability::Available
        );
        assert_eq!(policy.availability(NodeAvailability::Unknown, None, at(1)), NodeAvailability::Unknown);
    }

    #[test]
    fn a_fenced_node_stays_fenced() {
        let policy = HealthPolicy::default();
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(policy.availability(NodeAvailability::Fenced, Some(now), now), NodeAvailability::Fenced);
    }
}
