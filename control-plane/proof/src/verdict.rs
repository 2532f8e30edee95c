//! What a proof found: a closed list, its public failure, and what the guest agent's word adds to it.

use std::fmt;

use nemordp_types::guest::{Account, AccountState, LoginRefusal};
use nemordp_types::{Failure, Reason};

use crate::stage::Stage;
use crate::target::CertificatePin;

/// The outcome of one proof.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// The login works; the only success.
    Accepted {
        /// What proved it.
        evidence: Evidence,
    },
    /// The server, or the guest's log, says that user name or password are wrong.
    WrongPassword,
    /// The account may not log in.
    AccountState {
        /// Who says so, and why.
        cause: AccountCause,
    },
    /// The guest's log says that the password was right and the session ended at once: its desktop is broken.
    SessionDied,
    /// The server ended the connection without a reason. xrdp does so for every refusal.
    Dropped {
        /// The last stage reached.
        stage: Stage,
    },
    /// No TCP connection: refused, unreachable, or not answered before the deadline.
    NoAnswer {
        /// What the operating system said.
        detail: String,
    },
    /// Something answers, but does not keep to RDP.
    NotRdp {
        /// The last stage reached.
        stage: Stage,
        /// What was seen instead.
        detail: String,
    },
    /// An RDP server that does not do the template's security mode.
    NegotiationRefused {
        /// What it said.
        cause: NegotiationCause,
    },
    /// Another certificate than the guest's; nothing that depends on the password was sent.
    CertificateMismatch {
        /// What was shown instead of the pinned one.
        presented: CertificatePin,
    },
    /// The deadline passed; proves nothing.
    TimedOut {
        /// The last stage reached.
        stage: Stage,
    },
    /// The proof itself could not be made here.
    Broken {
        /// What failed.
        detail: String,
    },
}

/// What only the right password yields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Evidence {
    /// NLA: the server encrypted our TLS key's hash under the NTLM session key. The right to log on was not stated.
    PasswordProven,
    /// NLA: the same, and the server's early user authorization says that the user may log on.
    LogonAuthorized,
    /// TLS: the clipboard channel's server spoke; xrdp starts it as the user, after PAM accepted the login.
    SessionChannel,
}

impl Evidence {
    /// One lower-case word for logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::PasswordProven => "password_proven",
            Self::LogonAuthorized => "logon_authorized",
            Self::SessionChannel => "session_channel",
        }
    }
}

/// Why an account may not log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AccountCause {
    /// The server's status code in CredSSP.
    Status(NtStatus),
    /// Early user authorization: no right to log on through RDP. Holds the server's value (5 on Windows).
    NotAuthorized(u32),
    /// The account's state, read by the guest agent.
    State(AccountState),
    /// The guest's log: the account check refused, although the state shows no reason.
    CheckRefused,
}

impl fmt::Display for AccountCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "the server answered {status}"),
            Self::NotAuthorized(_) => f.write_str("it has no right to log on through RDP"),
            Self::State(AccountState::Usable) | Self::CheckRefused => {
                f.write_str("the guest's account check refused it")
            }
            Self::State(AccountState::Missing) => f.write_str("it does not exist in the guest"),
            Self::State(AccountState::Locked) => f.write_str("it is locked or has no password"),
            Self::State(AccountState::AccountExpired) => f.write_str("it has expired"),
            Self::State(AccountState::PasswordExpired) => f.write_str("its password must be changed first"),
        }
    }
}

/// Why the negotiation failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NegotiationCause {
    /// The server's failure code (MS-RDPBCGR 2.2.1.2.2).
    Code(u32),
    /// The server selected something that was not asked for; the flags it selected (0: standard RDP security).
    Selected(u32),
    /// NLA without early user authorization, where the target demands it.
    NoAuthorization,
}

impl fmt::Display for NegotiationCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(1) => f.write_str("it demands TLS"),
            Self::Code(2) => f.write_str("it allows only standard RDP security"),
            Self::Code(3) => f.write_str("it has no certificate"),
            Self::Code(5) => f.write_str("it demands NLA"),
            Self::Code(code) => write!(f, "it answered failure code {code}"),
            Self::Selected(0) => f.write_str("it selected standard RDP security"),
            Self::Selected(flags) => write!(f, "it selected security flags {flags:#x}, which were not asked for"),
            Self::NoAuthorization => f.write_str("it does not tell whether the user may log on (no HYBRID_EX)"),
        }
    }
}

/// A Windows status code (MS-ERREF 2.3.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NtStatus(pub u32);

impl NtStatus {
    /// Wrong password or unknown user; Windows does not tell them apart.
    pub const LOGON_FAILURE: Self = Self(0xc000_006d);
    /// Wrong password.
    pub const WRONG_PASSWORD: Self = Self(0xc000_006a);
    /// Unknown user.
    pub const NO_SUCH_USER: Self = Self(0xc000_0064);
    /// Too many wrong passwords.
    pub const ACCOUNT_LOCKED_OUT: Self = Self(0xc000_0234);

    /// Its name, where login proofs are known to meet it.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0xc000_006d => "LOGON_FAILURE",
            0xc000_006a => "WRONG_PASSWORD",
            0xc000_0064 => "NO_SUCH_USER",
            0xc000_0234 => "ACCOUNT_LOCKED_OUT",
            0xc000_0072 => "ACCOUNT_DISABLED",
            0xc000_0071 => "PASSWORD_EXPIRED",
            0xc000_0224 => "PASSWORD_MUST_CHANGE",
            0xc000_0193 => "ACCOUNT_EXPIRED",
            0xc000_006f => "INVALID_LOGON_HOURS",
            0xc000_006e => "ACCOUNT_RESTRICTION",
            0xc000_015b => "LOGON_TYPE_NOT_GRANTED",
            0xc000_0418 => "NTLM_BLOCKED",
            _ => return None,
        })
    }
}

impl fmt::Display for NtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{name} ({:08X})", self.0),
            None => write!(f, "status {:08X}", self.0),
        }
    }
}

impl fmt::Debug for NtStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What may be tried after a verdict. Bounds are the caller's; a proof counts as a failed login where the guest counts
/// them, so it is never polled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Remedy {
    /// The login is proven.
    None,
    /// The same proof again, a few times.
    ProveAgain,
    /// Set the password again, then one more proof.
    SetPassword,
    /// Nothing changes by trying.
    GiveUp,
}

impl Verdict {
    /// Whether the login is proven.
    #[must_use]
    pub const fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted { .. })
    }

    /// The cause in the closed list; none when the login is proven.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        Some(match self {
            Self::Accepted { .. } => return None,
            Self::WrongPassword => Reason::LoginWrongPassword,
            Self::AccountState { .. } => Reason::LoginAccountState,
            Self::SessionDied | Self::Dropped { .. } => Reason::LoginDropped,
            Self::NoAnswer { .. } => Reason::LoginNoAnswer,
            Self::NotRdp { .. } => Reason::LoginNotRdp,
            Self::NegotiationRefused { .. } => Reason::LoginNegotiationRefused,
            Self::CertificateMismatch { .. } => Reason::LoginCertificateMismatch,
            Self::TimedOut { .. } => Reason::LoginTimedOut,
            Self::Broken { .. } => Reason::Internal,
        })
    }

    /// What may be tried next.
    #[must_use]
    pub const fn remedy(&self) -> Remedy {
        match self {
            Self::Accepted { .. } => Remedy::None,
            Self::NoAnswer { .. } | Self::TimedOut { .. } | Self::Broken { .. } => Remedy::ProveAgain,
            Self::WrongPassword | Self::Dropped { .. } => Remedy::SetPassword,
            Self::AccountState { .. }
            | Self::SessionDied
            | Self::NotRdp { .. }
            | Self::NegotiationRefused { .. }
            | Self::CertificateMismatch { .. } => Remedy::GiveUp,
        }
    }

    /// The evidence, or the failure that crosses crates.
    pub fn into_result(self) -> Result<Evidence, Failure> {
        let Some(reason) = self.reason() else {
            return self.evidence().ok_or_else(|| Failure::internal("no evidence"));
        };
        let failure = match &self {
            Self::Accepted { .. } | Self::Broken { .. } => Failure::internal(&self),
            Self::WrongPassword => {
                Failure::new(reason, "the guest refuses the password: reset the password of the instance")
            }
            Self::AccountState { cause } => Failure::new(
                reason,
                format!("the account may not log in: {cause}; correct the account or the template"),
            ),
            Self::SessionDied => Failure::new(
                reason,
                "the password is right, but the desktop ended at once: correct the template's desktop session",
            ),
            Self::Dropped { .. } => {
                Failure::new(reason, "the RDP server ended the login without a reason: look at its log in the guest")
            }
            Self::NoAnswer { .. } => Failure::new(
                reason,
                "nothing answers at the instance's endpoint: check that the guest and its port are up",
            ),
            Self::NotRdp { .. } => {
                Failure::new(reason, "what answers at the endpoint does not speak RDP: check the port and the template")
            }
            Self::NegotiationRefused { cause } => {
                Failure::new(reason, format!("the RDP server refuses the template's security mode: {cause}"))
            }
            Self::CertificateMismatch { presented } => Failure::new(
                reason,
                format!("the RDP server shows certificate {presented}, not the guest's own; no password was sent"),
            ),
            Self::TimedOut { stage } => {
                Failure::new(reason, format!("the login did not finish in time; the last stage reached was {stage}"))
            }
        };
        Err(if failure.context.is_some() { failure } else { failure.with_context(&self) })
    }

    /// What only the right password yields, when it was seen.
    #[must_use]
    pub const fn evidence(&self) -> Option<Evidence> {
        match self {
            Self::Accepted { evidence } => Some(*evidence),
            Self::WrongPassword
            | Self::AccountState { .. }
            | Self::SessionDied
            | Self::Dropped { .. }
            | Self::NoAnswer { .. }
            | Self::NotRdp { .. }
            | Self::NegotiationRefused { .. }
            | Self::CertificateMismatch { .. }
            | Self::TimedOut { .. }
            | Self::Broken { .. } => None,
        }
    }

    /// Whether the guest agent's word can tell more: a login that ended, or hung, after the credential was sent.
    #[must_use]
    pub fn wants_explanation(&self) -> bool {
        self.silent_stage().is_some_and(|stage| stage >= Stage::CredentialSent)
    }

    /// The verdict with what the guest agent read about this very account, since the proof began.
    ///
    /// Never turns a verdict into [`Verdict::Accepted`], and leaves every verdict that has a reason of its own.
    pub fn explained_by(self, account: &Account) -> Self {
        if !self.wants_explanation() {
            return self;
        }
        match (account.state, account.last_refusal) {
            // The state comes first: PAM calls the password of a locked account wrong.
            (
                state @ (AccountState::Missing
                | AccountState::Locked
                | AccountState::AccountExpired
                | AccountState::PasswordExpired),
                _,
            ) => Self::AccountState { cause: AccountCause::State(state) },
            (AccountState::Usable, Some(LoginRefusal::Authentication)) => Self::WrongPassword,
            (AccountState::Usable, Some(LoginRefusal::Account)) => {
                Self::AccountState { cause: AccountCause::CheckRefused }
            }
            (AccountState::Usable, Some(LoginRefusal::PasswordChange)) => {
                Self::AccountState { cause: AccountCause::State(AccountState::PasswordExpired) }
            }
            (AccountState::Usable, Some(LoginRefusal::SessionDied)) => Self::SessionDied,
            (AccountState::Usable, None) => self,
        }
    }

    /// The last stage of a verdict that carries no reason.
    const fn silent_stage(&self) -> Option<Stage> {
        match self {
            Self::Dropped { stage } | Self::TimedOut { stage } => Some(*stage),
            Self::Accepted { .. }
            | Self::WrongPassword
            | Self::AccountState { .. }
            | Self::SessionDied
            | Self::NoAnswer { .. }
            | Self::NotRdp { .. }
            | Self::NegotiationRefused { .. }
            | Self::CertificateMismatch { .. }
            | Self::Broken { .. } => None,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accepted { evidence } => write!(f, "accepted: {}", evidence.word()),
            Self::WrongPassword => f.write_str("wrong password"),
            Self::AccountState { cause } => write!(f, "account state: {cause}"),
            Self::SessionDied => f.write_str("the session died at once"),
            Self::Dropped { stage } => write!(f, "dropped after {stage}"),
            Self::NoAnswer { detail } => write!(f, "no answer: {detail}"),
            Self::NotRdp { stage, detail } => write!(f, "not RDP after {stage}: {detail}"),
            Self::NegotiationRefused { cause } => write!(f, "negotiation refused: {cause}"),
            Self::CertificateMismatch { presented } => write!(f, "certificate mismatch: {presented}"),
            Self::TimedOut { stage } => write!(f, "timed out after {stage}"),
            Self::Broken { detail } => write!(f, "the proof could not be made: {detail}"),
        }
    }
}

#[cfg(test)]
mod tests;
