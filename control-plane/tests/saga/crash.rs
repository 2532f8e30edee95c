//! A crash at every instant of every saga.

use nemordp_control_plane::saga::plan;
use nemordp_model::{OrderState, SagaKind, SagaStatus};
use nemordp_proof::{Stage, Verdict};
use nemordp_store::{StoreError, TenantScope, Wish};
use nemordp_types::operation::OperationKind;
use nemordp_types::{Reason, SagaId};

use crate::kit::{Backend, LEASE, World, on_both_stores};
use crate::node::Fault;

/// More suspensions than any saga has.
pub(crate) const SUSPENSIONS_MAX: u32 = 2_000;

/// A saga has at least so many, however few answers it has to wait for: before each side effect its intent is written and
/// waited for, and the last one's result too.
fn fewest(kind: SagaKind) -> u32 {
    u32::try_from(plan::steps(kind).len()).unwrap() + 1
}

/// Crashes a saga at its n-th suspension, lets another replica adopt it, and says whether there was an n-th one.
pub(crate) async fn crashed_at(world: &World, saga: SagaId, n: u32) -> bool {
    let leased = world.claim("dies", saga).await.unwrap();
    let crashed = world.carry_and_crash(leased, n).await.is_none();
    // A transaction that was begun may still end: its task outlives who asked for it.
    world.tools.store.saga_next_due().await.unwrap();
    world.clock.advance(LEASE);
    crashed
}

async fn an_order_survives_a_crash_at_every_instant(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    for n in 0..SUSPENSIONS_MAX {
        let bought = world.order().await;
        let crashed = crashed_at(&world, bought.saga, n).await;
        let saga = world.settle(bought.saga).await;
        assert_eq!(saga.status, SagaStatus::Done, "crash {n}: {saga:?}");
        if n % 20 == 0 || !crashed {
            world.audit().await;
        }
        if !crashed {
            assert!(n >= fewest(SagaKind::Provision), "only {n} suspensions: the crash points are gone");
            return;
        }
    }
    panic!("the saga never got through");
}

async fn an_undo_survives_a_crash_at_every_instant(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    for n in 0..SUSPENSIONS_MAX {
        world.nodes.fault(OperationKind::EndSessions, Fault::Fails(Reason::NotOurs), 1);
        let bought = world.order().await;
        let crashed = crashed_at(&world, bought.saga, n).await;
        let saga = world.settle(bought.saga).await;
        world.nodes.heal();
        // The fault may be used up before the crash without having been noted: then the order is delivered.
        assert!(matches!(saga.status, SagaStatus::Unwound | SagaStatus::Done), "crash {n}: {saga:?}");
        if n % 20 == 0 || !crashed {
            world.audit().await;
        }
        if !crashed {
            assert_eq!(saga.status, SagaStatus::Unwound);
            return;
        }
    }
    panic!("the saga never got through");
}

async fn moving_to_another_node_survives_a_crash_at_every_instant(backend: Backend) {
    let world = World::with_nodes(2, backend).await;
    for n in 0..SUSPENSIONS_MAX {
        world.nodes.fault(OperationKind::SetPassword, Fault::Fails(Reason::GuestBootTimeout), 1);
        let bought = world.order().await;
        let crashed = crashed_at(&world, bought.saga, n).await;
        let saga = world.settle(bought.saga).await;
        world.nodes.heal();
        assert_eq!(saga.status, SagaStatus::Done, "crash {n}: {saga:?}");
        if n % 20 == 0 || !crashed {
            world.audit().await;
        }
        if !crashed {
            assert_eq!(world.nodes.guest(bought.instance).unwrap().0, world.node_ids[1]);
            return;
        }
    }
    panic!("the saga never got through");
}

async fn setting_a_password_again_survives_a_crash_at_every_instant(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    for n in 0..SUSPENSIONS_MAX {
        world.nodes.verdict(Verdict::Dropped { stage: Stage::CredentialSent });
        let bought = world.order().await;
        let crashed = crashed_at(&world, bought.saga, n).await;
        let saga = world.settle(bought.saga).await;
        world.nodes.heal();
        assert_eq!(saga.status, SagaStatus::Done, "crash {n}: {saga:?}");
        if !crashed {
            world.audit().await;
            return;
        }
    }
    panic!("the saga never got through");
}

/// Crashes work on delivered instances at every instant; `expected` is how it ends all the same.
async fn survives(backend: Backend, kind: SagaKind, wish: Wish) {
    let world = World::with_nodes(1, backend).await;
    for n in 0..SUSPENSIONS_MAX {
        let bought = world.delivered().await;
        let saga = world.change(bought.instance, kind, wish.clone()).await;
        let crashed = crashed_at(&world, saga, n).await;
        let ended = world.settle(saga).await;
        assert_eq!(ended.status, SagaStatus::Done, "{kind}, crash {n}: {ended:?}");
        if n % 10 == 0 || !crashed {
            world.audit().await;
        }
        if !crashed {
            assert!(n >= fewest(kind), "only {n} suspensions: the crash points are gone");
            return;
        }
    }
    panic!("the saga never got through");
}

async fn a_deletion_survives_a_crash_at_every_instant(backend: Backend) {
    survives(backend, SagaKind::Delete, Wish::Delete).await;
}

async fn a_password_reset_survives_a_crash_at_every_instant(backend: Backend) {
    survives(backend, SagaKind::PasswordReset, Wish::Keep).await;
}

async fn a_stop_survives_a_crash_at_every_instant(backend: Backend) {
    survives(backend, SagaKind::Stop, Wish::PowerOff).await;
}

async fn a_start_survives_a_crash_at_every_instant(backend: Backend) {
    survives(backend, SagaKind::Start, Wish::PowerOn).await;
}

async fn a_restart_survives_a_crash_at_every_instant(backend: Backend) {
    survives(backend, SagaKind::Restart, Wish::PowerOn).await;
}

async fn an_order_called_off_at_any_instant_is_either_gone_or_was_delivered_before(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let (mut cancelled, mut delivered) = (0, 0);
    for n in 0..SUSPENSIONS_MAX {
        let bought = world.order().await;
        let crashed = crashed_at(&world, bought.saga, n).await;
        let asked = world.tools.store.order_cancel(TenantScope::All, bought.order, None).await;
        if world.saga(bought.saga).await.status.is_open() {
            world.settle(bought.saga).await;
        }
        match (asked, world.order_now(bought).await.state) {
            (Ok(_), OrderState::Cancelled) => cancelled += 1,
            (Err(StoreError::Refused(refusal)), OrderState::Active) => {
                assert_eq!(refusal.reason, Reason::Conflict);
                delivered += 1;
            }
            (asked, state) => panic!("crash {n}: {asked:?} but {state}"),
        }
        if n % 20 == 0 || !crashed {
            world.audit().await;
        }
        if !crashed {
            assert!(
                cancelled >= fewest(SagaKind::Provision) && delivered > 0,
                "{cancelled} called off, {delivered} delivered"
            );
            return;
        }
    }
    panic!("the saga never got through");
}

on_both_stores! {
    an_order_survives_a_crash_at_every_instant
    an_undo_survives_a_crash_at_every_instant
    moving_to_another_node_survives_a_crash_at_every_instant
    setting_a_password_again_survives_a_crash_at_every_instant
    a_deletion_survives_a_crash_at_every_instant
    a_password_reset_survives_a_crash_at_every_instant
    a_stop_survives_a_crash_at_every_instant
    a_start_survives_a_crash_at_every_instant
    a_restart_survives_a_crash_at_every_instant
    an_order_called_off_at_any_instant_is_either_gone_or_was_delivered_before
}
