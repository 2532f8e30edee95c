//! Everything that can be wanted of an instance that is there: done, tried again, taken back, and left by a crash at every
//! instant of both.

use nemordp_model::{SagaKind, SagaStatus, Wish};
use nemordp_types::instance::Edition;
use nemordp_types::operation::OperationKind;
use nemordp_types::{GiB, HostName, InstanceId, MiB, Reason, Vcpu};

use crate::crash::{SUSPENSIONS_MAX, crashed_at};
use crate::kit::{Backend, Bought, World, on_both_stores};
use crate::node::Fault;

/// One thing that is wanted, and what was wanted before.
#[derive(Clone)]
pub(crate) struct Case {
    pub(crate) before: Option<(SagaKind, Wish)>,
    pub(crate) kind: SagaKind,
    pub(crate) wish: Wish,
}

pub(crate) fn later() -> (SagaKind, Wish) {
    (SagaKind::DeleteLater, Wish::DeleteLater { at: jiff::Timestamp::from_second(3_000_000_000).unwrap() })
}

pub(crate) fn larger() -> Wish {
    Wish::Resize { vcpu: Some(Vcpu(4)), memory: Some(MiB(8_192)), disk: Some(GiB(100)) }
}

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    let rename = Wish::Rename { host_name: HostName::new("another").unwrap() };
    let alone = [
        (SagaKind::Reset, Wish::PowerOn),
        (SagaKind::Rename, rename),
        (SagaKind::Resize, larger()),
        (SagaKind::Reinstall, Wish::Reinstall { template: None }),
        (SagaKind::Rescue, Wish::Rescue),
        (SagaKind::Suspend, Wish::Suspend),
        later(),
    ];
    let after = [
        ((SagaKind::Rescue, Wish::Rescue), SagaKind::Unrescue, Wish::Unrescue),
        ((SagaKind::Suspend, Wish::Suspend), SagaKind::Unsuspend, Wish::Unsuspend),
        (later(), SagaKind::Restore, Wish::Restore),
    ];
    let alone = alone.into_iter().map(|(kind, wish)| Case { before: None, kind, wish });
    alone.chain(after.map(|(before, kind, wish)| Case { before: Some(before), kind, wish })).collect()
}

impl World {
    /// A delivered instance on which this case can begin.
    pub(crate) async fn ready_for(&self, case: &Case) -> Bought {
        let bought = self.delivered().await;
        if let Some((kind, wish)) = &case.before {
            let saga = self.change(bought.instance, *kind, wish.clone()).await;
            assert_eq!(self.settle(saga).await.status, SagaStatus::Done, "{kind}");
        }
        bought
    }

    async fn does(&self, id: InstanceId, kind: SagaKind, wish: Wish) {
        let saga = self.change(id, kind, wish).await;
        let ended = self.settle(saga).await;
        assert_eq!(ended.status, SagaStatus::Done, "{ended:?}");
        self.audit().await;
    }

    fn password(&self, id: InstanceId) -> Option<String> {
        self.nodes.guest(id).and_then(|(_, guest)| guest.password().map(str::to_owned))
    }
}

async fn every_change_is_done_and_done_again_when_its_answer_was_lost(backend: Backend) {
    for case in cases() {
        let world = World::with_nodes(1, backend).await;
        for kind in [None, Some(OperationKind::EnsureInstance), Some(OperationKind::SetPassword)] {
            let bought = world.ready_for(&case).await;
            if let Some(kind) = kind {
                world.nodes.fault(kind, Fault::AnswerLost, 2);
            }
            let generation = world.instance(bought.instance).await.generation;
            world.does(bought.instance, case.kind, case.wish.clone()).await;
            assert!(world.instance(bought.instance).await.generation > generation, "{}", case.kind);
            world.nodes.heal();
        }
    }
}

async fn every_change_survives_a_crash_at_every_instant(backend: Backend) {
    for case in cases() {
        let world = World::with_nodes(1, backend).await;
        let mut through = false;
        for n in 0..SUSPENSIONS_MAX {
            let bought = world.ready_for(&case).await;
            let saga = world.change(bought.instance, case.kind, case.wish.clone()).await;
            let crashed = crashed_at(&world, saga, n).await;
            let ended = world.settle(saga).await;
            assert_eq!(ended.status, SagaStatus::Done, "{}, crash {n}: {ended:?}", case.kind);
            if n % 12 == 0 || !crashed {
                world.audit().await;
            }
            if !crashed {
                through = true;
                break;
            }
        }
        assert!(through, "{} never got through", case.kind);
    }
}

/// What of a case goes wrong, so that all of it is taken back.
fn breakable(case: &Case) -> Vec<OperationKind> {
    let mut kinds = vec![OperationKind::EnsureInstance];
    if case.kind.makes_password() {
        kinds.extend([OperationKind::SetPassword, OperationKind::EndSessions]);
    }
    kinds
}

fn can_be_taken_back(case: &Case) -> bool {
    // A reset changes nothing that could be taken back, and what disconnects is never taken back.
    case.kind != SagaKind::Reset && !case.kind.is_patient()
}

async fn what_fails_for_good_is_taken_back_with_its_room_and_its_disk(backend: Backend) {
    for case in cases().into_iter().filter(can_be_taken_back) {
        let world = World::with_nodes(1, backend).await;
        for kind in breakable(&case) {
            let bought = world.ready_for(&case).await;
            let (before, password) = (world.instance(bought.instance).await, world.password(bought.instance));
            world.nodes.fault(kind, Fault::Fails(Reason::NotOurs), 1);
            let saga = world.change(bought.instance, case.kind, case.wish.clone()).await;
            let ended = world.settle(saga).await;
            assert_eq!(ended.status, SagaStatus::Unwound, "{}, {kind:?}: {ended:?}", case.kind);
            assert_eq!(ended.failure.unwrap().reason, Reason::NotOurs, "the cause is kept");
            let after = world.instance(bought.instance).await;
            assert_eq!(after.former(), before.former(), "{}, {kind:?}", case.kind);
            assert!(after.generation.0 >= before.generation.0 + 2, "both ways are a change of what is wanted");
            assert_eq!(world.password(bought.instance), password, "the customer's own disk is as it was");
            world.audit().await;
        }
    }
}

async fn taking_back_survives_a_crash_at_every_instant(backend: Backend) {
    for case in cases().into_iter().filter(can_be_taken_back) {
        let world = World::with_nodes(1, backend).await;
        let fails = *breakable(&case).last().unwrap();
        let mut through = false;
        for n in 0..SUSPENSIONS_MAX {
            let bought = world.ready_for(&case).await;
            let before = world.instance(bought.instance).await;
            world.nodes.fault(fails, Fault::Fails(Reason::NotOurs), 1);
            let saga = world.change(bought.instance, case.kind, case.wish.clone()).await;
            let crashed = crashed_at(&world, saga, n).await;
            let ended = world.settle(saga).await;
            world.nodes.heal();
            // The fault may be used up before the crash without having been noted: then the change is made.
            assert!(matches!(ended.status, SagaStatus::Unwound | SagaStatus::Done), "crash {n}: {ended:?}");
            if ended.status == SagaStatus::Unwound {
                assert_eq!(world.instance(bought.instance).await.former(), before.former());
            }
            if n % 12 == 0 || !crashed {
                world.audit().await;
            }
            if !crashed {
                through = true;
                break;
            }
        }
        assert!(through, "{} never got through", case.kind);
    }
}

async fn taking_back_waits_for_a_node_that_is_away(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    world.nodes.fault(OperationKind::EnsureInstance, Fault::Fails(Reason::NotOurs), 1);
    world.nodes.fault(OperationKind::EnsureInstance, Fault::Unreachable, 3);
    world.nodes.fault(OperationKind::EnsureInstance, Fault::AnswerLost, 1);
    let saga = world.change(bought.instance, SagaKind::Resize, larger()).await;
    assert_eq!(world.settle(saga).await.status, SagaStatus::Unwound);
    world.audit().await;
}

async fn a_disk_that_has_grown_stays_so_and_is_paid_for_when_the_rest_is_taken_back(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    world.nodes.fault(OperationKind::EnsureInstance, Fault::FailsLate(Reason::GuestBootTimeout), 1);
    let saga = world.change(bought.instance, SagaKind::Resize, larger()).await;
    assert_eq!(world.settle(saga).await.status, SagaStatus::Unwound);
    let spec = world.instance(bought.instance).await.spec;
    assert_eq!((spec.vcpu, spec.memory, spec.disk), (Vcpu(2), MiB(4_096), GiB(100)));
    world.audit().await;
}

async fn a_size_that_its_node_has_no_room_for_is_refused_and_nothing_is_taken(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    let before = world.instance(bought.instance).await;
    let wish = |vcpu, memory, disk| Wish::Resize { vcpu, memory, disk };
    for (wish, field) in [
        (wish(Some(Vcpu(1_000_000)), None, None), "vcpu"),
        (wish(None, Some(MiB(1_000_000_000)), None), "memory_mib"),
        (wish(Some(Vcpu(4)), None, Some(GiB(10_000_000))), "disk_gib"),
    ] {
        let refusal = world.refusal(bought.instance, SagaKind::Resize, wish).await;
        assert_eq!((refusal.reason, refusal.field.as_deref()), (Reason::CapacityExhausted, Some(field)));
    }
    let shrink = world.refusal(bought.instance, SagaKind::Resize, wish(None, None, Some(GiB(49)))).await;
    assert_eq!((shrink.reason, shrink.field.as_deref()), (Reason::DiskTooSmall, Some("disk_gib")));
    assert_eq!(world.instance(bought.instance).await, before);
    world.audit().await;
}

async fn a_fresh_disk_has_another_password_and_the_old_disk_is_gone(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    let (password, before) = (world.password(bought.instance), world.instance(bought.instance).await);
    world.does(bought.instance, SagaKind::Reinstall, Wish::Reinstall { template: None }).await;
    let after = world.instance(bought.instance).await;
    assert_ne!(world.password(bought.instance), password);
    assert_eq!((after.id, after.spec.network), (before.id, before.spec.network), "same identity, address, endpoint");
    assert_ne!(after.rdp_certificate_sha256, before.rdp_certificate_sha256);
    let disks: Vec<Edition> = world.nodes.guest(bought.instance).unwrap().1.disks.into_keys().collect();
    assert_eq!(disks, [after.spec.disks.system]);
    assert!(world.tools.store.secret_fetch(bought.instance).await.unwrap().is_some(), "a new link can be made");
}

async fn a_rescue_system_has_its_own_password_and_the_own_disk_keeps_its(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    let (password, before) = (world.password(bought.instance), world.instance(bought.instance).await);
    world.does(bought.instance, SagaKind::Rescue, Wish::Rescue).await;
    assert_ne!(world.password(bought.instance), password);
    assert_eq!(world.nodes.guest(bought.instance).unwrap().1.disks.len(), 2, "it sees both");
    world.does(bought.instance, SagaKind::Stop, Wish::PowerOff).await;
    world.does(bought.instance, SagaKind::Start, Wish::PowerOn).await;
    world.nodes.customer_logs_in(bought.instance);
    let unrescue = world.change(bought.instance, SagaKind::Unrescue, Wish::Unrescue).await;
    assert_eq!(world.settle(unrescue).await.status, SagaStatus::Done);
    assert_eq!(world.password(bought.instance), password, "its own password holds again");
    let after = world.instance(bought.instance).await;
    assert_eq!(after.rdp_certificate_sha256, before.rdp_certificate_sha256, "and its own certificate is pinned");
    assert_eq!(after.spec, before.spec);
    assert!(
        world.tools.store.secret_standing(bought.instance).await.unwrap().is_none(),
        "the rescue's is shown to nobody"
    );
    world.audit().await;
}

async fn a_suspended_instance_is_off_refuses_to_start_and_comes_back_as_it_was(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    let before = world.instance(bought.instance).await.spec;
    world.does(bought.instance, SagaKind::Suspend, Wish::Suspend).await;
    let guest = world.nodes.guest(bought.instance).unwrap().1;
    assert!(!guest.running && guest.spec.suspended);
    let refusal = world.refusal(bought.instance, SagaKind::Start, Wish::PowerOn).await;
    assert_eq!((refusal.reason, refusal.field.as_deref()), (Reason::Conflict, Some("suspended")));
    assert!(refusal.message.contains("unsuspend"), "{refusal:?}");
    world.does(bought.instance, SagaKind::Unsuspend, Wish::Unsuspend).await;
    assert!(world.nodes.guest(bought.instance).unwrap().1.running);
    assert_eq!(world.instance(bought.instance).await.spec, before);
}

async fn a_suspension_outlasts_the_absence_of_its_node(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    world.nodes.fault(OperationKind::EnsureInstance, Fault::Unreachable, 40);
    world.does(bought.instance, SagaKind::Suspend, Wish::Suspend).await;
}

async fn what_is_off_is_renamed_and_resized_without_being_started(backend: Backend) {
    let world = World::with_nodes(1, backend).await;
    let bought = world.delivered().await;
    world.does(bought.instance, SagaKind::Stop, Wish::PowerOff).await;
    let name = HostName::new("another").unwrap();
    world.does(bought.instance, SagaKind::Rename, Wish::Rename { host_name: name.clone() }).await;
    world.does(bought.instance, SagaKind::Resize, larger()).await;
    assert!(!world.nodes.guest(bought.instance).unwrap().1.running);
    world.does(bought.instance, SagaKind::Start, Wish::PowerOn).await;
    assert_eq!(world.nodes.guest(bought.instance).unwrap().1.disk().host_name, name);
}

on_both_stores! {
    every_change_is_done_and_done_again_when_its_answer_was_lost
    every_change_survives_a_crash_at_every_instant
    what_fails_for_good_is_taken_back_with_its_room_and_its_disk
    taking_back_survives_a_crash_at_every_instant
    taking_back_waits_for_a_node_that_is_away
    a_disk_that_has_grown_stays_so_and_is_paid_for_when_the_rest_is_taken_back
    a_size_that_its_node_has_no_room_for_is_refused_and_nothing_is_taken
    a_fresh_disk_has_another_password_and_the_old_disk_is_gone
    a_rescue_system_has_its_own_password_and_the_own_disk_keeps_its
    a_suspended_instance_is_off_refuses_to_start_and_comes_back_as_it_was
    a_suspension_outlasts_the_absence_of_its_node
    what_is_off_is_renamed_and_resized_without_being_started
}
