//! What the guest agent reads inside an instance.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::name::LoginName;

/// Whether an account may log in, read from the guest's own account database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccountState {
    /// It has a usable password and is neither locked nor expired.
    Usable,
    /// No such account.
    Missing,
    /// Locked (`passwd -l`), or no password was ever set.
    Locked,
    /// The account's end date has passed.
    AccountExpired,
    /// The password must be changed at the next login.
    PasswordExpired,
}

/// Why the guest's log says that the last login through RDP failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginRefusal {
    /// PAM's authentication failed: the password is wrong (or the account is locked; see the account's state).
    Authentication,
    /// PAM's account check failed: expired, not allowed.
    Account,
    /// The password must be changed first.
    PasswordChange,
    /// The session began and ended at once: the password was right, the desktop is broken.
    SessionDied,
}

/// An account as the guest sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Which account.
    pub login_name: LoginName,
    /// Whether it may log in.
    pub state: AccountState,
    /// What the guest's log says about the last refused login since `since` of the question; none when there is none.
    pub last_refusal: Option<LoginRefusal>,
}

/// A desktop session that is open inside the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestSession {
    /// Name of the session inside the guest (display `:10`, or a terminal services id).
    pub id: String,
    /// Whose session.
    pub login_name: LoginName,
    /// When it began, if the guest knows.
    pub started_at: Option<Timestamp>,
}
