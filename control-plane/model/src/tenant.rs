//! Whose customers: the operator's own storefront is a tenant, a reseller is one.

use jiff::Timestamp;
use nemordp_types::TenantId;
use serde::{Deserialize, Serialize};

use crate::label::Label;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// Its name; unique.
    pub name: Label,
    /// Whether its instances may only lie on nodes that are kept for it (a reseller's own machines).
    pub pinned: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// Since when its keys are refused.
    pub disabled_at: Option<Timestamp>,
}
