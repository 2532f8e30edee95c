//! Which failure, remedy and explanation each verdict leads to.

use super::*;
use nemordp_types::LoginName;

fn account(state: AccountState, last_refusal: Option<LoginRefusal>) -> Account {
    Account { login_name: LoginName::new("user").unwrap(), state, last_refusal }
}

fn every_verdict() -> Vec<Verdict> {
    vec![
        Verdict::Accepted { evidence: Evidence::SessionChannel },
        Verdict::WrongPassword,
        Verdict::AccountState { cause: AccountCause::Status(NtStatus::ACCOUNT_LOCKED_OUT) },
        Verdict::SessionDied,
        Verdict::Dropped { stage: Stage::Activated },
        Verdict::NoAnswer { detail: "refused".to_owned() },
        Verdict::NotRdp { stage: Stage::Connected, detail: "SSH".to_owned() },
        Verdict::NegotiationRefused { cause: NegotiationCause::Code(5) },
        Verdict::CertificateMismatch { presented: CertificatePin::from_bytes([7; 32]) },
        Verdict::TimedOut { stage: Stage::Activated },
        Verdict::Broken { detail: "no memory".to_owned() },
    ]
}

#[test]
fn only_accepted_is_a_success_and_every_other_has_its_reason() {
    for verdict in every_verdict() {
        let (accepted, reason) = (verdict.is_accepted(), verdict.reason());
        match verdict.clone().into_result() {
            Ok(evidence) => {
                assert!(accepted);
                assert_eq!(verdict.evidence(), Some(evidence));
            }
            Err(failure) => {
                assert!(!accepted);
                assert_eq!(Some(failure.reason), reason);
                assert!(failure.context.is_some_and(|context| context.contains(&verdict.to_string())));
            }
        }
        assert_eq!(accepted, verdict.remedy() == Remedy::None);
    }
}

#[test]
fn the_agents_word_explains_a_drop() {
    use AccountState as S;
    use LoginRefusal as R;
    let dropped = Verdict::Dropped { stage: Stage::Activated };
    let state = |state| Verdict::AccountState { cause: AccountCause::State(state) };
    for (account, expected) in [
        (account(S::Usable, Some(R::Authentication)), Verdict::WrongPassword),
        (account(S::Locked, Some(R::Authentication)), state(S::Locked)),
        (account(S::Missing, Some(R::Authentication)), state(S::Missing)),
        (account(S::AccountExpired, Some(R::Account)), state(S::AccountExpired)),
        (account(S::PasswordExpired, None), state(S::PasswordExpired)),
        (account(S::Usable, Some(R::PasswordChange)), state(S::PasswordExpired)),
        (account(S::Usable, Some(R::Account)), Verdict::AccountState { cause: AccountCause::CheckRefused }),
        (account(S::Usable, Some(R::SessionDied)), Verdict::SessionDied),
        (account(S::Usable, None), dropped.clone()),
    ] {
        assert_eq!(dropped.clone().explained_by(&account), expected, "{account:?}");
    }
}

#[test]
fn the_agents_word_changes_no_verdict_that_has_a_reason_and_none_before_the_credential() {
    let locked = account(AccountState::Locked, Some(LoginRefusal::Authentication));
    for verdict in every_verdict() {
        let silent = matches!(verdict, Verdict::Dropped { .. } | Verdict::TimedOut { .. });
        assert_eq!(verdict.clone().explained_by(&locked) != verdict, silent, "{verdict}");
    }
    let early = Verdict::Dropped { stage: Stage::Secured };
    assert_eq!(early.clone().explained_by(&locked), early);
}
