//! Which steps each intention has, in their order.

use nemordp_model::SagaKind;
use nemordp_store::NewSaga;
use nemordp_types::instance::PowerAction;
use nemordp_types::{Clock, Entropy, Failure, Reason, SagaId};

use super::state::State;

/// One thing that is done, safe to repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Template, disk, domain, network, boot, names, an answering RDP server. Undone by deleting.
    EnsureInstance,
    /// Ends the user's sessions before the password changes.
    EndSessions,
    /// Makes a password, seals it, sets it in the guest.
    SetPassword,
    /// Logs in through the customer's endpoint.
    ProveLogin,
    /// Ends the session that the proof opened.
    EndProofSession,
    /// Hands over.
    Activate,
    /// Changes power.
    Power(PowerAction),
    /// Removes the instance from its node.
    DeleteInstance,
    /// Gives back what it held.
    Forget,
}

impl Step {
    /// The name that operations show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EnsureInstance => "ensure_instance",
            Self::EndSessions => "end_sessions",
            Self::SetPassword => "set_password",
            Self::ProveLogin => "prove_login",
            Self::EndProofSession => "end_proof_session",
            Self::Activate => "activate",
            Self::Power(_) => "power",
            Self::DeleteInstance => "delete_instance",
            Self::Forget => "forget",
        }
    }

    /// Whether undoing it takes a change on the node.
    #[must_use]
    pub const fn has_undo(self) -> bool {
        matches!(self, Self::EnsureInstance)
    }
}

/// The steps of a kind; none for what is not offered.
#[must_use]
pub const fn steps(kind: SagaKind) -> &'static [Step] {
    match kind {
        SagaKind::Provision => {
            &[Step::EnsureInstance, Step::SetPassword, Step::ProveLogin, Step::EndProofSession, Step::Activate]
        }
        SagaKind::Start => &[Step::Power(PowerAction::Start)],
        SagaKind::Stop => &[Step::Power(PowerAction::Stop)],
        SagaKind::Restart => &[Step::Power(PowerAction::Restart)],
        SagaKind::Reset => &[Step::Power(PowerAction::Reset)],
        SagaKind::PasswordReset => &[Step::EndSessions, Step::SetPassword, Step::ProveLogin, Step::EndProofSession],
        SagaKind::Delete => &[Step::DeleteInstance, Step::Forget],
        SagaKind::Reinstall
        | SagaKind::Resize
        | SagaKind::Rename
        | SagaKind::Suspend
        | SagaKind::Unsuspend
        | SagaKind::Rescue => &[],
    }
}

/// A saga at its beginning, to be stored together with what it is about.
///
/// # Errors
/// `conflict` when this kind of work is not offered.
pub fn begin(kind: SagaKind, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<NewSaga, Failure> {
    let steps = steps(kind);
    if steps.is_empty() {
        return Err(Failure::new(Reason::Conflict, format!("{kind} is not offered for instances on nodes")));
    }
    Ok(NewSaga {
        id: SagaId::new(clock, entropy),
        kind,
        state: State::default().to_text()?,
        steps: steps.iter().map(|step| step.name().to_owned()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use nemordp_types::{ManualClock, SeededEntropy};

    use super::*;

    #[test]
    fn what_is_not_offered_is_refused_and_everything_else_has_steps() {
        let (clock, entropy) = (ManualClock::at_second(1), SeededEntropy::new(1));
        for kind in SagaKind::ALL.iter().copied() {
            match begin(kind, &clock, &entropy) {
                Ok(saga) => assert_eq!(saga.steps.len(), steps(kind).len()),
                Err(failure) => assert_eq!(failure.reason, Reason::Conflict),
            }
        }
    }

    #[test]
    fn the_login_is_proven_before_anything_is_handed_over() {
        let steps = steps(SagaKind::Provision);
        let at = |wanted| steps.iter().position(|step| *step == wanted);
        assert!(at(Step::ProveLogin) < at(Step::Activate));
        assert!(at(Step::SetPassword) < at(Step::ProveLogin));
    }
}
