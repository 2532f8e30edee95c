//! Listing by keyset: each page begins after the last key of the one before, however much was written meanwhile.

use nemordp_types::TenantId;

use crate::error::Result;
use crate::sql::{Query, Row, Value, values};
use crate::transaction::{Sql as _, Tx};

/// The most rows of one page.
pub const PAGE_MAX: u32 = 500;

/// Which page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<K> {
    /// The last key of the page before.
    pub after: Option<K>,
    /// How many rows; at most [`PAGE_MAX`], at least 1.
    pub limit: u32,
}

impl<K> Page<K> {
    /// The first page.
    #[must_use]
    pub const fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }

    /// The page after a key.
    #[must_use]
    pub const fn after(key: K, limit: u32) -> Self {
        Self { after: Some(key), limit }
    }

    fn rows(&self) -> u32 {
        self.limit.clamp(1, PAGE_MAX)
    }

    /// What each row's key must be above; no key is below an empty one. A plain comparison, so that a page is read from where
    /// it begins, wherever that is.
    pub(crate) fn begins(&self) -> Value
    where
        K: Copy + Into<Value>,
    {
        self.after.map_or_else(|| Value::Blob(Some(Vec::new())), Into::into)
    }

    /// One row more than the page, which tells whether there is a next one.
    pub(crate) fn fetch(&self) -> u32 {
        self.rows() + 1
    }

    /// Cuts that row off again.
    pub(crate) fn cut<T>(&self, mut items: Vec<T>, key: impl Fn(&T) -> K) -> Paged<T, K> {
        let rows = usize::try_from(self.rows()).unwrap_or(usize::MAX);
        let more = items.len() > rows;
        items.truncate(rows);
        let next = if more { items.last().map(key) } else { None };
        Paged { items, next }
    }
}

/// A page of rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Paged<T, K> {
    /// The rows, by ascending key.
    pub items: Vec<T>,
    /// What to give as `after` for the next page; none when this is the last one.
    pub next: Option<K>,
}

/// Every row of a listing, fetched page by page: beside what is made of the rows, no more than a page of them is held. The text
/// ends with the key above `$1`, in the key's order, at most `$2`.
pub(crate) async fn every<T, K: Into<Value>>(
    tx: &mut Tx,
    table: &'static str,
    sql: &'static str,
    read: impl Fn(&Row) -> Result<T>,
    key: impl Fn(&T) -> K,
) -> Result<Vec<T>> {
    let mut all: Vec<T> = Vec::new();
    loop {
        let after = all.last().map_or_else(|| Value::Blob(Some(Vec::new())), |last| key(last).into());
        let rows = tx.fetch(Query::new(table, sql, values![after, PAGE_MAX])).await?;
        for row in &rows {
            all.push(read(row)?);
        }
        if rows.len() < usize::try_from(PAGE_MAX).unwrap_or(usize::MAX) {
            return Ok(all);
        }
    }
}

/// Whose rows the caller may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TenantScope {
    /// Everybody's: the operator.
    All,
    /// One tenant's; the others' do not exist.
    Only(TenantId),
}

/// The text of a listing, for everybody's rows or for one tenant's: one text for both could use no index over tenants.
macro_rules! scoped {
    ($scope:expr, $select:expr, $rest:literal) => {
        match $scope {
            $crate::page::TenantScope::All => concat!($select, " WHERE $1 IS NULL ", $rest),
            $crate::page::TenantScope::Only(_) => concat!($select, " WHERE tenant_id = $1 ", $rest),
        }
    };
}
pub(crate) use scoped;

impl From<TenantScope> for Value {
    fn from(scope: TenantScope) -> Self {
        match scope {
            TenantScope::All => Self::from(None::<TenantId>),
            TenantScope::Only(tenant) => Self::from(tenant),
        }
    }
}
