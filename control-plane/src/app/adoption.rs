//! Settling what a restore froze.

use nemordp_model::{Adoption, Instance};
use nemordp_store::{Idempotency, Once};
use nemordp_types::{Failure, InstanceId};

use super::App;

impl App {
    /// Settles a frozen instance with its node's numbers; work on it goes on.
    ///
    /// # Errors
    /// `not_found`; `conflict` when it is not frozen, when its node has not reported since, or when the decision does not
    /// fit what the node reported.
    pub async fn instance_adopt(
        &self,
        id: InstanceId,
        how: Adoption,
        intention: Option<&Idempotency<'_, Instance>>,
    ) -> Result<Once<Instance>, Failure> {
        let once = self.store.instance_adopt(id, how, intention).await?;
        if let Once::Done(adopted) = &once {
            self.work.poke();
            tracing::warn!(instance_id = %id, %how, generation = adopted.generation.0, "frozen instance settled");
        }
        Ok(once)
    }
}
