//! The end of a user's sessions: announced, then done.

use std::time::Duration;

use nemordp_agent::config::FaultCall;
use nemordp_agent::host::sim::{Desktop, Fault};
use nemordp_types::{Failure, Mutation, Reason};
use nemordp_wire::v1;

use crate::support::{Node, Wanted, read};

async fn end_sessions(node: &Node, mutation: &Mutation, proof_only: bool) -> Result<(), Failure> {
    let request = v1::EndSessionsRequest {
        mutation: Some(mutation.into()),
        login_name: "user".to_owned(),
        proof_only,
        wait_ms: 0,
    };
    let operation = read(node.client().end_sessions(request).await)?;
    node.outcome(operation).await.map(drop)
}

fn announced(seen: &[Desktop]) -> bool {
    matches!(seen.first(), Some(Desktop::Announced(text)) if text.contains("password") && text.contains("ends"))
}

#[tokio::test]
async fn the_end_of_a_users_sessions_is_announced_on_the_desktop_before_it_comes() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    let id = wanted.mutation.instance_id;
    node.ensured(&wanted).await.unwrap();
    node.host.open_desktop(id).unwrap();
    end_sessions(&node, &wanted.then(1, 2), true).await.unwrap();
    assert_eq!(node.host.desktop(id), [], "a proof's own session is nobody's");
    end_sessions(&node, &wanted.then(1, 3), false).await.unwrap();
    let seen = node.host.desktop(id);
    assert!(announced(&seen) && seen[1..] == [Desktop::Ended], "{seen:?}");
    end_sessions(&node, &wanted.then(1, 4), false).await.unwrap();
    assert_eq!(node.host.desktop(id).len(), 2, "nobody is there to be told");
    node.stop().await;
}

#[tokio::test]
async fn an_announcement_that_fails_or_hangs_keeps_nothing_from_ending() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    let id = wanted.mutation.instance_id;
    node.ensured(&wanted).await.unwrap();
    for (fence, fault) in [(2, Fault::Fail(Reason::GuestAgentTimeout)), (3, Fault::Delay(Duration::from_secs(3_600)))] {
        node.host.open_desktop(id).unwrap();
        node.host.faults().next(FaultCall::GuestAnnounce, 1, fault);
        end_sessions(&node, &wanted.then(1, fence), false).await.unwrap();
        assert_eq!(node.host.desktop(id).last(), Some(&Desktop::Ended));
    }
    assert!(!node.host.desktop(id).iter().any(|seen| matches!(seen, Desktop::Announced(_))));
    node.stop().await;
}
