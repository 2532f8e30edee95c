use std::path::PathBuf;

use nemordp_model::{Adoption, Freeze, Lifecycle, OrderState, SagaKind, SagaStatus};
use nemordp_store::{
    Accepted, Effect, Hold, NodeHeartbeat, Page, SagaWrite, Signs, Store, StoreError, TenantScope, Wish, restore,
};
use nemordp_types::instance::{DesiredPower, InstanceStatus, ObservedPower};
use nemordp_types::node::{NodeAvailability, NodeLoad, NodePolicy};
use nemordp_types::{Bytes, Fence, Generation, InstanceId, NodeAddress, NodeId, Pair, Reason};

use crate::schema::execute;
use crate::support::{Apart, SECOND, World, inventory, on_both_stores, shape};

on_both_stores! {
    a_restored_store_touches_nothing_before_its_nodes_have_spoken
    a_node_that_knows_more_keeps_what_it_has_until_the_operator_settles_it
    an_order_that_was_under_way_waits_for_a_decision
    what_is_gone_is_given_up_on_command
    a_lease_that_its_node_refuses_freezes_the_instance_once
}

fn status(accepted: &Accepted, pair: Pair) -> InstanceStatus {
    InstanceStatus {
        instance_id: accepted.instance.id,
        order_id: accepted.order.id,
        pair,
        power: ObservedPower::Off,
        guest_agent: false,
        confirmed_ipv4: None,
        rdp_certificate_sha256: None,
        started_at: None,
        vcpu: shape().vcpu,
        memory: shape().memory,
        disk: Bytes::from(shape().disk),
        gpus: Some(0),
    }
}

/// The node reports these, a second later.
async fn report(world: &World, node: NodeId, instances: Vec<InstanceStatus>) -> nemordp_store::HeartbeatOutcome {
    world.clock.advance(SECOND);
    let beat = NodeHeartbeat {
        agent_address: NodeAddress("127.0.0.1:7443".parse().unwrap()),
        inventory: inventory(1, 8, 20),
        load: NodeLoad::default(),
        instances,
        signs: Signs::default(),
    };
    world.store.node_heartbeat(node, &beat).await.unwrap()
}

async fn frozen(world: &World, id: InstanceId) -> Option<Freeze> {
    world.store.instance_fetch(TenantScope::All, id).await.unwrap().frozen
}

async fn stop(world: &World, id: InstanceId) -> Result<(), StoreError> {
    let saga = world.saga(SagaKind::Stop);
    world.store.instance_change(TenantScope::All, id, &Wish::PowerOff, &saga, None).await.map(drop)
}

async fn adopt(world: &World, id: InstanceId, how: Adoption) -> Result<nemordp_model::Instance, StoreError> {
    Ok(world.store.instance_adopt(id, how, None).await?.done().unwrap())
}

fn pair(generation: u64, fence: u64) -> Pair {
    Pair { generation: Generation(generation), fence: Fence(fence) }
}

#[track_caller]
fn conflict<T: std::fmt::Debug>(outcome: Result<T, StoreError>, part: &str) {
    match outcome {
        Err(StoreError::Refused(failure)) if failure.reason == Reason::Conflict => {
            assert!(failure.message.contains(part), "{failure}");
        }
        other => panic!("not a conflict about `{part}`: {other:?}"),
    }
}

async fn a_restored_store_touches_nothing_before_its_nodes_have_spoken(world: &World) {
    let node = world.node("a", 1, 8, 20).await;
    let kept = world.active(node).await;
    let building = world.accept(node).await.unwrap();
    world.ticket(77, None).await;
    let link = [5; 32];
    world.store.secret_link(kept.instance.id, &link, world.later(3_600 * SECOND)).await.unwrap();
    let restored = world.store.mark_restored().await.unwrap();
    assert_eq!((restored.instances, restored.nodes, restored.tickets, restored.links), (2, 1, 1, 1));
    assert!(world.store.saga_claim("r1", SECOND).await.unwrap().is_none(), "nobody works on what is frozen");
    assert_eq!(world.store.saga_next_due().await.unwrap(), None, "and nobody wakes for it");
    assert_eq!(world.store.secret_link_standing(&link).await.unwrap(), None, "it may have been opened since");
    assert!(matches!(world.store.ticket_check(&[77; 32], &[1; 32]).await, Err(StoreError::TicketExpired)));
    let seen = world.store.node_fetch(node).await.unwrap();
    assert_eq!((seen.policy, seen.availability), (NodePolicy::Cordoned, NodeAvailability::Unknown));
    match stop(world, kept.instance.id).await {
        Err(StoreError::Refused(failure)) => assert_eq!(failure.reason, Reason::StoreBehindNode),
        other => panic!("{other:?}"),
    }
    conflict(adopt(world, kept.instance.id, Adoption::Keep).await, "has not reported");

    let now = world.store.instance_fetch(TenantScope::All, kept.instance.id).await.unwrap();
    report(world, node, vec![status(&kept, now.pair())]).await;
    assert_eq!(frozen(world, kept.instance.id).await, None, "its node knows nothing that the store does not");
    assert_eq!(frozen(world, building.instance.id).await, Some(Freeze::Missing));
    assert_eq!(world.store.instance_frozen_count().await.unwrap(), [(Freeze::Missing, 1)]);
    assert_eq!(world.count_events("instance.verified").await, 1);
    stop(world, kept.instance.id).await.unwrap();
}

async fn a_node_that_knows_more_keeps_what_it_has_until_the_operator_settles_it(world: &World) {
    let node = world.node("a", 1, 8, 20).await;
    let accepted = world.active(node).await;
    let id = accepted.instance.id;
    world.store.mark_restored().await.unwrap();
    let outcome = report(world, node, vec![status(&accepted, pair(7, 9))]).await;
    assert_eq!(outcome.frozen, [id]);
    assert_eq!(report(world, node, vec![status(&accepted, pair(7, 9))]).await.frozen, [], "told once");
    assert_eq!(frozen(world, id).await, Some(Freeze::StoreBehind));
    assert_eq!(world.count_events("instance.frozen").await, 1);
    for (how, part) in
        [(Adoption::Gone, "has it"), (Adoption::Delivered, "not under way"), (Adoption::Resume, "nothing is under way")]
    {
        conflict(adopt(world, id, how).await, part);
    }
    let adopted = adopt(world, id, Adoption::Keep).await.unwrap();
    assert_eq!((adopted.pair(), adopted.frozen), (pair(7, 9), None));
    assert_eq!(adopted.desired_power(), DesiredPower::Off, "as its node has it");
    conflict(adopt(world, id, Adoption::Keep).await, "not frozen");
    stop(world, id).await.unwrap();
    let lease = world.store.saga_claim("r1", SECOND).await.unwrap().unwrap().lease;
    assert_eq!(lease.instance.unwrap().1, pair(8, 10), "above all that the node has seen");
    assert_eq!(world.count_events("instance.adopted").await, 1);
}

async fn an_order_that_was_under_way_waits_for_a_decision(world: &World) {
    let node = world.node("a", 1, 8, 20).await;
    let mut orders = Vec::new();
    for _ in 0..2 {
        orders.push(world.accept(node).await.unwrap());
        world.store.saga_claim("gone", SECOND).await.unwrap().unwrap();
    }
    world.store.mark_restored().await.unwrap();
    // Equal numbers: many steps of a saga share them, so they prove nothing here.
    report(world, node, orders.iter().map(|order| status(order, pair(1, 1))).collect()).await;
    for order in &orders {
        assert_eq!(frozen(world, order.instance.id).await, Some(Freeze::Undecided));
        conflict(adopt(world, order.instance.id, Adoption::Keep).await, "delivered");
    }
    let delivered = adopt(world, orders[0].instance.id, Adoption::Delivered).await.unwrap();
    assert_eq!(delivered.lifecycle, Lifecycle::Active);
    let order = world.store.order_fetch(TenantScope::All, orders[0].order.id).await.unwrap();
    assert_eq!(order.state, OrderState::Active);
    let saga = world.store.saga_fetch(TenantScope::All, orders[0].order.saga_id).await.unwrap();
    assert_eq!(saga.status, SagaStatus::Cancelled);
    assert!(world.store.saga_claim("r1", SECOND).await.unwrap().is_none(), "the other one still waits");
    adopt(world, orders[1].instance.id, Adoption::Resume).await.unwrap();
    let leased = world.store.saga_claim("r1", SECOND).await.unwrap().unwrap();
    assert_eq!((leased.saga.id, leased.saga.kind), (orders[1].order.saga_id, SagaKind::Provision));
}

async fn what_is_gone_is_given_up_on_command(world: &World) {
    let node = world.node("a", 1, 8, 20).await;
    let (active, building) = (world.active(node).await, world.accept(node).await.unwrap());
    world.store.mark_restored().await.unwrap();
    report(world, node, Vec::new()).await;
    for accepted in [&active, &building] {
        assert_eq!(frozen(world, accepted.instance.id).await, Some(Freeze::Missing));
        conflict(adopt(world, accepted.instance.id, Adoption::Keep).await, "does not have it");
        adopt(world, accepted.instance.id, Adoption::Gone).await.unwrap();
    }
    let lifecycle = async |id| world.store.instance_fetch(TenantScope::All, id).await.unwrap().lifecycle;
    assert_eq!(lifecycle(active.instance.id).await, Lifecycle::Deleted);
    assert_eq!(lifecycle(building.instance.id).await, Lifecycle::Failed);
    let order = world.store.order_fetch(TenantScope::All, building.order.id).await.unwrap();
    assert_eq!(order.state, OrderState::Failed);
    assert_eq!(world.store.node_fetch(node).await.unwrap().reserved, Default::default());
    let open = world.store.reservation_list(Page::first(10)).await.unwrap();
    assert!(open.items.iter().all(|reservation| reservation.released_at.is_some()));
    assert!(world.store.saga_claim("r1", SECOND).await.unwrap().is_none());
}

async fn a_lease_that_its_node_refuses_freezes_the_instance_once(world: &World) {
    let node = world.node("a", 1, 8, 20).await;
    let id = world.active(node).await.instance.id;
    stop(world, id).await.unwrap();
    let old = world.store.saga_claim("r1", SECOND).await.unwrap().unwrap().lease;
    world.clock.advance(2 * SECOND);
    let new = world.store.saga_claim("r2", SECOND).await.unwrap().unwrap().lease;
    assert!(!world.store.instance_freeze_behind(&old).await.unwrap(), "a newer lease explains the refusal");
    assert!(world.store.instance_freeze_behind(&new).await.unwrap());
    assert!(!world.store.instance_freeze_behind(&new).await.unwrap());
    assert_eq!(frozen(world, id).await, Some(Freeze::StoreBehind));
    let write = SagaWrite {
        state: "{}",
        status: SagaStatus::Done,
        step: 2,
        failure: None,
        hold: Hold::Keep(SECOND),
        steps: &[],
        effects: &[Effect::EraseSecret { instance_id: id }],
    };
    assert_eq!(world.store.saga_write(&new, &write).await, Err(StoreError::StaleFence), "whoever worked has to stop");
}

fn folder(url: &str) -> PathBuf {
    PathBuf::from(url).parent().unwrap().to_owned()
}

async fn restored(world: &Apart, file: &str, replace: bool) -> Result<nemordp_store::Replaced, StoreError> {
    let (clock, entropy) = (world.clock.clone(), world.entropy.clone());
    restore(&world.url, &folder(&world.url).join(file), replace, clock, entropy).await
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, StoreError>, reason: Reason, part: &str) {
    match outcome {
        Err(StoreError::Refused(failure)) => {
            assert_eq!(failure.reason, reason, "{failure}");
            assert!(failure.message.contains(part), "{failure}");
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_is_made_in_use_and_put_back_at_rest() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::on_sqlite().await;
    let node = world.node("a", 1, 8, 20).await;
    let kept = world.active(node).await;
    let copy = folder(&world.url).join("copy");
    // While orders come in, whole ones are in the copy, or nothing of them.
    let orders = futures::future::join_all((0..3).map(|_| world.accept(node)));
    let (backup, orders) = tokio::join!(world.store.backup(&copy), orders);
    let backup = backup.unwrap();
    assert_eq!(std::fs::metadata(&copy).unwrap().permissions().mode() & 0o777, 0o600, "sealed passwords lie in it");
    assert_eq!(backup.bytes, std::fs::metadata(&copy).unwrap().len());
    assert!(orders.iter().all(Result::is_ok));
    refused(world.store.backup(&copy).await, Reason::AlreadyExists, "is there");
    let forgotten = world.accept(node).await.unwrap();

    let (clock, entropy) = (world.clock.clone(), world.entropy.clone());
    refused(restore(&world.url, &copy, true, clock, entropy).await, Reason::Conflict, "in use");
    world.store.close().await;
    let world = world.let_go();
    refused(restored(&world, "copy", false).await, Reason::AlreadyExists, "--replace");
    let replaced = restored(&world, "copy", true).await.unwrap();
    assert_eq!(replaced.installation_id, backup.installation_id);
    assert!(replaced.before.unwrap().is_file(), "the store from before is kept");
    let store = world.reopen().await.unwrap();
    assert_eq!(
        store.instance_fetch(TenantScope::All, kept.instance.id).await.unwrap().frozen,
        Some(Freeze::Unverified)
    );
    let missing = store.instance_fetch(TenantScope::All, forgotten.instance.id).await;
    assert!(matches!(missing, Err(StoreError::NotFound { .. })));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_no_backup_of_this_store_is_not_put_back() {
    let world = World::on_sqlite().await;
    let (mine, other) = (folder(&world.url).join("mine"), World::on_sqlite().await);
    world.store.backup(&mine).await.unwrap();
    let foreign = folder(&world.url).join("foreign");
    execute(&other.url, "UPDATE installation SET id = x'01890000000070008000000000000001'").await.unwrap();
    other.store.backup(&foreign).await.unwrap();
    world.store.close().await;
    let world = world.let_go();
    let before = std::fs::read(&world.url).unwrap();
    let bytes = std::fs::read(&mine).unwrap();
    let damaged = |name: &str, bytes: &[u8]| std::fs::write(folder(&world.url).join(name), bytes).unwrap();
    damaged("cut", &bytes[..bytes.len() / 2]);
    damaged("empty", b"");
    damaged("text", b"this is no database");
    let mut flipped = bytes.clone();
    for byte in &mut flipped[8_192..12_288] {
        *byte ^= 0x5a;
    }
    damaged("flipped", &flipped);
    for name in ["cut", "empty", "text", "flipped", "nothing"] {
        refused(restored(&world, name, true).await, Reason::InvalidArgument, "no whole backup");
    }
    refused(restored(&world, "foreign", true).await, Reason::Conflict, "installation");
    let newer = folder(&world.url).join("newer");
    std::fs::copy(&mine, &newer).unwrap();
    let sql = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
               VALUES (9999, 'from the future', true, x'00', 0)";
    execute(&newer.display().to_string(), sql).await.unwrap();
    assert!(matches!(restored(&world, "newer", true).await, Err(StoreError::SchemaTooNew { found: 9_999, .. })));
    assert_eq!(std::fs::read(&world.url).unwrap(), before, "the store is what it was");
    let store: Store = world.reopen().await.unwrap();
    store.ping().await.unwrap();
}
