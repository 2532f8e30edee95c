use std::collections::BTreeSet;

use nemordp_model::{ApiScope, GpuDemand};
use nemordp_store::{NewPlan, Page, StoreError, TenantScope};
use nemordp_types::{GpuModel, PlanName, Reason, TemplateDigest, TemplateName, Vcpu};

use crate::support::{SECOND, World, label, on_both_stores, plan_name, shape, template};

on_both_stores! {
    a_key_works_until_it_is_revoked_or_its_tenant_disabled
    a_plan_without_an_amount_is_refused
    the_newest_template_of_a_name_is_used
    names_of_tenants_are_unique
    delivered_events_are_not_listed_again
}

async fn a_key_works_until_it_is_revoked_or_its_tenant_disabled(world: &World) {
    let key = world.store.api_key_authenticate(&[9; 32]).await.unwrap().unwrap();
    assert_eq!((key.id, key.tenant_id, key.last_used_at), (world.key, world.tenant, Some(world.now())));
    assert!(key.scopes.contains(ApiScope::Orders) && !key.scopes.contains(ApiScope::Admin));
    assert_eq!(world.store.api_key_authenticate(&[8; 32]).await.unwrap(), None);
    world.store.api_key_revoke(TenantScope::Only(world.tenant), world.key).await.unwrap();
    assert_eq!(world.store.api_key_authenticate(&[9; 32]).await.unwrap(), None);
    let listed = world.store.api_key_list(TenantScope::All, Page::first(5)).await.unwrap().items;
    assert_eq!(listed[0].revoked_at, Some(world.now()));
    let (c, e) = world.ids();
    let other = nemordp_store::NewApiKey {
        id: nemordp_types::ApiKeyId::new(c, e),
        tenant_id: world.tenant,
        label: label("cli"),
        scopes: key.scopes,
        secret_sha256: [7; 32],
    };
    world.store.api_key_create(&other, None).await.unwrap();
    assert!(world.store.api_key_authenticate(&[7; 32]).await.unwrap().is_some());
    world.store.tenant_disable(world.tenant).await.unwrap();
    assert_eq!(world.store.api_key_authenticate(&[7; 32]).await.unwrap(), None);
}

async fn a_plan_without_an_amount_is_refused(world: &World) {
    let bad = NewPlan {
        name: PlanName::new("bad").unwrap(),
        vcpu: Vcpu(0),
        memory: shape().memory,
        disk: shape().disk,
        storage_class: shape().storage_class,
        gpus: None,
        labels: BTreeSet::from([label("ssd")]),
        on_sale: true,
    };
    let refused = world.store.plan_put(&bad, None).await.unwrap_err();
    assert!(matches!(refused, StoreError::Refused(f) if f.field.as_deref() == Some("vcpu")));
    assert!(matches!(world.store.plan_fetch(&bad.name).await, Err(StoreError::NotFound { noun: "plan" })));
    let changed = NewPlan { name: plan_name(), vcpu: Vcpu(4), on_sale: false, ..bad };
    world.clock.advance(SECOND);
    let plan = world.store.plan_put(&changed, None).await.unwrap().done().unwrap();
    assert_eq!((plan.vcpu, plan.on_sale, plan.updated_at), (Vcpu(4), false, world.now()));
    assert_eq!(plan.labels, changed.labels);
    assert!(plan.created_at < plan.updated_at);
    assert_eq!(world.store.plan_list(Page::first(5)).await.unwrap().items, [plan]);
    for model in [None, Some(GpuModel::new("rtx4000").unwrap())] {
        let gpus = Some(GpuDemand { count: 2, model });
        let plan = world.store.plan_put(&NewPlan { gpus: gpus.clone(), ..changed.clone() }, None).await.unwrap();
        assert_eq!(plan.done().unwrap().gpus, gpus);
        assert_eq!(world.store.plan_fetch(&changed.name).await.unwrap().gpus, gpus);
    }
    assert_eq!(world.store.plan_put(&changed, None).await.unwrap().done().unwrap().gpus, None);
}

async fn the_newest_template_of_a_name_is_used(world: &World) {
    let old = template();
    let first = world.store.template_register(&old, "a.qcow2", None).await.unwrap().done().unwrap();
    world.clock.advance(SECOND);
    let again = world.store.template_register(&old, "b.qcow2", None).await.unwrap().done().unwrap();
    assert_eq!(first, again, "the same name and digest is registered once");
    let mut new = template();
    new.digest = TemplateDigest::from_bytes([1; 32]);
    world.store.template_register(&new, "c.qcow2", None).await.unwrap();
    let mut other = template();
    other.name = TemplateName::new("zebra").unwrap();
    world.store.template_register(&other, "d.qcow2", None).await.unwrap();
    assert_eq!(world.store.template_fetch(&old.name).await.unwrap().template, new);
    assert_eq!(world.store.template_fetch_by_digest(&new.digest).await.unwrap().file_name, "c.qcow2");
    let page = world.store.template_list(Page::first(1)).await.unwrap();
    assert_eq!((page.items[0].template.clone(), page.next.clone()), (new, Some(old.name)));
    let page = world.store.template_list(Page::after(page.next.unwrap(), 1)).await.unwrap();
    assert_eq!((page.items[0].template.clone(), page.next), (other, None));
}

async fn names_of_tenants_are_unique(world: &World) {
    let id = nemordp_types::TenantId::from_uuid(world.node_id().as_uuid());
    let taken = world.store.tenant_create(id, &label("shop")).await.unwrap_err();
    assert_eq!(taken, StoreError::AlreadyExists { field: "name" });
    assert_eq!(nemordp_types::Failure::from(taken).reason, Reason::AlreadyExists);
    assert_eq!(world.store.tenant_fetch_by_name(&label("shop")).await.unwrap().unwrap().id, world.tenant);
    assert_eq!(world.store.tenant_list(Page::first(5)).await.unwrap().items.len(), 1);
}

async fn delivered_events_are_not_listed_again(world: &World) {
    world.node("a", 1, 4, 10).await;
    let undelivered = nemordp_store::EventFilter { undelivered: true };
    let events = world.store.event_list(undelivered, Page::first(50)).await.unwrap().items;
    let ids: Vec<_> = events.iter().map(|e| e.id).collect();
    assert_eq!(ids.len(), 2);
    assert_eq!(world.store.event_mark_delivered(&ids).await.unwrap(), 2);
    assert_eq!(world.store.event_mark_delivered(&ids).await.unwrap(), 0);
    assert!(world.store.event_list(undelivered, Page::first(50)).await.unwrap().items.is_empty());
}
