//! Suspensions at a time: scheduled here, carried out by the node, brought in line when the node tells.

use jiff::Timestamp;
use nemordp_model::{SagaKind, Suspension, Wish};
use nemordp_store::{Idempotency, Once, TenantScope};
use nemordp_types::suspension::SuspensionReport;
use nemordp_types::{Failure, InstanceId, NodeId, OperationId, Reason};

use super::App;

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

    /// A node tells which suspensions have happened. Each becomes a saga that brings everything else in line; gives those
    /// that need not be told again.
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
            let (id, operation) = (report.instance_id, report.operation_id);
            if self.store.suspension_is_known(id, operation).await? {
                tracing::info!(node_id = %node, instance_id = %id, done_at = %report.done_at, "suspended at its time");
                match self.instance_change(TenantScope::All, id, (SagaKind::Suspend, Wish::Suspend), None).await {
                    Ok(_) => {}
                    // Other work is under way: the node tells it again.
                    Err(failure) if failure.reason == Reason::Conflict && self.is_busy(id).await? => continue,
                    Err(failure) => tracing::warn!(instance_id = %id, ?failure, "suspended on its node only"),
                }
                self.store.suspension_forget(id, operation).await?;
            }
            received.push(operation);
        }
        Ok(received)
    }

    /// Whether an instance is active and not off for good already, so that a refusal can only mean other work.
    async fn is_busy(&self, id: InstanceId) -> Result<bool, Failure> {
        let instance = self.store.instance_fetch(TenantScope::All, id).await?;
        let off = instance.suspended_at.is_some() || instance.delete_after.is_some();
        Ok(instance.require_active().is_ok() && !off)
    }
}
