//! Suspensions at a time.

use jiff::Timestamp;
use nemordp_model::{EventKind, Instance, Suspension, SuspensionState, Wish};
use nemordp_types::{InstanceId, NodeId, OperationId};
use serde_json::json;

use crate::Store;
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::idempotency::{Idempotency, Once, once};
use crate::instance;
use crate::page::TenantScope;
use crate::saga::NewSaga;
use crate::sql::{Query, Row, values};
use crate::transaction::{Sql, Tx};

const MISSING: StoreError = StoreError::NotFound { noun: "scheduled suspension" };

fn suspension(row: &Row) -> Result<Suspension> {
    Ok(Suspension {
        instance_id: row.get("instance_id")?,
        operation_id: row.get("operation_id")?,
        at: row.get("suspend_at")?,
        state: row.get("state")?,
        node_id: row.get("node_id")?,
    })
}

async fn fetch(sql: &mut impl Sql, id: InstanceId) -> Result<Option<Suspension>> {
    let text = "SELECT instance_id, operation_id, suspend_at, state, node_id FROM suspension WHERE instance_id = $1";
    let row = sql.fetch_optional(Query::new("suspension", text, values![id])).await?;
    row.as_ref().map(suspension).transpose()
}

async fn remove(tx: &mut Tx, id: InstanceId, operation: OperationId) -> Result<u64> {
    let sql = "DELETE FROM suspension WHERE instance_id = $1 AND operation_id = $2";
    tx.execute(Query::new("suspension", sql, values![id, operation])).await
}

/// When it is to be suspended changed.
async fn tell(tx: &mut Tx, instance: &Instance, at: Option<Timestamp>) -> Result<()> {
    tx.event(EventKind::InstanceChanged, Subject::from(instance), json!({ "suspend_at": at })).await
}

impl Store {
    /// Wants an active instance switched off at a time; replaces what was wanted before.
    pub async fn suspension_schedule(
        &self,
        scope: TenantScope,
        id: InstanceId,
        operation: OperationId,
        at: Timestamp,
        intention: Option<&Idempotency<'_, Suspension>>,
    ) -> Result<Once<Suspension>> {
        transaction!(self, |tx| once!(tx, intention, {
            let now = tx.now;
            let instance: Instance = instance::fetch_locked(tx, scope, id).await?;
            instance.require_active()?;
            let sql = "INSERT INTO suspension (instance_id, operation_id, suspend_at, state, created_at) \
                       VALUES ($1, $2, $3, 'wanted', $4) ON CONFLICT (instance_id) DO UPDATE SET \
                       operation_id = excluded.operation_id, suspend_at = excluded.suspend_at, state = 'wanted', \
                       node_id = NULL, created_at = excluded.created_at";
            tx.execute(Query::new("suspension", sql, values![id, operation, at, now])).await?;
            tell(tx, &instance, Some(at)).await?;
            fetch(tx, id).await?.ok_or(MISSING)?
        }))
    }

    /// Takes back what was scheduled; nothing when nothing was.
    pub async fn suspension_cancel(&self, scope: TenantScope, id: InstanceId, operation: OperationId) -> Result<()> {
        transaction!(self, |tx| {
            let instance: Instance = instance::fetch_locked(tx, scope, id).await?;
            // The node is told under an operation of its own, since it knows the other one already.
            let sql = "UPDATE suspension SET state = 'cancelling', operation_id = $2 \
                       WHERE instance_id = $1 AND state <> 'cancelling'";
            if tx.execute(Query::new("suspension", sql, values![id, operation])).await? == 0 {
                return Ok(());
            }
            tell(tx, &instance, None).await
        })
    }

    /// What is scheduled for an instance.
    pub async fn suspension_fetch(&self, scope: TenantScope, id: InstanceId) -> Result<Suspension> {
        self.instance_fetch(scope, id).await?;
        let found = fetch(&mut self.reader(), id).await?;
        found.filter(|suspension| suspension.state != SuspensionState::Cancelling).ok_or(MISSING)
    }

    /// What nodes have to be told: new ones, ones that are taken back, and ones whose instance was moved since.
    pub async fn suspension_untold(&self) -> Result<Vec<Suspension>> {
        let sql = "SELECT s.instance_id, s.operation_id, s.suspend_at, s.state, s.node_id FROM suspension s \
                   JOIN instance i ON i.id = s.instance_id \
                   WHERE s.state <> 'placed' OR s.node_id <> i.node_id ORDER BY s.suspend_at LIMIT 500";
        let rows = self.reader().fetch(Query::new("suspension", sql, vec![])).await?;
        rows.iter().map(suspension).collect()
    }

    /// A node was told.
    pub async fn suspension_told(&self, told: &Suspension, node: NodeId) -> Result<()> {
        transaction!(self, |tx| {
            if told.state == SuspensionState::Cancelling {
                return remove(tx, told.instance_id, told.operation_id).await.map(|_| ());
            }
            let sql = "UPDATE suspension SET state = 'placed', node_id = $3 \
                       WHERE instance_id = $1 AND operation_id = $2 AND state <> 'cancelling'";
            let values = values![told.instance_id, told.operation_id, node];
            tx.execute(Query::new("suspension", sql, values)).await.map(|_| ())
        })
    }

    /// It has happened, or is not needed any more; whether it was still known.
    pub async fn suspension_forget(&self, id: InstanceId, operation: OperationId) -> Result<bool> {
        transaction!(self, |tx| Ok(remove(tx, id, operation).await? == 1))
    }

    /// What is known of an instance's suspension at a time, called off or not.
    pub async fn suspension_known(&self, id: InstanceId) -> Result<Option<Suspension>> {
        fetch(&mut self.reader(), id).await
    }

    /// Its node said that this operation has happened: the saga that brings both sides to the same state begins in the
    /// transaction that forgets it, so that it begins once however often the node says so. False, and nothing, when it is
    /// not as it was read any more; refused as any change of the instance is.
    pub async fn suspension_happened(
        &self,
        read: &Suspension,
        operation: OperationId,
        wish: &Wish,
        saga: &NewSaga,
    ) -> Result<bool> {
        transaction!(self, |tx| {
            if fetch(tx, read.instance_id).await?.as_ref() != Some(read) {
                return Ok(false);
            }
            if read.ends_with(operation) {
                remove(tx, read.instance_id, read.operation_id).await?;
            }
            instance::change_in_tx(tx, TenantScope::All, read.instance_id, wish, saga).await?;
            Ok(true)
        })
    }
}
