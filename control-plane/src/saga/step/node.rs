//! Steps that are one change on the node.

use std::time::Duration;

use nemordp_providers::Change;
use nemordp_store::Effect;
use nemordp_types::instance::{DesiredPower, InstanceSpec, PowerAction};
use nemordp_types::template::RdpSecurity;
use nemordp_types::{Failure, OperationId, Reason};
use tokio::time::{Instant, sleep};

use super::{Work, transient};
use crate::saga::retry::StepFailure;

/// Between two looks for a guest's certificate.
const CERTIFICATE_POLL: Duration = Duration::from_secs(2);

impl Work<'_> {
    pub(super) async fn ensure_instance(&mut self) -> Result<Vec<Effect>, StepFailure> {
        self.remake().await
    }

    pub(super) async fn remake(&mut self) -> Result<Vec<Effect>, StepFailure> {
        let change = Change::Ensure(Box::new(self.instance.spec.clone()));
        let id = self.change_id();
        self.change(id, &change, self.tools.limits.ensure).await?;
        Ok(Vec::new())
    }

    pub(super) async fn reconfigure(&mut self) -> Result<Vec<Effect>, StepFailure> {
        let id = self.change_id();
        self.bring_to(self.instance.spec.clone(), id).await?;
        Ok(Vec::new())
    }

    /// Brings the instance to what is wanted of it, whether its guest answers or not: a change's step, and the undo of
    /// every change.
    ///
    /// # Errors
    /// What the node says.
    pub async fn bring_to(&self, spec: InstanceSpec, id: OperationId) -> Result<(), Failure> {
        let change = Change::Reconfigure(Box::new(spec));
        self.change(id, &change, self.tools.limits.ensure).await.map(drop)
    }

    /// The node lets go the disk that was kept; the store forgets it in the same write as this step's result.
    pub(super) async fn settle(&mut self) -> Result<Vec<Effect>, StepFailure> {
        let id = self.change_id();
        let mut spec = self.instance.spec.clone();
        spec.disks.kept = None;
        self.bring_to(spec, id).await?;
        Ok(vec![Effect::Settle { instance_id: self.instance.id }])
    }

    /// Nobody has the password, so nothing can be proven: what the guest's agent reads inside is pinned. A guest whose
    /// owner has changed it may show none; then none is pinned. One that is off keeps the last.
    pub(super) async fn read_certificate(&mut self) -> Result<Vec<Effect>, StepFailure> {
        let instance_id = self.instance.id;
        if self.instance.desired_power() == DesiredPower::Off {
            return Ok(Vec::new());
        }
        self.say("reads the certificate");
        let until = Instant::now() + self.tools.limits.certificate;
        loop {
            let status = self.tools.provider.status(&self.place, instance_id).await?;
            match status.rdp_certificate_sha256 {
                Some(sha256) => return Ok(vec![Effect::PinCertificate { instance_id, sha256 }]),
                None if Instant::now() + CERTIFICATE_POLL >= until => {
                    tracing::warn!(%instance_id, "the guest shows no certificate: none is pinned");
                    return Ok(vec![Effect::UnpinCertificate { instance_id }]);
                }
                None => sleep(CERTIFICATE_POLL).await,
            }
        }
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
