//! What is done with an instance: each change raises its generation and begins a saga, in one transaction.

use nemordp_model::{Instance, SagaKind};
use nemordp_store::{Changed, Idempotency, InstanceFilter, Once, Page, Paged, TenantScope, Wish};
use nemordp_types::{Failure, InstanceId};

use super::{App, Subject};

impl App {
    /// An instance.
    ///
    /// # Errors
    /// `not_found`, another tenant's included.
    pub async fn instance(&self, scope: TenantScope, id: InstanceId) -> Result<Instance, Failure> {
        Ok(self.store.instance_fetch(scope, id).await?)
    }

    /// Instances, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn instances(
        &self,
        scope: TenantScope,
        filter: InstanceFilter,
        page: Page<InstanceId>,
    ) -> Result<Paged<Instance, InstanceId>, Failure> {
        Ok(self.store.instance_list(scope, filter, page).await?)
    }

    /// Begins a change. Deletion wins over everything that is under way; a second deletion finds the first one's saga.
    ///
    /// # Errors
    /// `not_found`; `conflict` while other work is under way or the instance was not handed over.
    pub async fn instance_change(
        &self,
        scope: TenantScope,
        id: InstanceId,
        kind: SagaKind,
        intention: Option<&Idempotency<'_, Changed>>,
    ) -> Result<Once<Changed>, Failure> {
        let saga = self.work.begin(kind, Subject { order_id: None, instance_id: id })?;
        let once = self.store.instance_change(scope, id, wish(kind), &saga, intention).await?;
        if let Once::Done(changed) = &once {
            self.work.poke();
            tracing::info!(instance_id = %id, operation_id = %changed.saga.id, kind = %kind, "change begun");
        }
        Ok(once)
    }

    /// What an RDP client opens.
    ///
    /// # Errors
    /// `not_found`; `conflict` before it was handed over.
    pub async fn rdp_file(&self, scope: TenantScope, id: InstanceId) -> Result<String, Failure> {
        let instance = self.instance(scope, id).await?;
        instance.require_active()?;
        let (endpoint, guest) = (instance.spec.network.endpoint, &instance.spec.guest);
        Ok(format!(
            "full address:s:{endpoint}\r\nusername:s:{login}\r\nprompt for credentials:i:1\r\n\
             authentication level:i:2\r\nscreen mode id:i:2\r\nuse multimon:i:0\r\nautoreconnection enabled:i:1\r\n\
             redirectclipboard:i:1\r\nredirectprinters:i:0\r\naudiomode:i:0\r\n",
            login = guest.login_name,
        ))
    }
}

const fn wish(kind: SagaKind) -> Wish {
    match kind {
        SagaKind::Start => Wish::PowerOn,
        SagaKind::Stop => Wish::PowerOff,
        SagaKind::Delete => Wish::Delete,
        // A restart ends with a running machine, whatever was wanted before.
        SagaKind::Restart | SagaKind::Reset => Wish::PowerOn,
        SagaKind::Provision
        | SagaKind::PasswordReset
        | SagaKind::Reinstall
        | SagaKind::Resize
        | SagaKind::Rename
        | SagaKind::Suspend
        | SagaKind::Unsuspend
        | SagaKind::Rescue => Wish::Keep,
    }
}
