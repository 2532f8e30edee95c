//! API keys.

use std::fmt;

use jiff::Timestamp;
use nemordp_types::{ApiKeyId, TenantId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::page::page;
use crate::word::words;

words! {
    /// What a key allows.
    ApiScope {
        /// Placing orders and acting on their instances.
        Orders = "orders",
        /// Reading what belongs to the tenant, and the catalogue.
        Read = "read",
        /// Operating nodes, templates, plans; sees every tenant.
        Operate = "operate",
        /// Keys and tickets.
        Admin = "admin",
    }
}

/// A key to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApiKey {
    /// What it is for, 1 to 128 characters.
    #[schema(example = "storefront")]
    pub name: String,
    /// What it allows.
    pub scopes: Vec<ApiScope>,
    /// Whose it is, by name; the caller's tenant when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiKey {
    /// Its id.
    #[schema(value_type = String, format = "uuid")]
    pub id: ApiKeyId,
    /// Whose.
    #[schema(value_type = String, format = "uuid")]
    pub tenant_id: TenantId,
    /// What it is for.
    pub name: String,
    /// What it allows.
    pub scopes: Vec<ApiScope>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// Since when it is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
}

/// A key that was just made. Its secret is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedApiKey {
    /// The key.
    #[serde(flatten)]
    pub key: ApiKey,
    /// What goes behind `Authorization: Bearer`; absent when this answer was given before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl fmt::Debug for CreatedApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedApiKey").field("key", &self.key).finish_non_exhaustive()
    }
}

page! {
    /// A page of keys.
    ApiKeyPage of ApiKey
}
