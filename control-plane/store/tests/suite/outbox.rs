use std::collections::BTreeMap;

use nemordp_model::{OrderChange, SagaKind, SagaStatus};
use nemordp_store::{Effect, EventFilter, Hold, Page, SagaWrite, TenantScope, Wish};
use nemordp_types::{EventId, Failure, Reason};

use crate::support::{SECOND, World, on_both_stores};

on_both_stores! {
    every_effect_on_an_order_or_an_instance_is_told_with_it
    who_follows_the_numbers_misses_nothing_and_sees_nothing_twice
    events_of_one_write_keep_their_order
}

/// What each effect tells; nothing where it changes neither order nor instance. Complete: a new effect stands here too.
fn told(effect: &Effect) -> &'static [&'static str] {
    match effect {
        Effect::Order { .. } => &["order.failed"],
        Effect::InstanceActive { .. } => &["instance.active"],
        Effect::InstanceFailed { .. } => &["instance.failed", "instance.released"],
        Effect::InstanceDeleted { .. } => &["instance.deleted", "instance.released"],
        Effect::PinCertificate { .. } | Effect::UnpinCertificate { .. } | Effect::Misalign { .. } => {
            &["instance.changed"]
        }
        Effect::Release { .. } => &["instance.released"],
        // This instance keeps nothing that could be let go.
        Effect::SealSecret { .. } | Effect::EraseSecret { .. } | Effect::Settle { .. } => &[],
    }
}

async fn every_effect_on_an_order_or_an_instance_is_told_with_it(world: &World) {
    let node = world.node("a", 1, 20, 40).await;
    for index in 0..11 {
        let deleted = index == 3;
        let accepted = if deleted { world.active(node).await } else { world.accept(node).await.unwrap() };
        let (order_id, instance_id) = (accepted.order.id, accepted.instance.id);
        if deleted {
            let saga = world.saga(SagaKind::Delete);
            world.store.instance_change(TenantScope::All, instance_id, &Wish::Delete, &saga, None).await.unwrap();
        }
        let lease = world.store.saga_claim("r1", 10 * SECOND).await.unwrap().unwrap().lease;
        let effects = [
            Effect::Order { order_id, change: OrderChange::Fail(Failure::new(Reason::DiskFull, "full")) },
            Effect::InstanceActive { instance_id },
            Effect::InstanceFailed { instance_id },
            Effect::InstanceDeleted { instance_id },
            Effect::PinCertificate { instance_id, sha256: [1; 32] },
            Effect::Release { instance_id },
            Effect::SealSecret { instance_id, sealed: b"sealed".to_vec() },
            Effect::EraseSecret { instance_id },
            Effect::UnpinCertificate { instance_id },
            Effect::Settle { instance_id },
            Effect::Misalign { instance_id },
        ];
        let effect = &effects[index..=index];
        let before = world.events().await.len();
        let write = SagaWrite {
            state: "{}",
            status: SagaStatus::Done,
            step: 2,
            failure: None,
            hold: Hold::Keep(SECOND),
            steps: &[],
            effects: effect,
        };
        world.store.saga_write(&lease, &write).await.unwrap();
        assert_eq!(world.events().await[before..], *told(&effect[0]), "{effect:?}");
    }
}

async fn who_follows_the_numbers_misses_nothing_and_sees_nothing_twice(world: &World) {
    let node = world.node("a", 1, 60, 100).await;
    let write = async { futures::future::join_all((0..40).map(|_| world.accept(node))).await };
    let mut seen: Vec<(u64, EventId)> = Vec::new();
    let follow = async {
        let mut after = None;
        while seen.len() < 80 {
            let page = Page { after, limit: 7 };
            let got = world.store.event_list(EventFilter::default(), page).await.unwrap();
            seen.extend(got.items.iter().map(|event| (event.number, event.id)));
            after = got.next.or(after);
            tokio::task::yield_now().await;
        }
    };
    let (orders, ()) = tokio::join!(write, follow);
    assert!(orders.iter().all(Result::is_ok));
    let all = world.store.event_list(EventFilter::default(), Page::first(500)).await.unwrap().items;
    let expected: Vec<_> = all.iter().map(|event| (event.number, event.id)).collect();
    assert_eq!(seen[..], expected[..seen.len()], "a reader that follows sees what a reader at the end sees");
    assert!(expected.is_sorted_by(|one, next| one.0 < next.0));
}

async fn events_of_one_write_keep_their_order(world: &World) {
    let node = world.node("a", 1, 20, 40).await;
    for _ in 0..10 {
        world.accept(node).await.unwrap();
    }
    let all = world.store.event_list(EventFilter::default(), Page::first(500)).await.unwrap().items;
    let mut by_order: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for event in all.iter().filter(|event| event.order_id.is_some()) {
        by_order.entry(event.order_id).or_default().push(event.kind.word());
    }
    assert_eq!(by_order.len(), 10);
    assert!(by_order.values().all(|words| *words == ["order.accepted", "instance.created"]), "{by_order:?}");
}
