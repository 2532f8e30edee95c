use nemordp_store::{NodeHeartbeat, Once, Signs, StoreError, TenantScope, Withdrawal};
use nemordp_types::node::{NodeAvailability, NodeLoad};
use nemordp_types::{Failure, NodeAddress, NodeId, Reason};

use crate::heartbeat::status;
use crate::support::{World, inventory, on_both_stores};

on_both_stores! {
    a_node_is_fenced_only_once_it_is_lost
    a_fenced_node_stays_so_until_it_is_unfenced
    a_node_gives_up_what_was_moved_away_or_has_ended
}

async fn lost(world: &World, node: NodeId) {
    let (up, lost) = (NodeAvailability::Available, NodeAvailability::Lost);
    assert!(world.store.node_set_availability(node, up, lost).await.unwrap());
}

async fn a_node_is_fenced_only_once_it_is_lost(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let StoreError::Refused(refused) = world.store.node_fence(node, None).await.unwrap_err() else {
        panic!("a node that speaks was fenced");
    };
    assert_eq!(refused.reason, Reason::Conflict);
    assert!(refused.message.contains("heartbeats"), "{refused:?}");
    lost(world, node).await;
    for _ in 0..2 {
        let Once::Done(fenced) = world.store.node_fence(node, None).await.unwrap() else {
            panic!("nothing is replayed")
        };
        assert_eq!(fenced.availability, NodeAvailability::Fenced);
    }
    assert_eq!(world.count_events("node.availability_changed").await, 3, "available, lost, fenced once");
    let nobody = Failure::from(world.store.node_fence(world.node_id(), None).await.unwrap_err());
    assert_eq!(nobody.reason, Reason::NotFound);
}

async fn a_fenced_node_stays_so_until_it_is_unfenced(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    lost(world, node).await;
    world.store.node_fence(node, None).await.unwrap();
    assert_eq!(world.beat(node, inventory(1, 4, 10)).await.availability, NodeAvailability::Fenced);
    // A new key is no proof that the machine may act.
    world.ticket(7, Some(node)).await;
    world.store.node_enroll(&world.enroll_request(node, "a", 7, 7)).await.unwrap();
    assert_eq!(world.beat(node, inventory(1, 4, 10)).await.availability, NodeAvailability::Fenced);
    for _ in 0..2 {
        let Once::Done(unfenced) = world.store.node_unfence(node, None).await.unwrap() else { panic!("not replayed") };
        assert_eq!(unfenced.availability, NodeAvailability::Unknown);
    }
    assert_eq!(world.beat(node, inventory(1, 4, 10)).await.availability, NodeAvailability::Available);
}

async fn a_node_gives_up_what_was_moved_away_or_has_ended(world: &World) {
    let (node, other) = (world.node("a", 1, 8, 10).await, world.node("b", 2, 8, 10).await);
    let moved = world.accept(node).await.unwrap();
    let leased = world.store.saga_claim("test", 10 * crate::support::SECOND).await.unwrap().unwrap();
    let before = world.store.instance_fetch(TenantScope::All, moved.instance.id).await.unwrap();
    let again = world.store.instance_place_again(&leased.lease, &world.place(moved.instance.id, other)).await;
    let (after, _) = again.unwrap();
    let stays = world.active(node).await;
    let beat = |instances| NodeHeartbeat {
        agent_address: NodeAddress("127.0.0.1:7443".parse().unwrap()),
        inventory: inventory(1, 8, 10),
        load: NodeLoad::default(),
        instances,
        signs: Signs::default(),
    };
    let stays_now = world.store.instance_fetch(TenantScope::All, stays.instance.id).await.unwrap();
    let reported = vec![
        status(moved.instance.id, moved.order.id, before.pair()),
        status(stays.instance.id, stays.order.id, stays_now.pair()),
    ];
    let outcome = world.store.node_heartbeat(node, &beat(reported)).await.unwrap();
    let withdrawal = Withdrawal { instance_id: moved.instance.id, generation: after.generation };
    assert_eq!(outcome.withdrawn, [withdrawal], "what stays is not named");
    let here = world.store.node_heartbeat(other, &beat(vec![status(after.id, moved.order.id, after.pair())])).await;
    assert_eq!(here.unwrap().withdrawn, [], "it is wanted here");
    // A store that was restored knows less than the node: it has no say.
    let mut ahead = after.pair();
    ahead.generation.0 += 1;
    let newer = world.store.node_heartbeat(node, &beat(vec![status(after.id, moved.order.id, ahead)])).await.unwrap();
    assert_eq!((newer.withdrawn, newer.behind), (vec![], vec![after.id]));
}
