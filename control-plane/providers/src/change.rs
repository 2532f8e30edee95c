//! What a provider can be asked to change about an instance.

use nemordp_types::LoginName;
use nemordp_types::instance::{InstanceSpec, PowerAction};
use nemordp_types::operation::OperationKind;
use secrecy::SecretString;

/// One change of one instance. `Debug` never shows a password.
#[derive(Debug)]
pub enum Change {
    /// Bring the instance to what the specification wants; makes it where it is missing.
    Ensure(Box<InstanceSpec>),
    /// The same, without waiting for the guest: its owner may have changed what would answer.
    Reconfigure(Box<InstanceSpec>),
    /// Change its power.
    Power(PowerAction),
    /// Remove it with all that belongs to it; nothing when it is not there.
    Delete,
    /// Set an account's password inside the guest.
    SetPassword {
        /// Whose.
        login: LoginName,
        /// To what.
        password: SecretString,
    },
    /// End an account's desktop sessions inside the guest.
    EndSessions {
        /// Whose.
        login: LoginName,
        /// Only the one that a login proof opened.
        proof_only: bool,
    },
}

impl Change {
    /// Its kind, for logs and metrics.
    #[must_use]
    pub const fn kind(&self) -> OperationKind {
        match self {
            Self::Ensure(_) | Self::Reconfigure(_) => OperationKind::EnsureInstance,
            Self::Power(_) => OperationKind::PowerInstance,
            Self::Delete => OperationKind::DeleteInstance,
            Self::SetPassword { .. } => OperationKind::SetPassword,
            Self::EndSessions { .. } => OperationKind::EndSessions,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_does_not_show_in_debug() {
        let change = Change::SetPassword {
            login: LoginName::new("user").unwrap(),
            password: SecretString::from("Zauberwort-7".to_owned()),
        };
        assert!(!format!("{change:?}").contains("Zauberwort"));
        assert_eq!(change.kind(), OperationKind::SetPassword);
    }
}
