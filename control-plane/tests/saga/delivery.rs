//! What a delivered order looks like, and what customers do with it afterwards.

use nemordp_model::{OrderState, SagaKind, SagaStatus, StepState};
use nemordp_proof::{Stage, Verdict};
use nemordp_store::{TenantScope, Wish};
use nemordp_types::Reason;
use secrecy::ExposeSecret as _;

use crate::kit::{Backend, World, on_both_stores};

async fn an_order_becomes_a_proven_desktop_without_leaving_its_password_anywhere(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    assert_eq!(world.order_now(bought).await.state, OrderState::Active);
    assert_eq!(world.nodes.proofs(), 1);
    let saga = world.saga(bought.saga).await;
    assert!(saga.steps.iter().all(|step| step.state == StepState::Done && step.attempts == 1), "{:?}", saga.steps);
    let password = world.nodes.guest(bought.instance).unwrap().1.password().unwrap().to_owned();
    let state = world.tools.store.saga_state(bought.saga).await.unwrap();
    assert!(!state.contains(&password) && !format!("{saga:?}").contains(&password));
    world.audit().await;
}

async fn a_login_that_was_dropped_once_is_proven_after_the_password_was_set_again(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    world.nodes.verdict(Verdict::Dropped { stage: Stage::CredentialSent });
    world.delivered().await;
    assert_eq!(world.nodes.proofs(), 2);
    world.audit().await;
}

async fn a_login_that_is_dropped_again_fails_with_what_the_guest_says(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    for _ in 0..2 {
        world.nodes.verdict(Verdict::Dropped { stage: Stage::CredentialSent });
    }
    let bought = world.order().await;
    assert_eq!(world.settle(bought.saga).await.status, SagaStatus::Unwound);
    let order = world.order_now(bought).await;
    assert_eq!((order.state, order.failure.unwrap().reason), (OrderState::Failed, Reason::LoginWrongPassword));
    assert_eq!(world.nodes.proofs(), 2, "a credential is never polled with");
    world.audit().await;
}

async fn an_endpoint_that_never_answers_is_tried_three_times(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    for _ in 0..9 {
        world.nodes.verdict(Verdict::NoAnswer { detail: "refused".to_owned() });
    }
    let bought = world.order().await;
    world.settle(bought.saga).await;
    assert_eq!(world.order_now(bought).await.failure.unwrap().reason, Reason::LoginNoAnswer);
    assert_eq!(world.nodes.proofs(), 3);
    world.audit().await;
}

async fn a_password_reset_ends_the_users_sessions_and_seals_another_password(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    let before = world.nodes.guest(bought.instance).unwrap().1.password().map(str::to_owned);
    world.nodes.customer_logs_in(bought.instance);
    let reset = world.change(bought.instance, SagaKind::PasswordReset, Wish::Keep).await;
    assert_eq!(world.settle(reset).await.status, SagaStatus::Done);
    let (_, guest) = world.nodes.guest(bought.instance).unwrap();
    assert!(guest.sessions.is_empty());
    assert_ne!(guest.password(), before.as_deref());
    let sealed = world.tools.store.secret_fetch(bought.instance).await.unwrap().unwrap();
    let opened = world.tools.sealer.open(bought.instance, &sealed).unwrap();
    assert_eq!(guest.password(), Some(opened.expose_secret()));
    world.audit().await;
}

async fn a_password_that_was_not_proven_is_shown_to_nobody(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    for _ in 0..2 {
        world.nodes.verdict(Verdict::Dropped { stage: Stage::CredentialSent });
    }
    let reset = world.change(bought.instance, SagaKind::PasswordReset, Wish::Keep).await;
    assert_eq!(world.settle(reset).await.status, SagaStatus::Unwound);
    assert!(world.tools.store.secret_standing(bought.instance).await.unwrap().is_none());
    world.audit().await;
}

async fn power_follows_the_customers_wish(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    for (kind, wish, runs) in [
        (SagaKind::Stop, Wish::PowerOff, false),
        (SagaKind::Start, Wish::PowerOn, true),
        (SagaKind::Restart, Wish::Keep, true),
        (SagaKind::Reset, Wish::Keep, true),
    ] {
        let saga = world.change(bought.instance, kind, wish).await;
        assert_eq!(world.settle(saga).await.status, SagaStatus::Done, "{kind}");
        assert_eq!(world.nodes.guest(bought.instance).unwrap().1.running, runs, "{kind}");
    }
    world.audit().await;
}

async fn deletion_wins_over_other_work_and_leaves_nothing(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    let stop = world.change(bought.instance, SagaKind::Stop, Wish::PowerOff).await;
    let busy = nemordp_control_plane::saga::plan::begin(
        SagaKind::Restart,
        world.tools.clock.as_ref(),
        world.tools.entropy.as_ref(),
    )
    .unwrap();
    let refused = world
        .tools
        .store
        .instance_change(TenantScope::All, bought.instance, &Wish::Keep, &busy, None)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains(&stop.to_string()), "the answer names what is under way: {refused}");
    let first = world.change(bought.instance, SagaKind::Delete, Wish::Delete).await;
    let second = world.change(bought.instance, SagaKind::Delete, Wish::Delete).await;
    assert_eq!(first, second, "two deletions are one");
    assert_eq!(world.saga(stop).await.status, SagaStatus::Cancelled);
    assert_eq!(world.settle(first).await.status, SagaStatus::Done);
    world.audit().await;
}

on_both_stores! {
    an_order_becomes_a_proven_desktop_without_leaving_its_password_anywhere
    a_login_that_was_dropped_once_is_proven_after_the_password_was_set_again
    a_login_that_is_dropped_again_fails_with_what_the_guest_says
    an_endpoint_that_never_answers_is_tried_three_times
    a_password_reset_ends_the_users_sessions_and_seals_another_password
    a_password_that_was_not_proven_is_shown_to_nobody
    power_follows_the_customers_wish
    deletion_wins_over_other_work_and_leaves_nothing
}
