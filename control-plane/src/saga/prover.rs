//! Who logs in: the real one, and the seam at which tests put theirs.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::BoxFuture;
use nemordp_proof::{Credential, Readiness, Target, Verdict};
use tokio::sync::Semaphore;

/// Logs in for a proof.
pub trait LoginProver: Send + Sync + std::fmt::Debug {
    /// Waits until something answers RDP at the endpoint, without any password.
    fn readiness(&self, address: SocketAddr, deadline: Duration) -> BoxFuture<'_, Readiness>;

    /// Logs in once.
    fn prove<'a>(
        &'a self,
        target: &'a Target,
        credential: &'a Credential,
        deadline: Duration,
    ) -> BoxFuture<'a, Verdict>;
}

/// Logs in over RDP, a bounded number at a time: what a burst of proofs needs stays bounded, here and in the guests.
#[derive(Debug)]
pub struct RdpProver {
    turns: Semaphore,
}

impl RdpProver {
    /// With so many logins at once.
    #[must_use]
    pub fn new(at_once: usize) -> Self {
        Self { turns: Semaphore::new(at_once.max(1)) }
    }
}

impl LoginProver for RdpProver {
    fn readiness(&self, address: SocketAddr, deadline: Duration) -> BoxFuture<'_, Readiness> {
        Box::pin(nemordp_proof::wait_until_ready(address, deadline, |_| ()))
    }

    fn prove<'a>(
        &'a self,
        target: &'a Target,
        credential: &'a Credential,
        deadline: Duration,
    ) -> BoxFuture<'a, Verdict> {
        Box::pin(async move {
            // Closed never, so a permit is always had; without one the login is made all the same.
            let _turn = self.turns.acquire().await.ok();
            nemordp_proof::prove(target, credential, deadline).await
        })
    }
}
