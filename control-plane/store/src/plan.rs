//! Plans: what is sold.

use std::collections::BTreeSet;

use nemordp_model::{Demand, GpuDemand, Label, Plan};
use nemordp_types::{GiB, MiB, PlanName, StorageClass, Vcpu};

use crate::Store;
use crate::codec::json;
use crate::error::{Result, StoreError};
use crate::idempotency::{Idempotency, Once, once};
use crate::node_gpu;
use crate::page::{Page, Paged};
use crate::sql::{Query, Row, values};
use crate::transaction::Sql as _;

macro_rules! columns {
    () => {
        "name, vcpu, memory_mib, disk_gib, storage_class, labels, on_sale, created_at, updated_at, gpu_count, gpu_model"
    };
}

/// A plan to be made or changed.
#[derive(Debug, Clone)]
pub struct NewPlan {
    /// Its name.
    pub name: PlanName,
    /// Processors.
    pub vcpu: Vcpu,
    /// Memory.
    pub memory: MiB,
    /// Size of the disk.
    pub disk: GiB,
    /// On what the disk lies.
    pub storage_class: StorageClass,
    /// GPUs.
    pub gpus: Option<GpuDemand>,
    /// Labels that a node must have to take it.
    pub labels: BTreeSet<Label>,
    /// Whether new orders may name it.
    pub on_sale: bool,
}

/// What a plan asks of a node: the columns of its amounts.
pub(crate) fn demand(row: &Row) -> Result<Demand> {
    Ok(Demand {
        vcpu: row.get("vcpu")?,
        memory: row.get("memory_mib")?,
        disk: row.get("disk_gib")?,
        storage_class: row.get("storage_class")?,
        gpus: node_gpu::wanted(row)?,
    })
}

fn plan(row: &Row) -> Result<Plan> {
    Ok(Plan {
        name: row.get("name")?,
        vcpu: row.get("vcpu")?,
        memory: row.get("memory_mib")?,
        disk: row.get("disk_gib")?,
        storage_class: row.get("storage_class")?,
        gpus: node_gpu::wanted(row)?,
        labels: row.json("labels")?,
        on_sale: row.get("on_sale")?,
        created_at: row.get("created_at")?,
        updated_at: row.get("updated_at")?,
    })
}

impl Store {
    /// Makes a plan, or changes it for orders to come; those that exist keep what they were promised.
    pub async fn plan_put(&self, new: &NewPlan, intention: Option<&Idempotency<'_, Plan>>) -> Result<Once<Plan>> {
        transaction!(self, |tx| once!(tx, intention, {
            let now = tx.now;
            Plan {
                name: new.name.clone(),
                vcpu: new.vcpu,
                memory: new.memory,
                disk: new.disk,
                storage_class: new.storage_class.clone(),
                gpus: new.gpus.clone(),
                labels: new.labels.clone(),
                on_sale: new.on_sale,
                created_at: now,
                updated_at: now,
            }
            .check()?;
            let sql = concat!(
                "INSERT INTO plan (",
                columns!(),
                ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10) \
                 ON CONFLICT (name) DO UPDATE SET vcpu = excluded.vcpu, memory_mib = excluded.memory_mib, \
                 disk_gib = excluded.disk_gib, storage_class = excluded.storage_class, labels = excluded.labels, on_sale = excluded.on_sale, \
                 gpu_count = excluded.gpu_count, gpu_model = excluded.gpu_model, updated_at = excluded.updated_at RETURNING ",
                columns!()
            );
            let values = values![
                &new.name,
                new.vcpu,
                new.memory,
                new.disk,
                &new.storage_class,
                json(&new.labels)?,
                new.on_sale,
                now,
                new.gpus.as_ref().map_or(0, |gpus| gpus.count),
                new.gpus.as_ref().and_then(|gpus| gpus.model.as_ref()),
            ];
            let row = tx.fetch_optional(Query::new("plan", sql, values)).await?;
            plan(&row.ok_or(StoreError::NotFound { noun: "plan" })?)?
        }))
    }

    /// One plan, on sale or not.
    pub async fn plan_fetch(&self, name: &PlanName) -> Result<Plan> {
        let sql = concat!("SELECT ", columns!(), " FROM plan WHERE name = $1");
        let row = self.reader().fetch_optional(Query::new("plan", sql, values![name])).await?;
        plan(&row.ok_or(StoreError::NotFound { noun: "plan" })?)
    }

    /// Plans by name.
    pub async fn plan_list(&self, page: Page<PlanName>) -> Result<Paged<Plan, PlanName>> {
        let sql = concat!("SELECT ", columns!(), " FROM plan WHERE ($1 IS NULL OR name > $1) ORDER BY name LIMIT $2");
        let rows = self.reader().fetch(Query::new("plan", sql, values![page.after.as_ref(), page.fetch()])).await?;
        let items = rows.iter().map(plan).collect::<Result<_>>()?;
        Ok(page.cut(items, |p: &Plan| p.name.clone()))
    }
}
