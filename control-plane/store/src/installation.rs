//! Which installation this database belongs to.

use nemordp_types::InstallationId;

use crate::Store;
use crate::error::{Result, StoreError};
use crate::sql::{Query, values};
use crate::transaction::Sql as _;

impl Store {
    /// The installation's id; the given one at the first call, that one ever after.
    pub async fn installation_ensure(&self, id: InstallationId) -> Result<InstallationId> {
        transaction!(self, |tx| {
            let now = tx.now;
            let sql = "INSERT INTO installation (singleton, id, created_at) VALUES (1, $1, $2) ON CONFLICT DO NOTHING";
            tx.execute(Query::new("installation", sql, values![id, now])).await?;
            let row = tx.fetch_optional(Query::new("installation", "SELECT id FROM installation", vec![])).await?;
            row.ok_or(StoreError::NotFound { noun: InstallationId::NOUN })?.get("id")
        })
    }
}
