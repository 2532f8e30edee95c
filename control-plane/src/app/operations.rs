//! Long work and its steps, and what happened.

use nemordp_model::{Event, Saga, SagaStatus};
use nemordp_store::{EventFilter, Idempotency, Once, Page, Paged, SagaFilter, TenantScope};
use nemordp_types::{Failure, SagaId};

use super::App;

impl App {
    /// An operation with its steps.
    ///
    /// # Errors
    /// `not_found`, another tenant's included.
    pub async fn operation(&self, scope: TenantScope, id: SagaId) -> Result<Saga, Failure> {
        Ok(self.store.saga_fetch(scope, id).await?)
    }

    /// Operations, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn operations(
        &self,
        scope: TenantScope,
        filter: SagaFilter,
        page: Page<SagaId>,
    ) -> Result<Paged<Saga, SagaId>, Failure> {
        Ok(self.store.saga_list(scope, filter, page).await?)
    }

    /// Lets a stuck saga go on: where it was, or in the direction that is named.
    ///
    /// # Errors
    /// `not_found`; `conflict` when it is not stuck, or other work is under way on its instance.
    pub async fn saga_resume(
        &self,
        scope: TenantScope,
        id: SagaId,
        to: Option<SagaStatus>,
        intention: Option<&Idempotency<'_, Saga>>,
    ) -> Result<Once<Saga>, Failure> {
        let once = self.store.saga_resume(scope, id, to, intention).await?;
        if let Once::Done(saga) = &once {
            self.work.poke();
            tracing::info!(saga_id = %id, kind = %saga.kind, status = %saga.status, "an operator lets a stuck saga go on");
        }
        Ok(once)
    }

    /// Gives a stuck saga up and what it held back, because somebody has cleaned up behind it.
    ///
    /// # Errors
    /// `not_found`; `conflict` when it is not stuck.
    pub async fn saga_abandon(
        &self,
        scope: TenantScope,
        id: SagaId,
        intention: Option<&Idempotency<'_, Saga>>,
    ) -> Result<Once<Saga>, Failure> {
        let once = self.store.saga_abandon(scope, id, intention).await?;
        if let Once::Done(saga) = &once {
            tracing::warn!(saga_id = %id, kind = %saga.kind, "an operator gave a stuck saga up");
        }
        Ok(once)
    }

    /// Everything that happened, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn events(&self, page: Page<u64>) -> Result<Paged<Event, u64>, Failure> {
        Ok(self.store.event_list(EventFilter { undelivered: false }, page).await?)
    }
}
