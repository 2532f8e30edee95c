//! What is done with an instance: each change raises its generation and begins a saga, in one transaction.

use std::time::Duration;

use jiff::Timestamp;
use nemordp_model::{Instance, SagaKind, Wish};
use nemordp_store::{Changed, Idempotency, InstanceFilter, Once, Page, Paged, TenantScope};
use nemordp_types::{Failure, InstanceId, TemplateName};

use super::{App, Subject};

/// The longest time of grace: a year.
pub(crate) const GRACE_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

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

    /// Notes until when an instance is paid for, or that nobody knows.
    ///
    /// # Errors
    /// `not_found`; `conflict` once it is over.
    pub async fn instance_paid_until(
        &self,
        scope: TenantScope,
        id: InstanceId,
        paid_until: Option<Timestamp>,
        intention: Option<&Idempotency<'_, Instance>>,
    ) -> Result<Once<Instance>, Failure> {
        Ok(self.store.instance_set_paid_until(scope, id, paid_until, intention).await?)
    }

    /// Begins a change. Deletion wins over everything that is under way; a second deletion finds the first one's saga.
    ///
    /// # Errors
    /// `not_found`; `conflict` while other work is under way or the instance was not handed over.
    pub async fn instance_change(
        &self,
        scope: TenantScope,
        id: InstanceId,
        (kind, wish): (SagaKind, Wish),
        intention: Option<&Idempotency<'_, Changed>>,
    ) -> Result<Once<Changed>, Failure> {
        let saga = self.work.begin(kind, Subject { order_id: None, instance_id: id })?;
        let once = self.store.instance_change(scope, id, &wish, &saga, intention).await?;
        if let Once::Done(changed) = &once {
            self.work.poke();
            tracing::info!(instance_id = %id, operation_id = %changed.saga.id, kind = %kind, "change begun");
        }
        Ok(once)
    }

    /// The wish for a fresh disk: from another template, or from the one that the instance was made from.
    ///
    /// # Errors
    /// `unknown_template`.
    pub async fn reinstall(&self, template: Option<&TemplateName>) -> Result<(SagaKind, Wish), Failure> {
        let template = match template {
            Some(name) => Some(Box::new(self.template_on_offer(name).await?)),
            None => None,
        };
        Ok((SagaKind::Reinstall, Wish::Reinstall { template }))
    }

    /// The wish for removal: at once, or after a time of grace; the configuration's when none is named.
    ///
    /// # Errors
    /// A time of grace that is too long.
    pub fn deletion(&self, grace_seconds: Option<u64>) -> Result<(SagaKind, Wish), Failure> {
        let seconds = grace_seconds.unwrap_or(self.config.instances.deletion_grace_seconds);
        if seconds == 0 {
            return Ok((SagaKind::Delete, Wish::Delete));
        }
        if seconds > GRACE_MAX.as_secs() {
            return Err(Failure::field("grace_seconds", format!("use at most {}", GRACE_MAX.as_secs())));
        }
        let at = self.clock.now().checked_add(Duration::from_secs(seconds));
        let at = at.map_err(|error| Failure::field("grace_seconds", error.to_string()))?;
        Ok((SagaKind::DeleteLater, Wish::DeleteLater { at }))
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
