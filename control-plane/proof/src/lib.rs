//! Proves an RDP login from outside: one connection with the exact credential, one verdict.
//!
//! ```text
//! TCP ─► X.224 negotiation ─► TLS, leaf pinned ─┬─ NLA: CredSSP ─► server's pubKeyAuth, early user authorization
//!                                               └─ TLS: Client Info ─► the session's own clipboard channel speaks
//! ```
//!
//! Only positive evidence is [`Verdict::Accepted`]: on NLA a server that holds the password's hash has proven it, on TLS a
//! program that runs as the user inside the session has spoken. Time that passes, a picture, a completed connection
//! sequence prove nothing: xrdp shows all of them with a wrong password.
//!
//! The security mode comes from the template, never from what the server offers, because a server that may choose can
//! choose the mode that asks for no password. The certificate is pinned before anything that depends on the password is
//! sent, because TLS mode hands the password to whoever answers and NLA hands out a hash that can be attacked off line.
//!
//! Reading and deciding are apart: `frame` and the drivers `nla` and `session` read, small pure functions decide.
//!
//! Map: [`Target`], [`Credential`], [`CertificatePin`] what is asked · [`prove()`] the proof · [`Verdict`] the answer, its
//! [`Failure`](nemordp_types::Failure) and what the guest agent's word adds · [`readiness()`], [`wait_until_ready`] whether
//! an RDP server answers at all, without any password · module `fake` (feature `fake`) an NLA server of our own.

#[cfg(feature = "fake")]
pub mod fake;
mod frame;
mod negotiation;
mod nla;
mod prove;
mod readiness;
mod session;
mod stage;
mod target;
mod tls;
mod verdict;

pub use prove::prove;
pub use readiness::{Readiness, readiness, wait_until_ready};
pub use session::{PROOF_SHELL, PROOF_SHELL_PROGRAM};
pub use stage::Stage;
pub use target::{CertificatePin, Credential, Target};
pub use verdict::{AccountCause, Evidence, NegotiationCause, NtStatus, Remedy, Verdict};
