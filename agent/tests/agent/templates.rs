//! Templates on their way to the node: once for all, resumed, verified.

use std::sync::atomic::Ordering;

use nemordp_types::Reason;
use nemordp_wire::v1;

use crate::control::Sending;
use crate::support::{Node, Wanted, eventually};

#[tokio::test]
async fn four_orders_fetch_one_template_once() {
    let mut node = Node::start("rdp = false").await;
    let wanted: Vec<Wanted> = (0..4).map(|_| Wanted::new(&node.control)).collect();
    let all = futures::future::join_all(wanted.iter().map(|one| node.ensured(one))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(node.control.state.fetches.load(Ordering::SeqCst), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_broken_connection_is_resumed_where_it_broke() {
    let mut node = Node::start("rdp = false").await;
    *node.control.state.sending.lock().unwrap() = Sending::BreaksAfter(130_000);
    let done = node.ensured(&Wanted::new(&node.control)).await;
    assert!(done.is_ok(), "{done:?}");
    assert_eq!(node.control.state.fetches.load(Ordering::SeqCst), 3, "300000 bytes, 130000 at a time");
    node.stop().await;
}

#[tokio::test]
async fn truncated_and_corrupt_templates_are_refused_and_the_next_attempt_begins_anew() {
    let mut node = Node::start("rdp = false").await;
    let wanted = Wanted::new(&node.control);
    for (sending, reason, field) in [
        (Sending::Corrupt, Reason::TemplateDigestMismatch, "template.digest"),
        (Sending::Truncated, Reason::TemplateTruncated, "template"),
    ] {
        *node.control.state.sending.lock().unwrap() = sending;
        let failure = node.ensured(&wanted).await.unwrap_err();
        assert_eq!((failure.reason, failure.field.as_deref()), (reason, Some(field)), "{sending:?} {failure:?}");
        assert!(node.host.is_clean(wanted.mutation.instance_id), "nothing was made");
    }
    let listed = node.client().list_templates(v1::ListTemplatesRequest {}).await.unwrap().into_inner().templates;
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].state(), v1::TemplateState::Failed);
    *node.control.state.sending.lock().unwrap() = Sending::Whole;
    node.ensured(&wanted).await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_template_can_be_prepared_before_the_first_order() {
    let mut node = Node::start("rdp = false").await;
    let template = node.control.template();
    let request = || v1::PrepareTemplateRequest { template: Some((&template).into()) };
    eventually("ready", || async {
        let answer = node.client().prepare_template(request()).await.unwrap().into_inner();
        answer.presence.unwrap().state() == v1::TemplateState::Ready
    })
    .await;
    node.ensured(&Wanted::new(&node.control)).await.unwrap();
    assert_eq!(node.control.state.fetches.load(Ordering::SeqCst), 1);
    node.stop().await;
}
