//! Until when instances are paid for: what placement expects of their ends.

use jiff::Timestamp;
use nemordp_model::{EventKind, Instance};
use nemordp_types::{Failure, InstanceId, Reason};
use serde_json::json;

use crate::Store;
use crate::error::{Result, StoreError};
use crate::event::Subject;
use crate::idempotency::{Idempotency, Once, once};
use crate::instance::{self, MISSING};
use crate::page::TenantScope;
use crate::sql::{Query, values};

impl Store {
    /// Notes until when an instance is paid for, or that nobody knows. Nothing is wanted of its node by that, so its generation
    /// stays. One that is over is refused.
    pub async fn instance_set_paid_until(
        &self,
        scope: TenantScope,
        id: InstanceId,
        paid_until: Option<Timestamp>,
        intention: Option<&Idempotency<'_, Instance>>,
    ) -> Result<Once<Instance>> {
        transaction!(self, |tx| once!(tx, intention, {
            let before = instance::fetch_locked(tx, scope, id).await?;
            if !before.lifecycle.is_live() {
                let message = format!("the instance is {}: nothing of it can be paid for", before.lifecycle);
                return Err(StoreError::Refused(Failure::new(Reason::Conflict, message).with_field("state")));
            }
            if before.paid_until != paid_until {
                let now = tx.now;
                let sql = "UPDATE instance SET paid_until = $2, updated_at = $3 WHERE id = $1";
                tx.execute_one(Query::new("instance", sql, values![id, paid_until, now]), MISSING).await?;
                let body = json!({ "from": before.paid_until, "paid_until": paid_until });
                tx.event(EventKind::InstanceRenewed, Subject::from(&before), body).await?;
            }
            instance::fetch(tx, scope, id).await?
        }))
    }
}
