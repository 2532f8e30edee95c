//! Two agents with one certificate, and clocks that are wrong.

use jiff::SignedDuration;
use nemordp_model::session::AgentSession;
use nemordp_store::{HeartbeatOutcome, NodeHeartbeat, Sender, Signs, StoreError};
use nemordp_types::node::{NodeLoad, NodePolicy};
use nemordp_types::{NodeAddress, NodeId, Reason};

use crate::support::{SECOND, World, inventory, on_both_stores};

on_both_stores! {
    two_agents_with_one_certificate_are_found_cordoned_and_told_once
    a_restarted_agent_is_no_copy
    a_clock_that_goes_wrong_is_told_and_one_that_is_right_again_too
}

async fn beat(world: &World, node: NodeId, session: u8, beat: u64) -> HeartbeatOutcome {
    let beat = NodeHeartbeat {
        agent_address: NodeAddress(([192, 0, 2, session], 7444).into()),
        inventory: inventory(1, 4, 10),
        load: NodeLoad::default(),
        instances: Vec::new(),
        signs: Signs {
            sender: Some(Sender { session: AgentSession([session; 16]), beat }),
            sent_at: Some(world.now()),
            ..Signs::default()
        },
    };
    world.clock.advance(SECOND);
    world.store.node_heartbeat(node, &beat).await.unwrap()
}

async fn two_agents_with_one_certificate_are_found_cordoned_and_told_once(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    for (session, number) in [(1, 1), (1, 2), (2, 1), (1, 3), (2, 2)] {
        assert!(!beat(world, node, session, number).await.doubled, "{session} {number}");
    }
    assert!(beat(world, node, 1, 4).await.doubled);
    assert!(beat(world, node, 2, 3).await.doubled, "both learn it");
    let shown = world.store.node_fetch(node).await.unwrap();
    assert_eq!(shown.policy, NodePolicy::Cordoned);
    assert!(shown.doubled_at.is_some());
    assert_eq!(shown.agent_address.to_string(), "192.0.2.1:7444", "commands go to the first, whoever spoke last");
    assert_eq!(world.count_events("node.doubled").await, 1);
    let StoreError::Refused(refused) = world.store.node_set_policy(node, NodePolicy::Active, None).await.unwrap_err()
    else {
        panic!("a node with two agents took new instances");
    };
    assert_eq!((refused.reason, refused.field.as_deref()), (Reason::Conflict, Some("policy")));
    // With a new key it begins anew.
    world.ticket(7, Some(node)).await;
    world.store.node_enroll(&world.enroll_request(node, "a", 7, 7)).await.unwrap();
    assert!(!beat(world, node, 3, 1).await.doubled);
    world.store.node_set_policy(node, NodePolicy::Active, None).await.unwrap();
    assert_eq!(world.store.node_fetch(node).await.unwrap().agent_address.to_string(), "192.0.2.3:7444");
}

async fn a_restarted_agent_is_no_copy(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    // The last heartbeat of the first process was on its way while the second began.
    for (session, number) in [(1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (3, 2), (4, 1)] {
        assert!(!beat(world, node, session, number).await.doubled, "{session} {number}");
    }
    assert_eq!(world.store.node_fetch(node).await.unwrap().policy, NodePolicy::Active);
}

async fn a_clock_that_goes_wrong_is_told_and_one_that_is_right_again_too(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    for (hours, events) in [(0, 0), (-3, 1), (-3, 1), (0, 2), (5, 3)] {
        let off = SignedDuration::from_hours(hours);
        let beat = NodeHeartbeat {
            agent_address: NodeAddress("127.0.0.1:7443".parse().unwrap()),
            inventory: inventory(1, 4, 10),
            load: NodeLoad::default(),
            instances: Vec::new(),
            signs: Signs { sent_at: Some(world.now().checked_add(off).unwrap()), ..Signs::default() },
        };
        let outcome = world.store.node_heartbeat(node, &beat).await.unwrap();
        assert_eq!(outcome.clock_skew, Some(off));
        assert_eq!(world.count_events("node.clock_skewed").await, events, "{hours}");
        assert_eq!(world.store.node_fetch(node).await.unwrap().clock_skew, Some(off));
    }
}
