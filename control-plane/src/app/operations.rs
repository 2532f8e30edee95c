//! Long work and its steps, and what happened.

use nemordp_model::{Event, Saga};
use nemordp_store::{EventFilter, Page, Paged, SagaFilter, TenantScope};
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

    /// Everything that happened, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn events(&self, page: Page<u64>) -> Result<Paged<Event, u64>, Failure> {
        Ok(self.store.event_list(EventFilter { undelivered: false }, page).await?)
    }
}
