//! What is not sold: held back on a node, or held for scarce plans.

use nemordp_model::{Amounts, GpuDemand, PlacementRequest, Refusal, SagaKind, Wish, place};
use nemordp_store::{NewPlan, OrderAccept, Shape, StoreError, TenantScope};
use nemordp_types::node::{GpuInventory, NodeInventory};
use nemordp_types::{Bytes, Failure, GiB, GpuModel, MiB, NodeId, PlanName, Reason, Vcpu};

use crate::support::{World, inventory, on_both_stores, plan_name, region, shape, storage};

on_both_stores! {
    what_is_held_back_is_not_sold_whoever_asks
    an_instance_does_not_grow_into_what_is_held_back
    slots_are_held_while_their_plan_is_on_sale
}

async fn hold_back(world: &World, node: NodeId, amounts: Amounts) {
    let held = world.store.node_set_held_back(node, amounts, None).await.unwrap().done().unwrap();
    assert_eq!(held.held_back, amounts);
    assert_eq!(world.store.node_fetch(node).await.unwrap().held_back, amounts);
}

fn room_for_one() -> [Amounts; 3] {
    let nothing = Amounts::default();
    [Amounts { vcpu: Vcpu(2), ..nothing }, Amounts { memory: MiB(1), ..nothing }, Amounts { disk: Bytes(1), ..nothing }]
}

async fn what_is_held_back_is_not_sold_whoever_asks(world: &World) {
    // Two instances by memory and disk, and with processors sold twice, by four.
    let (a, b) = (world.node("a", 1, 2, 10).await, world.node("b", 2, 2, 10).await);
    world.accept(a).await.unwrap();
    let elsewhere = world.accept(b).await.unwrap();
    let leased = loop {
        let leased = world.store.saga_claim("test", crate::support::SECOND).await.unwrap().unwrap();
        if leased.lease.instance.unwrap().0 == elsewhere.instance.id {
            break leased;
        }
    };
    for amounts in room_for_one() {
        hold_back(world, a, amounts).await;
        let fleet = world.store.fleet_snapshot(None).await.unwrap();
        let node = fleet.nodes.iter().find(|node| node.id == a).unwrap();
        assert_eq!(node.held_back.maintenance, amounts);
        if amounts.vcpu == Vcpu(0) {
            assert_eq!(world.accept(a).await, Err(StoreError::Raced), "{amounts:?}");
            let again = world.store.instance_place_again(&leased.lease, &world.place(elsewhere.instance.id, a)).await;
            assert_eq!(again.unwrap_err(), StoreError::Raced, "{amounts:?}");
            let mut request = PlacementRequest::new(region(), demand(None));
            request.template = crate::support::template().digest;
            request.exclude.insert(b);
            let refusals = place(&request, &fleet).unwrap_err();
            assert_eq!(refusals.counts().get(&Refusal::HeldBack), Some(&1), "{amounts:?}");
        }
    }
    let all = Amounts { vcpu: Vcpu(2), memory: MiB(0), disk: Bytes(0) };
    hold_back(world, a, Amounts { vcpu: Vcpu(1), ..all }).await;
    assert_eq!(world.accept(a).await, Err(StoreError::Raced), "four are sold, two are taken, one is held back");
    let before = world.count_events("node.changed").await;
    for _ in 0..2 {
        hold_back(world, a, Amounts::default()).await;
    }
    assert_eq!(world.count_events("node.changed").await, before + 1);
    world.accept(a).await.unwrap();
    let absurd = Amounts { vcpu: Vcpu(5_000), ..Amounts::default() };
    let refused = world.store.node_set_held_back(a, absurd, None).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Refused(f) if f.field.as_deref() == Some("vcpu")), "{refused:?}");
}

fn demand(gpus: Option<GpuDemand>) -> nemordp_model::Demand {
    let Shape { vcpu, memory, disk, storage_class, .. } = shape();
    nemordp_model::Demand { vcpu, memory, disk, storage_class, gpus }
}

async fn an_instance_does_not_grow_into_what_is_held_back(world: &World) {
    let node = world.node("a", 1, 4, 10).await;
    let bought = world.active(node).await.instance;
    let grow = async |vcpu: Option<u32>, memory: Option<u64>, disk: Option<u64>| -> Option<Failure> {
        let wish = Wish::Resize { vcpu: vcpu.map(Vcpu), memory: memory.map(MiB), disk: disk.map(GiB) };
        let saga = world.saga(SagaKind::Resize);
        let changed = world.store.instance_change(TenantScope::All, bought.id, &wish, &saga, None).await;
        changed.err().map(Failure::from)
    };
    let half = Amounts { vcpu: Vcpu(4), memory: MiB(8_192), disk: GiB(100).into() };
    hold_back(world, node, half).await;
    for (refused, field) in [
        (grow(Some(5), None, None).await, "vcpu"),
        (grow(None, Some(8_193), None).await, "memory_mib"),
        (grow(None, None, Some(101)).await, "disk_gib"),
    ] {
        let refused = refused.unwrap();
        assert_eq!((refused.reason, refused.field.as_deref()), (Reason::CapacityExhausted, Some(field)));
    }
    assert_eq!(grow(Some(4), Some(8_192), Some(100)).await, None);
}

async fn slots_are_held_while_their_plan_is_on_sale(world: &World) {
    let node = world.node("a", 1, 4, 20).await;
    let model = GpuModel::new("l40s").unwrap();
    let gpus = vec![GpuInventory { model: model.clone(), count: 2 }];
    world.beat(node, NodeInventory { gpus, ..inventory(1, 4, 20) }).await;
    let gpus = Some(GpuDemand { count: 1, model: Some(model) });
    let name = PlanName::new("gpu").unwrap();
    let mut plan = NewPlan {
        name: name.clone(),
        vcpu: Vcpu(2),
        memory: MiB(4_096),
        disk: GiB(50),
        storage_class: storage(),
        gpus: gpus.clone(),
        labels: Default::default(),
        on_sale: true,
    };
    world.store.plan_put(&plan, None).await.unwrap();
    world.store.slot_reserve_set(&region(), &name, 2, None).await.unwrap();
    let elsewhere = "hel1".parse().unwrap();
    world.store.slot_reserve_set(&elsewhere, &name, 5, None).await.unwrap();
    let held = world.store.fleet_snapshot(Some(&region())).await.unwrap().reserves;
    assert_eq!(held, [nemordp_model::SlotReserve { region: region(), demand: demand(gpus.clone()), slots: 2 }]);
    assert_eq!(world.store.fleet_snapshot(None).await.unwrap().reserves.len(), 2);
    let placed = async |gpus: Option<GpuDemand>| {
        let fleet = world.store.fleet_snapshot(None).await.unwrap();
        let request = PlacementRequest {
            template: crate::support::template().digest,
            ..PlacementRequest::new(region(), demand(gpus))
        };
        place(&request, &fleet).map(|_| ()).map_err(|refusals| refusals.counts().into_keys().collect::<Vec<_>>())
    };
    // Four instances fit, two of them with a GPU: two may go to anybody.
    for _ in 0..2 {
        assert_eq!(placed(None).await, Ok(()));
        world.accept(node).await.unwrap();
    }
    assert_eq!(placed(None).await, Err(vec![Refusal::Reserve]));
    assert_eq!(placed(gpus.clone()).await, Ok(()));
    let order = OrderAccept { shape: Shape { gpus: gpus.clone(), ..shape() }, ..world.order(node) };
    world.store.order_accept(&order, None).await.unwrap();
    world.store.slot_reserve_set(&region(), &name, 1, None).await.unwrap();
    assert_eq!(placed(None).await, Err(vec![Refusal::Reserve]), "the other slot");
    plan.on_sale = false;
    world.store.plan_put(&plan, None).await.unwrap();
    assert_eq!(placed(None).await, Ok(()), "nobody can order it");
    (plan.on_sale, plan.gpus) = (true, None);
    world.store.plan_put(&plan, None).await.unwrap();
    assert_eq!(placed(None).await, Ok(()), "it asks for none any more");
    plan.gpus = gpus;
    world.store.plan_put(&plan, None).await.unwrap();
    assert_eq!(placed(None).await, Err(vec![Refusal::Reserve]));
    world.store.slot_reserve_set(&region(), &name, 0, None).await.unwrap();
    assert_eq!(placed(None).await, Ok(()));
    let left = world.store.slot_reserve_list().await.unwrap();
    assert_eq!(left.iter().map(|reserve| (reserve.region.as_str(), reserve.slots)).collect::<Vec<_>>(), [("hel1", 5)]);
    assert_eq!(world.count_events("reserve.changed").await, 4);
    assert_ne!(name, plan_name());
}
