//! Keys of the HTTP API and what each may do.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use nemordp_types::{ApiKeyId, Failure, Reason, TenantId};
use serde::{Deserialize, Serialize};

use crate::label::Label;
use crate::words;

words! {
    /// What a key allows.
    ApiScope {
        /// Placing orders and acting on their instances.
        Orders = "orders",
        /// Reading everything of the tenant, and the fleet.
        Read = "read",
        /// Operating nodes, templates, plans, sagas.
        Operate = "operate",
        /// Keys, tickets, tenants.
        Admin = "admin",
    }
}

/// A set of scopes; written with blanks between, never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApiScopes(BTreeSet<ApiScope>);

impl ApiScopes {
    /// Refuses an empty set.
    pub fn new(scopes: impl IntoIterator<Item = ApiScope>) -> Result<Self, Failure> {
        let scopes: BTreeSet<ApiScope> = scopes.into_iter().collect();
        if scopes.is_empty() {
            return Err(Failure::field("scopes", "name at least one of: orders, read, operate, admin"));
        }
        Ok(Self(scopes))
    }

    /// Whether the scope is among them.
    #[must_use]
    pub fn contains(&self, scope: ApiScope) -> bool {
        self.0.contains(&scope)
    }

    /// Refuses with `forbidden` unless the scope is among them.
    pub fn require(&self, scope: ApiScope) -> Result<(), Failure> {
        if self.contains(scope) {
            return Ok(());
        }
        Err(Failure::new(Reason::Forbidden, format!("this API key lacks the scope `{scope}`: use one that has it")))
    }

    /// In the order of their definition.
    pub fn iter(&self) -> impl Iterator<Item = ApiScope> + '_ {
        self.0.iter().copied()
    }
}

impl fmt::Display for ApiScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, scope) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            f.write_str(scope.word())?;
        }
        Ok(())
    }
}

impl FromStr for ApiScopes {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self, Failure> {
        let mut scopes = BTreeSet::new();
        for word in text.split_whitespace() {
            let scope = ApiScope::from_word(word).ok_or_else(|| {
                Failure::field("scopes", format!("`{word}` is no scope: use orders, read, operate or admin"))
            })?;
            scopes.insert(scope);
        }
        Self::new(scopes)
    }
}

/// A key as it is stored: its secret only as a hash, which stays in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Whose.
    pub tenant_id: TenantId,
    /// Whether that tenant's instances may only lie on nodes that are kept for it.
    #[serde(default)]
    pub tenant_pinned: bool,
    /// What it is used for, in the operator's words.
    pub label: Label,
    /// What it allows.
    pub scopes: ApiScopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// Since when it is refused.
    pub revoked_at: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_survive_their_text_and_an_unknown_one_is_named() {
        let scopes: ApiScopes = "read orders".parse().unwrap();
        assert_eq!(scopes.to_string(), "orders read");
        assert!(scopes.require(ApiScope::Read).is_ok());
        assert_eq!(scopes.require(ApiScope::Admin).unwrap_err().reason, Reason::Forbidden);
        assert!("orders root".parse::<ApiScopes>().unwrap_err().message.contains("root"));
        assert!("".parse::<ApiScopes>().is_err());
    }
}
