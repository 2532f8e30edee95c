//! Whether an RDP server answers at an endpoint: TCP and the X.224 exchange, no TLS, no login.
//!
//! Cheap for the guest, and without any password, so that it may be asked again and again while the guest starts.

use std::net::SocketAddr;
use std::time::Duration;

use ironrdp_pdu::nego::SecurityProtocol;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};

use crate::frame::FrameError;
use crate::negotiation::{self, Answer};
use crate::verdict::NegotiationCause;

/// What one look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// An RDP server confirmed a connection.
    Ready,
    /// No TCP connection.
    NoAnswer {
        /// What the operating system said.
        detail: String,
    },
    /// TCP is there, but nothing was said in time: a port forward or a server that has just begun.
    Silent,
    /// Something else answered, or hung up; early in a guest's start this is no last word.
    NotRdp {
        /// What was seen.
        detail: String,
    },
    /// An RDP server that refuses every security mode that can be asked for.
    Refused(NegotiationCause),
}

impl Readiness {
    /// Whether a proof may begin.
    #[must_use]
    pub const fn is_ready(&self) -> bool {
        matches!(self, Self::Ready)
    }
}

/// A lost SYN is repeated by the kernel only after 1 s, then 3 s: a new attempt is sooner.
const CONNECT_PATIENCE: Duration = Duration::from_millis(1000);
/// A server that took the connection gets longer: an emulated guest may need seconds to answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Looks once, at most until the deadline.
pub async fn readiness(address: SocketAddr, deadline: Duration) -> Readiness {
    let end = Instant::now() + deadline;
    look(address, deadline, deadline, end).await
}

/// Looks again, with growing pauses of up to a second, until an RDP server answers or the deadline has passed; tells each
/// look to `progress` and returns the last one.
pub async fn wait_until_ready(
    address: SocketAddr,
    deadline: Duration,
    mut progress: impl FnMut(&Readiness) + Send,
) -> Readiness {
    let end = Instant::now() + deadline;
    let mut pause = FIRST_PAUSE;
    loop {
        let seen = look(address, CONNECT_PATIENCE, ANSWER_PATIENCE, end).await;
        progress(&seen);
        let next = Instant::now() + pause;
        if seen.is_ready() || next >= end {
            return seen;
        }
        sleep_until(next).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// One look, never longer than until `end`.
async fn look(address: SocketAddr, connect: Duration, answer: Duration, end: Instant) -> Readiness {
    let left = |patience: Duration| patience.min(end.saturating_duration_since(Instant::now()));
    let mut tcp = match timeout(left(connect), TcpStream::connect(address)).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) => return Readiness::NoAnswer { detail: error.to_string() },
        Err(_elapsed) => return Readiness::NoAnswer { detail: "no connection in time".to_owned() },
    };
    // Nothing secret follows, so every mode may be offered: each server finds one that it does.
    let every = SecurityProtocol::SSL.union(SecurityProtocol::HYBRID).union(SecurityProtocol::HYBRID_EX);
    match timeout(left(answer), negotiation::exchange(&mut tcp, every)).await {
        Ok(Ok(confirm)) => match negotiation::decide(&confirm, every, false) {
            Answer::Selected(_) => Readiness::Ready,
            Answer::Refused(cause) => Readiness::Refused(cause),
            Answer::Foreign(detail) => Readiness::NotRdp { detail },
        },
        Ok(Err(FrameError::Ended)) => Readiness::NotRdp { detail: "it ended the connection".to_owned() },
        Ok(Err(FrameError::Foreign(detail))) => Readiness::NotRdp { detail },
        Ok(Err(FrameError::Io(error))) => Readiness::NoAnswer { detail: error.to_string() },
        Err(_elapsed) => Readiness::Silent,
    }
}
