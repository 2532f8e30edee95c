//! API keys: made, listed, revoked. The secret leaves once; only its hash stays.

use nemordp_model::{ApiKey, ApiScopes, Label};
use nemordp_store::{Idempotency, NewApiKey, Once, Page, Paged, StoreError, TenantScope};
use nemordp_types::{ApiKeyId, Failure, TenantId};
use secrecy::{ExposeSecret as _, SecretString};

use super::{App, secret_sha256};

/// Says what a key is, to people and to scanners that find one.
pub(crate) const KEY_PREFIX: &str = "nrk1.";

impl App {
    /// Makes a key. The secret is good only when the answer says that it was done now.
    ///
    /// # Errors
    /// A tenant of this name does not exist; the label or the scopes cannot be used.
    pub async fn key_create(
        &self,
        tenant_id: TenantId,
        label: Label,
        scopes: ApiScopes,
        intention: Option<&Idempotency<'_, ApiKey>>,
    ) -> Result<(Once<ApiKey>, SecretString), Failure> {
        let secret = self.secret(KEY_PREFIX);
        let id = ApiKeyId::new(self.clock.as_ref(), self.entropy.as_ref());
        let secret_sha256 = secret_sha256(secret.expose_secret());
        let new = NewApiKey { id, tenant_id, label, scopes, secret_sha256 };
        Ok((self.store.api_key_create(&new, intention).await?, secret))
    }

    /// The key of a secret; none when it is unknown, revoked, or its tenant disabled.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn authenticate(&self, secret: &str) -> Result<Option<ApiKey>, Failure> {
        if !secret.starts_with(KEY_PREFIX) || secret.len() > 128 {
            return Ok(None);
        }
        Ok(self.store.api_key_authenticate(&secret_sha256(secret)).await?)
    }

    /// Keys, revoked ones too.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn keys(&self, scope: TenantScope, page: Page<ApiKeyId>) -> Result<Paged<ApiKey, ApiKeyId>, Failure> {
        Ok(self.store.api_key_list(scope, page).await?)
    }

    /// Refuses a key from now on; safe to repeat.
    ///
    /// # Errors
    /// `not_found`, another tenant's included.
    pub async fn key_revoke(&self, scope: TenantScope, id: ApiKeyId) -> Result<(), Failure> {
        Ok(self.store.api_key_revoke(scope, id).await?)
    }

    /// The tenant of a name.
    ///
    /// # Errors
    /// `not_found`, naming the field.
    pub async fn tenant_named(&self, name: &str) -> Result<TenantId, Failure> {
        let label = Label::new(name, "tenant")?;
        let tenant = self.store.tenant_fetch_by_name(&label).await?;
        tenant
            .map(|tenant| tenant.id)
            .ok_or_else(|| Failure::from(StoreError::NotFound { noun: TenantId::NOUN }).with_field("tenant"))
    }
}
