//! Proves the login: readiness first, then one login; what the guest's own log says decides what a silent drop means.

use nemordp_proof::{CertificatePin, Credential, Readiness, Remedy, Target, Verdict};
use nemordp_store::Effect;
use nemordp_types::template::RdpSecurity;
use nemordp_types::{Failure, OperationId, Reason};

use super::{Work, transient};
use crate::saga::retry::StepFailure;

/// Logins that may be repeated because nobody answered.
const REPEATS_MAX: u32 = 2;

impl Work<'_> {
    pub(super) async fn prove_login(&mut self) -> Result<Vec<Effect>, StepFailure> {
        self.say("reads the certificate");
        let status = self.tools.provider.status(&self.place, self.instance.id).await?;
        let sha256 = status
            .rdp_certificate_sha256
            .ok_or_else(|| transient(Reason::GuestAgentFailure, "the guest's RDP certificate was not read yet"))?;
        let endpoint = self.instance.spec.network.endpoint.socket_addr();
        self.say("waits for an answer at the endpoint");
        match self.tools.prover.readiness(endpoint, self.tools.limits.readiness).await {
            Readiness::Ready => {}
            other @ (Readiness::NoAnswer { .. }
            | Readiness::Silent
            | Readiness::NotRdp { .. }
            | Readiness::Refused(_)) => {
                tracing::info!(instance_id = %self.instance.id, ?other, "the endpoint is not ready; the proof will say why")
            }
        }
        let target = Target {
            address: endpoint,
            security: self.instance.spec.template.rdp_security,
            certificate: CertificatePin::from_bytes(sha256),
            // Every template that is offered now is a Linux one, whose servers cannot state the right to log on.
            require_authorization: false,
        };
        let verdict = self.verdict(&target).await?;
        metrics::counter!("nemordp_proof_verdict_total", "verdict" => word(&verdict)).increment(1);
        tracing::info!(instance_id = %self.instance.id, %verdict, "login proof");
        verdict.into_result().map_err(StepFailure::for_good)?;
        Ok(vec![Effect::PinCertificate { instance_id: self.instance.id, sha256 }])
    }

    /// At most: three logins while nobody answers, and one more after the password was set again.
    async fn verdict(&mut self, target: &Target) -> Result<Verdict, StepFailure> {
        let mut repeats = 0;
        let mut set_again = false;
        loop {
            self.say("logs in");
            let verdict = self.login(target).await?;
            match verdict.remedy() {
                Remedy::ProveAgain if repeats < REPEATS_MAX => repeats += 1,
                Remedy::SetPassword if !set_again => {
                    tracing::warn!(instance_id = %self.instance.id, %verdict, "login refused; the password is set again");
                    set_again = true;
                    self.say("sets the password again");
                    self.send_password(self.another_change()).await?;
                }
                Remedy::None | Remedy::ProveAgain | Remedy::SetPassword | Remedy::GiveUp => return Ok(verdict),
            }
        }
    }

    /// One login, as a span with its verdict.
    async fn login(&self, target: &Target) -> Result<Verdict, Failure> {
        let span = nemordp_trace::child!(
            "proof",
            otel.name = "login proof",
            instance_id = %self.instance.id,
            endpoint = %target.address,
            verdict = tracing::field::Empty
        );
        let outcome = nemordp_trace::record(span.clone(), self.login_once(target)).await;
        if let Ok(verdict) = &outcome {
            span.record("verdict", word(verdict));
            if let Some(reason) = verdict.reason() {
                nemordp_trace::fail(&span, reason);
            }
        }
        outcome
    }

    async fn login_once(&self, target: &Target) -> Result<Verdict, Failure> {
        let credential =
            Credential { login_name: self.instance.spec.guest.login_name.clone(), password: self.password().await? };
        // The guest's log counts whole seconds.
        let since =
            self.tools.clock.now().checked_sub(std::time::Duration::from_secs(1)).unwrap_or(jiff::Timestamp::MIN);
        let verdict = self.tools.prover.prove(target, &credential, self.tools.limits.proof).await;
        if !verdict.wants_explanation() || target.security == RdpSecurity::Nla {
            return Ok(verdict);
        }
        self.say("asks the guest why");
        let account = self.tools.provider.account(&self.place, self.instance.id, &credential.login_name, since).await?;
        Ok(verdict.explained_by(&account))
    }

    /// A crash in between sets the same password once more, which harms nobody; so this id need not be stored.
    fn another_change(&self) -> OperationId {
        OperationId::new(self.tools.clock.as_ref(), self.tools.entropy.as_ref())
    }
}

/// The verdict's word in metrics and traces.
fn word(verdict: &Verdict) -> &'static str {
    verdict.reason().map_or("accepted", Reason::word)
}
