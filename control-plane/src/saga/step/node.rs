//! Steps that are one change on the node.

use nemordp_providers::Change;
use nemordp_store::Effect;
use nemordp_types::instance::PowerAction;
use nemordp_types::template::RdpSecurity;
use nemordp_types::{Failure, OperationId, Reason};

use super::{Work, transient};
use crate::saga::retry::StepFailure;

impl Work<'_> {
    pub(super) async fn ensure_instance(&mut self) -> Result<Vec<Effect>, StepFailure> {
        let change = Change::Ensure(Box::new(self.instance.spec.clone()));
        let id = self.change_id();
        self.change(id, &change, self.tools.limits.ensure).await?;
        Ok(Vec::new())
    }

    pub(super) async fn power(&mut self, action: PowerAction) -> Result<Vec<Effect>, StepFailure> {
        let id = self.change_id();
        self.change(id, &Change::Power(action), self.tools.limits.change).await?;
        Ok(Vec::new())
    }

    pub(super) async fn delete_instance(&mut self) -> Result<Vec<Effect>, StepFailure> {
        let id = self.change_id();
        self.remove(id).await?;
        Ok(vec![Effect::EraseSecret { instance_id: self.instance.id }])
    }

    /// Removes the instance from its node: a deletion's step, and the undo of making it.
    ///
    /// # Errors
    /// What the node says.
    pub async fn remove(&self, id: OperationId) -> Result<(), Failure> {
        self.change(id, &Change::Delete, self.tools.limits.change).await.map(drop)
    }

    pub(super) async fn end_sessions(&mut self, proof_only: bool) -> Result<Vec<Effect>, StepFailure> {
        let login = self.instance.spec.guest.login_name.clone();
        let id = self.change_id();
        let change = Change::EndSessions { login, proof_only };
        self.change(id, &change, self.tools.limits.change).await?;
        Ok(Vec::new())
    }

    /// The customer finds a fresh desktop: the session that the proof opened is ended, and that is looked at.
    pub(super) async fn end_proof_session(&mut self) -> Result<Vec<Effect>, StepFailure> {
        if self.instance.spec.template.rdp_security == RdpSecurity::Nla {
            // CredSSP proves before any session begins.
            return Ok(Vec::new());
        }
        self.end_sessions(true).await?;
        let sessions = self.tools.provider.sessions(&self.place, self.instance.id).await?;
        if sessions.iter().any(|session| session.login_name == self.instance.spec.guest.login_name) {
            // The change is done on the node's books: another one is needed to end what is still there.
            self.state.changes.remove(&self.position);
            return Err(transient(Reason::Conflict, "the session that the login proof opened is still there"));
        }
        Ok(Vec::new())
    }
}
