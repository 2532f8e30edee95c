//! Tenants.

use nemordp_model::{Label, Tenant};
use nemordp_types::TenantId;

use crate::Store;
use crate::error::{Result, StoreError};
use crate::idempotency::{Idempotency, Once, once};
use crate::page::{Page, Paged};
use crate::sql::{Query, Row, values};
use crate::transaction::Sql as _;

const NOUN: StoreError = StoreError::NotFound { noun: TenantId::NOUN };

fn tenant(row: &Row) -> Result<Tenant> {
    Ok(Tenant {
        id: row.get("id")?,
        name: row.get("name")?,
        pinned: row.get("pinned")?,
        created_at: row.get("created_at")?,
        disabled_at: row.get("disabled_at")?,
    })
}

impl Store {
    /// Makes a tenant; its name must be free.
    pub async fn tenant_create(&self, id: TenantId, name: &Label) -> Result<Tenant> {
        transaction!(self, |tx| {
            let now = tx.now;
            let sql = "INSERT INTO tenant (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
            let query = Query::new("tenant", sql, values![id, name, now]);
            tx.execute_one(query, StoreError::AlreadyExists { field: "name" }).await?;
            Ok(Tenant { id, name: name.clone(), pinned: false, created_at: now, disabled_at: None })
        })
    }

    /// One tenant.
    pub async fn tenant_fetch(&self, id: TenantId) -> Result<Tenant> {
        let sql = "SELECT id, name, pinned, created_at, disabled_at FROM tenant WHERE id = $1";
        let row = self.reader().fetch_optional(Query::new("tenant", sql, values![id])).await?;
        tenant(&row.ok_or(NOUN)?)
    }

    /// The tenant of a name.
    pub async fn tenant_fetch_by_name(&self, name: &Label) -> Result<Option<Tenant>> {
        let sql = "SELECT id, name, pinned, created_at, disabled_at FROM tenant WHERE name = $1";
        let row = self.reader().fetch_optional(Query::new("tenant", sql, values![name])).await?;
        row.as_ref().map(tenant).transpose()
    }

    /// All tenants.
    pub async fn tenant_list(&self, page: Page<TenantId>) -> Result<Paged<Tenant, TenantId>> {
        let sql = "SELECT id, name, pinned, created_at, disabled_at FROM tenant \
                   WHERE ($1 IS NULL OR id > $1) ORDER BY id LIMIT $2";
        let rows = self.reader().fetch(Query::new("tenant", sql, values![page.after, page.fetch()])).await?;
        let items = rows.iter().map(tenant).collect::<Result<_>>()?;
        Ok(page.cut(items, |t: &Tenant| t.id))
    }

    /// Lets the tenant's instances lie only on nodes that are kept for it, or on any; those that lie elsewhere stay.
    pub async fn tenant_set_pinned(
        &self,
        id: TenantId,
        pinned: bool,
        intention: Option<&Idempotency<'_, Tenant>>,
    ) -> Result<Once<Tenant>> {
        transaction!(self, |tx| once!(tx, intention, {
            tx.execute_one(
                Query::new("tenant", "UPDATE tenant SET pinned = $2 WHERE id = $1", values![id, pinned]),
                NOUN,
            )
            .await?;
            let sql = "SELECT id, name, pinned, created_at, disabled_at FROM tenant WHERE id = $1";
            let row = tx.fetch_optional(Query::new("tenant", sql, values![id])).await?;
            tenant(&row.ok_or(NOUN)?)?
        }))
    }

    /// Refuses the tenant's keys from now on.
    pub async fn tenant_disable(&self, id: TenantId) -> Result<()> {
        transaction!(self, |tx| {
            let now = tx.now;
            let sql = "UPDATE tenant SET disabled_at = COALESCE(disabled_at, $2) WHERE id = $1";
            tx.execute_one(Query::new("tenant", sql, values![id, now]), NOUN).await
        })
    }
}
