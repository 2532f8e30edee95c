//! Tenants as the operator sees them, and what nodes are kept for.

use std::collections::BTreeSet;

use nemordp_model::{Amounts, Label, Node, Tenant};
use nemordp_store::{Idempotency, Once, Page, Paged};
use nemordp_types::{Failure, NodeId, TenantId};

use super::App;

impl App {
    /// Tenants, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn tenants(&self, page: Page<TenantId>) -> Result<Paged<Tenant, TenantId>, Failure> {
        Ok(self.store.tenant_list(page).await?)
    }

    /// Lets a tenant's new instances lie only on nodes that are kept for it, or on any.
    ///
    /// # Errors
    /// `not_found`.
    pub async fn tenant_pin(
        &self,
        id: TenantId,
        pinned: bool,
        intention: Option<&Idempotency<'_, Tenant>>,
    ) -> Result<Once<Tenant>, Failure> {
        Ok(self.store.tenant_set_pinned(id, pinned, intention).await?)
    }

    /// Keeps a node for one tenant, by its name, or for nobody. What lies there stays.
    ///
    /// # Errors
    /// `not_found`, with the field `tenant` when that is what is missing.
    pub async fn node_pin(
        &self,
        id: NodeId,
        tenant: Option<&str>,
        intention: Option<&Idempotency<'_, Node>>,
    ) -> Result<Once<Node>, Failure> {
        let tenant_id = match tenant {
            Some(name) => Some(self.tenant_named(name).await?),
            None => None,
        };
        Ok(self.store.node_set_pin(id, tenant_id, intention).await?)
    }

    /// Holds back amounts of a node that new instances do not get.
    ///
    /// # Errors
    /// `not_found`; more than any machine has, naming the field.
    pub async fn node_hold_back(
        &self,
        id: NodeId,
        amounts: Amounts,
        intention: Option<&Idempotency<'_, Node>>,
    ) -> Result<Once<Node>, Failure> {
        Ok(self.store.node_set_held_back(id, amounts, intention).await?)
    }

    /// Gives a node labels and takes some away.
    ///
    /// # Errors
    /// `not_found`; nothing to do, or too many labels, naming the field.
    pub async fn node_label(
        &self,
        id: NodeId,
        add: &BTreeSet<Label>,
        remove: &BTreeSet<Label>,
        intention: Option<&Idempotency<'_, Node>>,
    ) -> Result<Once<Node>, Failure> {
        if add.is_empty() && remove.is_empty() {
            return Err(Failure::field("add", "name at least one label in add or remove"));
        }
        if let Some(both) = add.intersection(remove).next() {
            return Err(Failure::field("remove", format!("`{both}` stands in add too: name it in one of them")));
        }
        Ok(self.store.node_set_labels(id, add, remove, intention).await?)
    }
}
