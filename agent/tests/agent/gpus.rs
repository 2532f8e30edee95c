//! GPUs: each instance keeps those that it was given, and no two ever have the same one.

use std::collections::BTreeSet;

use nemordp_types::instance::{Edition, GpuSpec, InstanceSpec};
use nemordp_types::node::NodeInventory;
use nemordp_types::{Failure, GpuModel, MiB, Reason};
use nemordp_wire::v1;

use crate::support::{Node, Wanted};

const GPUS: &str = r#"
        rdp = false
        [[gpu]]
        model = "rtx4000"
        address = "0000:01:00.0"
        [[gpu]]
        model = "l40s"
        address = "0000:02:00.0"
        [[gpu]]
        model = "rtx4000"
        address = "0000:03:00.0"
"#;

fn wanted(node: &Node, model: &str, count: u32) -> Wanted {
    let mut wanted = Wanted::new(&node.control);
    wanted.spec.gpus = Some(GpuSpec { model: GpuModel::new(model).unwrap(), count });
    wanted
}

fn next(wanted: &Wanted, change: impl FnOnce(&mut InstanceSpec)) -> Wanted {
    let mut next = wanted.with(wanted.then(wanted.mutation.pair.generation.0 + 1, 1));
    change(&mut next.spec);
    next
}

fn has(node: &Node, wanted: &Wanted) -> Vec<String> {
    node.host.gpus(wanted.mutation.instance_id).iter().map(ToString::to_string).collect()
}

fn is_refused(outcome: &Result<impl std::fmt::Debug, Failure>) -> bool {
    let refusal = outcome.as_ref().map_err(|failure| (failure.reason, failure.field.as_deref()));
    matches!(refusal, Err((Reason::CapacityExhausted, Some("spec.gpus"))))
}

#[tokio::test]
async fn a_node_says_which_gpus_it_has() {
    let mut node = Node::start(GPUS).await;
    let answer = node.client().get_inventory(v1::GetInventoryRequest {}).await.unwrap().into_inner();
    let inventory = NodeInventory::try_from(answer.inventory.unwrap()).unwrap();
    let gpus: Vec<(&str, u32)> = inventory.gpus.iter().map(|found| (found.model.as_str(), found.count)).collect();
    assert_eq!(gpus, [("l40s", 1), ("rtx4000", 2)]);
    node.stop().await;
}

#[tokio::test]
async fn an_instance_keeps_its_gpu_through_all_that_is_done_to_it() {
    let mut node = Node::start(GPUS).await;
    let (first, second) = (wanted(&node, "rtx4000", 1), wanted(&node, "rtx4000", 1));
    node.ensured(&first).await.unwrap();
    node.ensured(&second).await.unwrap();
    assert_eq!((has(&node, &first), has(&node, &second)), (vec!["0000:01:00.0".into()], vec!["0000:03:00.0".into()]));
    assert_eq!(node.status(second.mutation.instance_id).await.unwrap().gpus, Some(1));
    let delete = node.delete(&first.then(2, 1)).await.unwrap();
    node.outcome(delete).await.unwrap();
    assert!(has(&node, &first).is_empty());
    // A lower one is free now, and is not taken instead.
    let larger = next(&second, |spec| spec.memory = MiB(8_192));
    let fresh = next(&larger, |spec| (spec.disks.system, spec.disks.kept) = (Edition(3), Some(Edition(0))));
    let suspended = next(&fresh, |spec| spec.suspended = true);
    let back = next(&suspended, |spec| spec.suspended = false);
    for step in [&larger, &fresh, &suspended, &back] {
        node.ensured(step).await.unwrap();
        assert_eq!(has(&node, &second), ["0000:03:00.0"]);
    }
    let reset = node.power(&back.then(6, 1), v1::PowerAction::Reset).await.unwrap();
    node.outcome(reset).await.unwrap();
    node.stop().await;
    node.host.reboot().unwrap();
    node.reopen_host();
    node.at_once = true;
    node.boot().await;
    let again = next(&back, |spec| spec.memory = MiB(4_096));
    node.ensured(&again.with(again.then(7, 1))).await.unwrap();
    assert_eq!(has(&node, &second), ["0000:03:00.0"]);
    node.stop().await;
}

#[tokio::test]
async fn whoever_comes_when_all_are_taken_is_refused() {
    let mut node = Node::start(GPUS).await;
    let both = wanted(&node, "rtx4000", 2);
    node.ensured(&both).await.unwrap();
    assert_eq!(has(&node, &both), ["0000:01:00.0", "0000:03:00.0"]);
    let late = wanted(&node, "rtx4000", 1);
    assert!(is_refused(&node.ensured(&late).await));
    assert!(is_refused(&node.ensured(&wanted(&node, "l40s", 2)).await), "there is one");
    assert!(is_refused(&node.ensured(&wanted(&node, "h100", 1)).await), "there is none");
    node.ensured(&wanted(&node, "l40s", 1)).await.unwrap();
    let delete = node.delete(&both.then(2, 1)).await.unwrap();
    node.outcome(delete).await.unwrap();
    node.ensured(&late.with(late.then(1, 2))).await.unwrap();
    assert_eq!(has(&node, &late), ["0000:01:00.0"]);
    node.stop().await;
}

#[tokio::test]
async fn instances_that_come_at_once_never_get_the_same_gpu() {
    let mut node = Node::start(GPUS).await;
    for _ in 0..5 {
        let rivals: Vec<Wanted> = (0..6).map(|_| wanted(&node, "rtx4000", 1)).collect();
        let outcomes = futures::future::join_all(rivals.iter().map(|rival| node.ensured(rival))).await;
        let served: Vec<String> = rivals.iter().flat_map(|rival| has(&node, rival)).collect();
        assert_eq!(served.iter().collect::<BTreeSet<_>>().len(), 2, "{served:?}");
        assert_eq!(served.len(), 2, "{served:?}");
        assert_eq!(outcomes.iter().filter(|outcome| is_refused(outcome)).count(), 4);
        for rival in &rivals {
            let delete = node.delete(&rival.then(2, 1)).await.unwrap();
            node.outcome(delete).await.unwrap();
        }
    }
    node.stop().await;
}
