//! Nodes fetch templates before an order needs them.

use std::sync::Arc;
use std::time::Duration;

use nemordp_control_plane::reconcile::{Reconciler as _, TemplatesAhead};
use nemordp_store::{NodeHeartbeat, Signs};
use nemordp_types::node::{NodeLoad, NodePolicy};
use nemordp_types::template::{TemplatePresence, TemplateState};
use nemordp_types::{Bytes, Failure, NodeId, Reason, TemplateDigest};

use crate::kit::{Backend, World};

const DIGEST: TemplateDigest = TemplateDigest::from_bytes([3; 32]);

fn reconciler(world: &World) -> TemplatesAhead {
    TemplatesAhead::new(world.tools.store.clone(), world.nodes.clone(), world.clock.clone())
}

async fn report(world: &World, node: NodeId, state: TemplateState) {
    let shown = world.tools.store.node_fetch(node).await.unwrap();
    let beat = NodeHeartbeat {
        agent_address: shown.agent_address,
        inventory: shown.inventory,
        load: NodeLoad::default(),
        instances: Vec::new(),
        signs: Signs {
            templates: vec![TemplatePresence { digest: DIGEST, state, fetched: Bytes(1 << 19) }],
            ..Signs::default()
        },
    };
    world.tools.store.node_heartbeat(node, &beat).await.unwrap();
}

#[tokio::test]
async fn active_nodes_are_asked_until_they_have_it_a_few_at_a_time() {
    let world = World::with_nodes(12, Backend::Sqlite).await;
    world.tools.store.node_set_policy(world.node_ids[0], NodePolicy::Cordoned, None).await.unwrap();
    let ahead = reconciler(&world);
    let told = ahead.run().await.unwrap().text;
    assert_eq!(world.nodes.prepared().len(), 8, "{told}");
    assert!(told.starts_with("1 templates on 11 nodes: 0 ready, 8 fetching, 0 failed"), "{told}");
    let first = world.nodes.prepared();
    assert!(first.iter().all(|(node, digest)| *node != world.node_ids[0] && *digest == DIGEST), "{first:?}");
    for (node, _) in &first {
        report(&world, *node, TemplateState::Fetching).await;
    }
    let told = ahead.run().await.unwrap().text;
    assert!(told.contains("has 50 % of debian-12-xrdp"), "{told}");
    assert_eq!(world.nodes.prepared().len(), 8, "no more at once");
    for (node, _) in &first {
        report(&world, *node, TemplateState::Ready).await;
    }
    ahead.run().await.unwrap();
    let all = world.nodes.prepared();
    assert_eq!(all.len(), 11, "the others have their turn");
    for (node, _) in &all[8..] {
        report(&world, *node, TemplateState::Ready).await;
    }
    assert_eq!(ahead.run().await.unwrap().text, "1 templates on 11 nodes: 11 ready, 0 fetching, 0 failed");
    assert_eq!(world.nodes.prepared().len(), 11, "who has it is not asked");
}

#[tokio::test]
async fn a_node_that_cannot_fetch_is_shown_and_asked_again_after_a_while() {
    let world = World::with_nodes(1, Backend::Sqlite).await;
    let full = Failure::new(Reason::DiskFull, "the pool is full: make room");
    world.nodes.prepare_fails(Some(full));
    let ahead = Arc::new(reconciler(&world));
    for _ in 0..2 {
        let told = ahead.run().await.unwrap().text;
        assert!(told.starts_with("1 templates on 1 nodes: 0 ready, 0 fetching, 1 failed"), "{told}");
    }
    assert_eq!(world.nodes.prepared().len(), 1, "it is left alone for a while");
    world.nodes.prepare_fails(None);
    world.clock.advance(Duration::from_secs(61));
    let told = ahead.run().await.unwrap().text;
    assert!(told.contains("1 fetching"), "{told}");
}
