//! Suspensions at a time: scheduled here, carried out by the node, brought in line when the node tells.

use jiff::Timestamp;
use nemordp_model::Suspension;
use nemordp_store::{Idempotency, Once, StoreError, TenantScope};
use nemordp_types::suspension::SuspensionReport;
use nemordp_types::{Failure, InstanceId, NodeId, OperationId};

use super::{App, Subject};

impl App {
    /// Has an instance suspended at a time, even when no control plane runs then.
    ///
    /// # Errors
    /// `not_found`; `conflict` unless it was handed over; `invalid_argument` for a time that is over.
    pub async fn suspension_schedule(
        &self,
        scope: TenantScope,
        id: InstanceId,
        at: Timestamp,
        intention: Option<&Idempotency<'_, Suspension>>,
    ) -> Result<Once<Suspension>, Failure> {
        if at <= self.clock.now() {
            return Err(Failure::field("at", "use a time that is to come, or suspend the instance now"));
        }
        let operation = OperationId::new(self.clock.as_ref(), self.entropy.as_ref());
        Ok(self.store.suspension_schedule(scope, id, operation, at, intention).await?)
    }

    /// Takes back what was scheduled; nothing when nothing was.
    ///
    /// # Errors
    /// `not_found` when there is no such instance.
    pub async fn suspension_cancel(&self, scope: TenantScope, id: InstanceId) -> Result<(), Failure> {
        let operation = OperationId::new(self.clock.as_ref(), self.entropy.as_ref());
        Ok(self.store.suspension_cancel(scope, id, operation).await?)
    }

    /// What is scheduled for an instance.
    ///
    /// # Errors
    /// `not_found` when there is no such instance, or nothing is scheduled for it.
    pub async fn suspension(&self, scope: TenantScope, id: InstanceId) -> Result<Suspension, Failure> {
        Ok(self.store.suspension_fetch(scope, id).await?)
    }

    /// A node tells which suspensions have happened. Each becomes a saga that brings both sides to the same state; gives
    /// those that need not be told again.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn suspensions_happened(
        &self,
        node: NodeId,
        reports: &[SuspensionReport],
    ) -> Result<Vec<OperationId>, Failure> {
        let mut received = Vec::new();
        for report in reports {
            if self.suspension_happened(node, report).await? {
                received.push(report.operation_id);
            }
        }
        Ok(received)
    }

    /// Whether one need not be told again.
    async fn suspension_happened(&self, node: NodeId, report: &SuspensionReport) -> Result<bool, Failure> {
        let (id, operation) = (report.instance_id, report.operation_id);
        // It was taken up before, and that answer was lost.
        let Some(known) = self.store.suspension_known(id).await? else { return Ok(true) };
        let happened = known.happened(operation);
        tracing::info!(node_id = %node, instance_id = %id, done_at = %report.done_at, ?happened, "suspended at its time");
        let (kind, wish) = happened.work();
        let saga = self.work.begin(kind, Subject { order_id: None, instance_id: id })?;
        match self.store.suspension_happened(&known, operation, &wish, &saga).await {
            Ok(true) => {
                self.work.poke();
                Ok(true)
            }
            // Scheduled anew in this moment: the node tells it again.
            Ok(false) => Ok(false),
            Err(StoreError::Refused(refusal)) if self.may_change_later(id).await? => {
                tracing::debug!(instance_id = %id, %refusal, "other work is under way: the node tells it again");
                Ok(false)
            }
            Err(StoreError::Refused(refusal)) => {
                tracing::info!(instance_id = %id, %refusal, "nothing follows from its suspension");
                self.store.suspension_forget(id, known.operation_id).await?;
                Ok(true)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether what was refused is taken when the work that is under way has ended, or the operator has settled it: not of
    /// what is over, or off for good already.
    async fn may_change_later(&self, id: InstanceId) -> Result<bool, Failure> {
        let instance = self.store.instance_fetch(TenantScope::All, id).await?;
        let off = instance.suspended_at.is_some() || instance.delete_after.is_some();
        Ok(instance.require_active().is_ok() && (!off || instance.frozen.is_some()))
    }
}
