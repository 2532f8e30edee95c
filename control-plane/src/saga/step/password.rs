//! Makes a password, seals it, then sets it: in this order, so that a password that a guest has is never lost.

use nemordp_model::password;
use nemordp_providers::Change;
use nemordp_store::Effect;
use nemordp_types::{Failure, InstanceId, OperationId, Reason};
use secrecy::SecretString;

use super::Work;
use crate::saga::Tools;
use crate::saga::retry::StepFailure;

/// A new password, sealed; usually stored with the intent to set it.
///
/// # Errors
/// The sealing key cannot be used.
pub(in crate::saga) fn sealed_password(tools: &Tools, instance_id: InstanceId) -> Result<Effect, Failure> {
    let made = password::make(tools.entropy.as_ref());
    Ok(Effect::SealSecret { instance_id, sealed: tools.sealer.seal(instance_id, &made)? })
}

impl Work<'_> {
    pub(super) async fn set_password(&mut self) -> Result<Vec<Effect>, StepFailure> {
        if !self.state.password_made {
            let seal = sealed_password(self.tools, self.instance.id)?;
            self.state.password_made = true;
            self.remember(&[seal]).await?;
        }
        let id = self.change_id();
        self.send_password(id).await?;
        Ok(Vec::new())
    }

    /// Sets the sealed password in the guest, under this change's id.
    pub(super) async fn send_password(&self, id: OperationId) -> Result<(), Failure> {
        let change = Change::SetPassword {
            login: self.instance.spec.guest.login_name.clone(),
            password: self.password().await?,
        };
        self.change(id, &change, self.tools.limits.change).await.map(drop)
    }

    /// The password that was made, opened.
    pub(super) async fn password(&self) -> Result<SecretString, Failure> {
        let sealed = self.tools.store.secret_fetch(self.instance.id).await?.ok_or_else(|| {
            Failure::new(Reason::AlreadyRevealed, "the password was revealed before it was proven: reset it once more")
        })?;
        self.tools.sealer.open(self.instance.id, &sealed)
    }
}
