//! Which steps each intention has, in their order.

use nemordp_model::SagaKind;
use nemordp_store::NewSaga;
use nemordp_types::instance::PowerAction;
use nemordp_types::{Clock, Entropy, Failure, SagaId};

use super::state::State;

/// One thing that is done, safe to repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// Template, disk, domain, network, boot, names, an answering RDP server. Undone by deleting.
    EnsureInstance,
    /// Brings an instance that is there to what is wanted of it now, and its guest to an answer. Undone by taking that back.
    Remake,
    /// The same, whether the guest answers or not: its owner may have changed what would.
    Reconfigure,
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
    /// Changes power. Undone by taking that back, so that store and node never want different things.
    Power(PowerAction),
    /// Pins the certificate that the guest shows now.
    ReadCertificate,
    /// Forgets a password that does not open the guest any more.
    EraseSecret,
    /// Lets go what was kept for taking the change back; from here on it is final.
    Settle,
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
            Self::Remake => "remake",
            Self::Reconfigure => "reconfigure",
            Self::EndSessions => "end_sessions",
            Self::SetPassword => "set_password",
            Self::ProveLogin => "prove_login",
            Self::EndProofSession => "end_proof_session",
            Self::Activate => "activate",
            Self::Power(_) => "power",
            Self::ReadCertificate => "read_certificate",
            Self::EraseSecret => "erase_secret",
            Self::Settle => "settle",
            Self::DeleteInstance => "delete_instance",
            Self::Forget => "forget",
        }
    }

    /// What undoing it takes on the node; none for most.
    #[must_use]
    pub const fn undo(self) -> Option<Undo> {
        match self {
            Self::EnsureInstance => Some(Undo::Remove),
            Self::Remake | Self::Reconfigure | Self::Power(_) => Some(Undo::TakeBack),
            Self::EndSessions
            | Self::SetPassword
            | Self::ProveLogin
            | Self::EndProofSession
            | Self::Activate
            | Self::ReadCertificate
            | Self::EraseSecret
            | Self::Settle
            | Self::DeleteInstance
            | Self::Forget => None,
        }
    }

    /// Whether its node has to answer for it.
    #[must_use]
    pub const fn needs_node(self) -> bool {
        match self {
            Self::EraseSecret | Self::Forget => false,
            Self::EnsureInstance
            | Self::Remake
            | Self::Reconfigure
            | Self::EndSessions
            | Self::SetPassword
            | Self::ProveLogin
            | Self::EndProofSession
            // Nothing is handed over on a node that is off.
            | Self::Activate
            | Self::Power(_)
            | Self::ReadCertificate
            | Self::Settle
            | Self::DeleteInstance => true,
        }
    }

    /// Whether it is tried until it works, and never undone: the whole saga when that must win in the end, and a step
    /// after which nothing can be taken back.
    #[must_use]
    pub const fn is_patient(self, kind: SagaKind) -> bool {
        kind.is_patient() || matches!(self, Self::Settle)
    }
}

/// How a step is undone on the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undo {
    /// The instance is removed.
    Remove,
    /// The instance is brought back to what was wanted before.
    TakeBack,
}

/// The steps of a kind.
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
        SagaKind::Reinstall => {
            &[Step::Remake, Step::SetPassword, Step::ProveLogin, Step::EndProofSession, Step::Settle]
        }
        SagaKind::Rescue => &[Step::Remake, Step::SetPassword, Step::ProveLogin, Step::EndProofSession],
        SagaKind::Rename => &[Step::Remake],
        SagaKind::Resize | SagaKind::Suspend | SagaKind::DeleteLater => &[Step::Reconfigure],
        SagaKind::Unsuspend | SagaKind::Realign => &[Step::Reconfigure, Step::ReadCertificate],
        SagaKind::Unrescue => &[Step::Reconfigure, Step::ReadCertificate, Step::EraseSecret, Step::Settle],
        // A deletion with grace may have ended a change of the disk before its proof.
        SagaKind::Restore => &[Step::Reconfigure, Step::ReadCertificate, Step::Settle],
    }
}

/// A saga at its beginning, to be stored together with what it is about; it belongs to the trace of whoever asks.
///
/// # Errors
/// Never for these kinds; the caller need not know.
pub fn begin(kind: SagaKind, clock: &dyn Clock, entropy: &dyn Entropy) -> Result<NewSaga, Failure> {
    Ok(NewSaga {
        id: SagaId::new(clock, entropy),
        kind,
        state: State { trace: nemordp_trace::current(), ..State::default() }.to_text()?,
        steps: steps(kind).iter().map(|step| step.name().to_owned()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_steps_and_nothing_comes_after_the_point_of_no_return() {
        for kind in SagaKind::ALL.iter().copied() {
            let steps = steps(kind);
            assert!(!steps.is_empty(), "{kind}");
            let settles = steps.iter().position(|step| *step == Step::Settle);
            assert!(settles.is_none_or(|at| at + 1 == steps.len()), "{kind}");
        }
    }

    #[test]
    fn what_removes_or_disconnects_is_never_taken_back() {
        for kind in [SagaKind::Delete, SagaKind::DeleteLater, SagaKind::Suspend] {
            assert!(steps(kind).iter().all(|step| step.is_patient(kind)), "{kind}");
        }
        assert!(!Step::Reconfigure.is_patient(SagaKind::Resize));
        assert!(Step::Settle.is_patient(SagaKind::Reinstall));
    }

    #[test]
    fn the_login_is_proven_before_anything_is_handed_over() {
        for kind in SagaKind::ALL.iter().copied().filter(|kind| kind.makes_password()) {
            let at = |wanted| steps(kind).iter().position(|step| *step == wanted);
            assert!(at(Step::SetPassword) < at(Step::ProveLogin), "{kind}");
            assert!(at(Step::Activate).is_none_or(|activates| at(Step::ProveLogin) < Some(activates)), "{kind}");
        }
    }
}
