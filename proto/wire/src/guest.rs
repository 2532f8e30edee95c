//! What is inside a guest, on the wire.

use nemordp_types::guest::{Account, AccountState, GuestSession, LoginRefusal};
use nemordp_types::{Failure, LoginName};

use crate::{time, v1};

impl From<&Account> for v1::GetAccountResponse {
    fn from(account: &Account) -> Self {
        let state = match account.state {
            AccountState::Usable => v1::AccountState::Usable,
            AccountState::Missing => v1::AccountState::Missing,
            AccountState::Locked => v1::AccountState::Locked,
            AccountState::AccountExpired => v1::AccountState::AccountExpired,
            AccountState::PasswordExpired => v1::AccountState::PasswordExpired,
        };
        let last_refusal = match account.last_refusal {
            None => v1::LoginRefusal::Unspecified,
            Some(LoginRefusal::Authentication) => v1::LoginRefusal::Authentication,
            Some(LoginRefusal::Account) => v1::LoginRefusal::Account,
            Some(LoginRefusal::PasswordChange) => v1::LoginRefusal::PasswordChange,
            Some(LoginRefusal::SessionDied) => v1::LoginRefusal::SessionDied,
        };
        Self { login_name: account.login_name.to_string(), state: state.into(), last_refusal: last_refusal.into() }
    }
}

impl TryFrom<v1::GetAccountResponse> for Account {
    type Error = Failure;

    fn try_from(message: v1::GetAccountResponse) -> Result<Self, Failure> {
        let state = match message.state() {
            v1::AccountState::Usable => AccountState::Usable,
            v1::AccountState::Missing => AccountState::Missing,
            v1::AccountState::Locked => AccountState::Locked,
            v1::AccountState::AccountExpired => AccountState::AccountExpired,
            v1::AccountState::PasswordExpired => AccountState::PasswordExpired,
            v1::AccountState::Unspecified => {
                return Err(Failure::field("state", "the account's state is missing or not known here"));
            }
        };
        let last_refusal = match message.last_refusal() {
            v1::LoginRefusal::Unspecified => None,
            v1::LoginRefusal::Authentication => Some(LoginRefusal::Authentication),
            v1::LoginRefusal::Account => Some(LoginRefusal::Account),
            v1::LoginRefusal::PasswordChange => Some(LoginRefusal::PasswordChange),
            v1::LoginRefusal::SessionDied => Some(LoginRefusal::SessionDied),
        };
        Ok(Self { login_name: LoginName::new(message.login_name)?, state, last_refusal })
    }
}

impl From<&GuestSession> for v1::GuestSession {
    fn from(session: &GuestSession) -> Self {
        Self {
            id: session.id.clone(),
            login_name: session.login_name.to_string(),
            started_at_us: time::encode_option(session.started_at),
        }
    }
}

impl TryFrom<v1::GuestSession> for GuestSession {
    type Error = Failure;

    fn try_from(message: v1::GuestSession) -> Result<Self, Failure> {
        Ok(Self {
            id: message.id,
            login_name: LoginName::new(message.login_name)?,
            started_at: time::decode_option(message.started_at_us, "started_at_us")?,
        })
    }
}
