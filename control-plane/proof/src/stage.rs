//! How far a proof came; the last stage reached stands in every verdict that has no better word.

use std::fmt;

/// The last thing that was achieved. Ordered: later stages are greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Stage {
    /// Nothing yet: the TCP connection is being made.
    #[default]
    Start,
    /// TCP is connected.
    Connected,
    /// The server confirmed the security mode (X.224 connection confirm).
    Negotiated,
    /// TLS stands, with the pinned certificate.
    Secured,
    /// NLA: the server sent its NTLM challenge.
    Challenged,
    /// What depends on the password was sent: NLA's AUTHENTICATE, or TLS mode's Client Info.
    CredentialSent,
    /// NLA: the server proved that it holds the password's hash; its word on the right to log on is awaited.
    PasswordProven,
    /// TLS mode: the connection sequence is complete. xrdp gets here with any password.
    Activated,
}

impl Stage {
    /// One lower-case word for logs and messages.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Connected => "connected",
            Self::Negotiated => "negotiated",
            Self::Secured => "secured",
            Self::Challenged => "challenged",
            Self::CredentialSent => "credential_sent",
            Self::PasswordProven => "password_proven",
            Self::Activated => "activated",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Where a running proof stands; outlives the future that a deadline cuts off.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    stage: Stage,
}

impl Progress {
    pub(crate) const fn stage(&self) -> Stage {
        self.stage
    }

    pub(crate) fn reach(&mut self, stage: Stage) {
        self.stage = self.stage.max(stage);
    }
}
