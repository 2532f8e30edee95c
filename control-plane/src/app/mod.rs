//! The use cases: authorised requests become decisions of the model, writes of the store and sagas. Knows no transport.

mod adoption;
mod availability;
mod capacity;
mod credentials;
mod desk;
mod enrollment;
mod fleet;
mod instances;
mod keys;
mod nodes;
mod operations;
mod orders;
mod placement;
mod plans;
mod reserves;
mod suspensions;
mod templates;
mod tenants;

use std::sync::Arc;

use futures::future::BoxFuture;
use nemordp_model::{Label, SagaKind};
use nemordp_store::{NewSaga, Store};
use nemordp_types::{Clock, Entropy, Failure, InstallationId, InstanceId, OrderId, TenantId};
use url::Url;

use crate::config::Config;
use crate::pki::Pki;
use crate::seal::Sealer;

pub use availability::Orderer;
pub use credentials::{Link, Revealing};
pub(crate) use desk::describe as describe_desk;
pub use desk::{Desk, Intention};
pub use enrollment::{Admission, Application};
pub use fleet::Fleet;
pub(crate) use instances::GRACE_MAX;
pub(crate) use keys::KEY_PREFIX;
pub use placement::{Addition, Foresight, OrderPlacement, SupposedNode, Supposition, supposed_plan};
pub use templates::Upload;

/// Whom a saga is about when it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// The order that it fulfils; none for work on an instance that is there.
    pub order_id: Option<OrderId>,
    /// The instance that it works on.
    pub instance_id: InstanceId,
}

/// Long work, as the use cases see it: how it begins, and that there is some.
pub trait LongWork: Send + Sync + std::fmt::Debug {
    /// A saga at its beginning, to be stored together with what it is about.
    ///
    /// # Errors
    /// When this kind of work is not offered.
    fn begin(&self, kind: SagaKind, subject: Subject) -> Result<NewSaga, Failure>;

    /// Tells whoever works that something was stored; without it the work begins a little later.
    fn poke(&self);

    /// What keeps the long-lived truth, and how it fared, on whichever replica.
    fn reconcilers(&self) -> BoxFuture<'_, Result<Vec<nemordp_api::Reconciler>, Failure>>;

    /// Wants a reconciler to run now.
    fn reconciler_want<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Failure>>;

    /// Runs the money-leak check now.
    fn audit(&self) -> BoxFuture<'_, Result<nemordp_api::AuditReport, Failure>>;

    /// The last one of this replica, if there was one.
    fn last_audit(&self) -> Option<nemordp_api::AuditReport>;
}

/// What every use case needs. One per process, shared.
#[derive(Debug)]
pub struct App {
    /// What the operator decided.
    pub config: Arc<Config>,
    /// The memory.
    pub store: Store,
    /// The fleet, with what is expected to be ordered.
    pub fleet: Fleet,
    /// Where orders queue.
    pub desk: Desk,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids, keys, tokens.
    pub entropy: Arc<dyn Entropy>,
    /// Our CA.
    pub pki: Arc<Pki>,
    /// Opens passwords at rest.
    pub sealer: Sealer,
    /// Sagas.
    pub work: Arc<dyn LongWork>,
    /// How customers reach the API.
    pub public_url: Url,
    /// Written into every mark; two installations never touch each other's domains.
    pub installation_id: InstallationId,
}

impl App {
    /// 32 random bytes as text behind a prefix that says what it is.
    fn secret(&self, prefix: &str) -> secrecy::SecretString {
        secret(self.entropy.as_ref(), prefix)
    }
}

/// 32 random bytes as text behind a prefix that says what it is.
pub(crate) fn secret(entropy: &dyn Entropy, prefix: &str) -> secrecy::SecretString {
    use base64::Engine as _;
    let mut bytes = zeroize::Zeroizing::new([0u8; 32]);
    entropy.fill(bytes.as_mut());
    let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(*bytes);
    format!("{prefix}{text}").into()
}

/// The only form in which a secret that was handed out is kept.
#[must_use]
pub fn secret_sha256(secret: &str) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(secret.as_bytes()).into()
}

/// The tenant of a name, made where it is missing.
///
/// # Errors
/// When the name cannot be used, or the store refuses.
pub async fn ensure_tenant(
    store: &Store,
    name: &str,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<TenantId, Failure> {
    let name = Label::new(name, "tenant")?;
    if let Some(tenant) = store.tenant_fetch_by_name(&name).await? {
        return Ok(tenant.id);
    }
    match store.tenant_create(TenantId::new(clock, entropy), &name).await {
        Ok(tenant) => Ok(tenant.id),
        // Another replica was faster, or the store really refuses.
        Err(error) => store.tenant_fetch_by_name(&name).await?.map(|tenant| tenant.id).ok_or_else(|| error.into()),
    }
}
