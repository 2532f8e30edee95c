//! Whose customers: the operator's own storefront is a tenant, a reseller is one.

use jiff::Timestamp;
use nemordp_types::TenantId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::page;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Tenant {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: TenantId,
    /// Its name; unique.
    pub name: String,
    /// Whether its instances may only lie on nodes that are kept for it.
    pub pinned: bool,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Since when its keys are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub disabled_at: Option<Timestamp>,
}

page! {
    /// A page of tenants.
    TenantPage of Tenant
}
