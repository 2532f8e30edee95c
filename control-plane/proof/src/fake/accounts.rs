//! Who may log in at a fake server; changed while it runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nemordp_types::LoginName;
use secrecy::SecretString;

use crate::verdict::NtStatus;

/// What a server answers to a login of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answer {
    /// What the password deserves: accepted, or `LOGON_FAILURE`.
    #[default]
    Honest,
    /// This status code, whatever the password.
    Status(NtStatus),
    /// A right password, but no right to log on through RDP.
    NotAuthorized,
    /// A made-up `pubKeyAuth` of this many bytes, whatever the password: a server that does not know it.
    Forged(usize),
    /// The connection ends without a word, whatever the password.
    Drop,
    /// Nothing more, whatever the password.
    Hang,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) password: SecretString,
    pub(super) answer: Answer,
}

/// A handle on the accounts; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Accounts(Arc<Mutex<BTreeMap<String, Entry>>>);

impl Accounts {
    /// No accounts: every login is an unknown user, which Windows answers like a wrong password.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates the account, or changes its password; its answer stays.
    pub fn set_password(&self, login_name: &LoginName, password: SecretString) {
        let mut accounts = self.lock_table();
        let answer = accounts.get(login_name.as_str()).map_or(Answer::Honest, |entry| entry.answer);
        accounts.insert(login_name.as_str().to_owned(), Entry { password, answer });
    }

    /// Changes what the account's logins are answered; false when there is no such account.
    pub fn set_answer(&self, login_name: &LoginName, answer: Answer) -> bool {
        self.lock_table().get_mut(login_name.as_str()).map(|entry| entry.answer = answer).is_some()
    }

    /// Locks the account out, as too many wrong passwords do; false when there is no such account.
    pub fn lock(&self, login_name: &LoginName) -> bool {
        self.set_answer(login_name, Answer::Status(NtStatus::ACCOUNT_LOCKED_OUT))
    }

    /// Removes the account; false when there was none.
    pub fn remove(&self, login_name: &LoginName) -> bool {
        self.lock_table().remove(login_name.as_str()).is_some()
    }

    pub(super) fn find(&self, account_name: &str) -> Option<Entry> {
        self.lock_table().get(account_name).cloned()
    }

    fn lock_table(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
