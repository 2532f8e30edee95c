//! Whether one agent speaks for a node, or two with the same certificate.
//!
//! Each process of an agent draws a random session and counts its heartbeats. A restart looks like a new session after
//! which the old one is silent. An old session that goes on speaking is another process that still runs: the certificate
//! was copied, or the machine was. One late heartbeat of a process that has just ended is no proof, since it may have been
//! on its way; an agent has one under way at most, so two are.

use nemordp_types::Failure;

/// Heartbeats of a session, after another has taken its place, that prove a second process.
const PROOF: u32 = 2;

/// One process of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentSession(pub [u8; 16]);

impl AgentSession {
    /// From what a heartbeat carries; none from an agent that is too old to say.
    ///
    /// # Errors
    /// It has another length.
    pub fn from_wire(bytes: &[u8]) -> Result<Option<Self>, Failure> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let bytes = bytes.try_into().map_err(|_| Failure::field("session_id", "use 16 random bytes"))?;
        Ok(Some(Self(bytes)))
    }
}

/// What is remembered of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionTrace {
    /// Its last heartbeat.
    pub beat: u64,
    /// Heartbeats of it that came after another session's first one.
    pub returns: u32,
    /// Whether another session began after it.
    pub superseded: bool,
}

/// What a heartbeat of a session shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionSign {
    /// A process that was not known: an agent started.
    Began,
    /// The present process goes on, or a heartbeat came that was overtaken.
    Goes(SessionTrace),
    /// Two processes speak for the node.
    Doubled(SessionTrace),
}

/// What heartbeat number `beat` of a session shows, given what was known of that session.
#[must_use]
pub fn judge(known: Option<SessionTrace>, beat: u64) -> SessionSign {
    let Some(known) = known else { return SessionSign::Began };
    if beat <= known.beat {
        return SessionSign::Goes(known);
    }
    let returns = known.returns + u32::from(known.superseded);
    let trace = SessionTrace { beat, returns, ..known };
    if returns >= PROOF { SessionSign::Doubled(trace) } else { SessionSign::Goes(trace) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays heartbeats (session, beat) against a memory like the store's; gives the index that proves two processes.
    fn doubled_at(beats: &[(u8, u64)]) -> Option<usize> {
        let mut known: Vec<(u8, SessionTrace)> = Vec::new();
        beats.iter().position(|(session, beat)| {
            let found = known.iter().position(|(other, _)| other == session);
            match judge(found.map(|index| known[index].1), *beat) {
                SessionSign::Began => {
                    known.iter_mut().for_each(|(_, trace)| trace.superseded = true);
                    known.push((*session, SessionTrace { beat: *beat, returns: 0, superseded: false }));
                    false
                }
                SessionSign::Goes(trace) => {
                    known[found.unwrap()].1 = trace;
                    false
                }
                SessionSign::Doubled(_) => true,
            }
        })
    }

    #[test]
    fn restarts_and_late_heartbeats_are_no_copies() {
        assert_eq!(doubled_at(&[(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)]), None);
        assert_eq!(doubled_at(&[(1, 1), (2, 1), (1, 2), (2, 2), (2, 3)]), None, "one was on its way");
        assert_eq!(doubled_at(&[(1, 1), (2, 1), (1, 2), (1, 2), (1, 1)]), None, "the same one, sent again");
    }

    #[test]
    fn two_processes_that_take_turns_are_found_with_the_second_return() {
        assert_eq!(doubled_at(&[(1, 1), (2, 1), (1, 2), (2, 2), (1, 3)]), Some(4));
        assert_eq!(doubled_at(&[(1, 7), (2, 1), (2, 2), (2, 3), (1, 8), (2, 4), (1, 9)]), Some(6));
        // A process that only the second of them supersedes is found as well.
        assert_eq!(doubled_at(&[(1, 1), (2, 1), (3, 1), (2, 2), (2, 3)]), Some(4));
    }

    #[test]
    fn a_session_has_sixteen_bytes() {
        assert_eq!(AgentSession::from_wire(&[]).unwrap(), None);
        assert_eq!(AgentSession::from_wire(&[7; 16]).unwrap(), Some(AgentSession([7; 16])));
        assert_eq!(AgentSession::from_wire(&[7; 15]).unwrap_err().field.as_deref(), Some("session_id"));
    }
}
