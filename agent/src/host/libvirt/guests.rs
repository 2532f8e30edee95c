//! Calls into guests: the agent's commands with a deadline that holds, and the answers read by `host::guest`.

use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use nemordp_types::guest::{Account, GuestSession};
use nemordp_types::instance::{GUEST_RDP_PORT, GuestSpec};
use nemordp_types::{Failure, InstanceId, LoginName, Reason};
use secrecy::{ExposeSecret, SecretString};

use super::LibvirtHost;
use crate::host::GuestAddress;
use crate::host::guest::agent::{self, Ended};
use crate::host::guest::script::{self, Script};
use crate::host::guest::{account, certificate, layout_and_variant, rdp, session};

/// One command that the agent answers at once.
const COMMAND_DEADLINE: Duration = Duration::from_secs(10);
/// Setting a password runs programs in the guest; an emulated one under load needs its time.
const PASSWORD_DEADLINE: Duration = Duration::from_secs(30);
/// A script in the guest; longer than the guest itself waits for sessions to end.
const SCRIPT_DEADLINE: Duration = Duration::from_secs(40);
/// Seconds that sessions are given to end, counted inside the guest.
const SESSIONS_GONE_SECONDS: &str = "25";
/// First and longest wait between two questions how a script is doing.
const SCRIPT_POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(150));

impl LibvirtHost {
    async fn command(
        &self,
        instance: InstanceId,
        request: SecretString,
        deadline: Duration,
    ) -> Result<String, Failure> {
        let call = self.connection.agent_call(instance, deadline, move |domain, seconds| {
            domain.qemu_agent_command(request.expose_secret(), seconds, 0)
        });
        call.await
    }

    async fn run_script(&self, instance: InstanceId, script: Script, arguments: &[&str]) -> Result<Ended, Failure> {
        let whole = async {
            let request = SecretString::from(agent::exec(script, arguments));
            let pid = agent::read_pid(&self.command(instance, request, COMMAND_DEADLINE).await?)?;
            let mut wait = SCRIPT_POLL.0;
            loop {
                let request = SecretString::from(agent::exec_status(pid));
                let answer = self.command(instance, request, COMMAND_DEADLINE).await?;
                if let Some(ended) = agent::read_status(&answer)? {
                    return Ok(ended);
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(SCRIPT_POLL.1);
            }
        };
        tokio::time::timeout(SCRIPT_DEADLINE, whole).await.unwrap_or_else(|_| {
            Err(Failure::new(Reason::GuestAgentTimeout, "a command in the guest did not end in time")
                .with_context(format!("{script:?}")))
        })
    }

    async fn script_output(&self, instance: InstanceId, script: Script, arguments: &[&str]) -> Result<String, Failure> {
        let ended = self.run_script(instance, script, arguments).await?;
        if ended.code == Some(0) { Ok(ended.stdout) } else { Err(unexpected(script, &ended)) }
    }

    pub(super) async fn ping(&self, instance: InstanceId, deadline: Duration) -> Result<(), Failure> {
        self.spec_of(instance).await?;
        agent::read_done(&self.command(instance, SecretString::from(agent::ping()), deadline).await?)
    }

    pub(super) async fn address(&self, instance: InstanceId) -> Result<Option<GuestAddress>, Failure> {
        let network = self.spec_of(instance).await?.network;
        let request = SecretString::from(agent::network_interfaces());
        let answer = self.command(instance, request, COMMAND_DEADLINE).await?;
        let ipv4 = agent::read_address(&answer, network.mac, network.private_ipv4)?;
        Ok(ipv4.map(|ipv4| GuestAddress { ipv4 }))
    }

    pub(super) async fn personalise(&self, instance: InstanceId, guest: &GuestSpec) -> Result<(), Failure> {
        self.spec_of(instance).await?;
        let zone = guest.time_zone.as_ref().map_or("", |zone| zone.as_str());
        let (layout, variant) = guest.keyboard.as_ref().map_or(("", ""), layout_and_variant);
        let arguments = [guest.host_name.as_str(), guest.login_name.as_str(), zone, layout, variant];
        let ended = self.run_script(instance, Script::Personalise, &arguments).await?;
        match ended.code {
            Some(0) => Ok(()),
            Some(script::EXIT_NO_ZONE) => {
                Err(Failure::field("time_zone", format!("the template does not know {zone}; order one that it has")))
            }
            Some(script::EXIT_NO_ACCOUNT) => Err(Failure::new(
                Reason::GuestAgentFailure,
                "the guest could not make the account; use another login name or correct the template",
            )
            .with_field("login_name")
            .with_context(ended.stderr.trim())),
            Some(_) | None => Err(unexpected(Script::Personalise, &ended)),
        }
    }

    pub(super) async fn certificate(&self, instance: InstanceId) -> Result<Option<[u8; 32]>, Failure> {
        self.spec_of(instance).await?;
        certificate::sha256(&self.script_output(instance, Script::Certificate, &[]).await?)
    }

    pub(super) async fn rdp_answers(&self, instance: InstanceId, deadline: Duration) -> Result<bool, Failure> {
        let network = self.spec_of(instance).await?.network;
        Ok(rdp::answers(SocketAddr::from((network.private_ipv4, GUEST_RDP_PORT)), deadline).await)
    }

    pub(super) async fn set_password(
        &self,
        instance: InstanceId,
        login: &LoginName,
        password: &SecretString,
    ) -> Result<(), Failure> {
        self.spec_of(instance).await?;
        let answer = self.command(instance, agent::set_password(login, password), PASSWORD_DEADLINE).await;
        let confirmed = answer.and_then(|answer| agent::read_done(&answer));
        confirmed.map_err(|failure| {
            if failure.reason != Reason::GuestAgentFailure {
                return failure;
            }
            Failure::new(Reason::GuestAgentFailure, "the guest refused the password; check the account and its rules")
                .with_field("login_name")
                .with_context(failure.context.unwrap_or_default())
        })
    }

    pub(super) async fn account(
        &self,
        instance: InstanceId,
        login: &LoginName,
        since: Timestamp,
    ) -> Result<Account, Failure> {
        self.spec_of(instance).await?;
        let second = since.as_second().to_string();
        let printed = self.script_output(instance, Script::Account, &[login.as_str(), &second]).await?;
        account::read(&printed, login, since)
    }

    pub(super) async fn announce(&self, instance: InstanceId, login: &LoginName, text: &str) -> Result<bool, Failure> {
        self.spec_of(instance).await?;
        Ok(session::was_told(&self.script_output(instance, Script::Announce, &[login.as_str(), text]).await?))
    }

    pub(super) async fn sessions(&self, instance: InstanceId) -> Result<Vec<GuestSession>, Failure> {
        self.spec_of(instance).await?;
        Ok(session::read(&self.script_output(instance, Script::Sessions, &[]).await?))
    }

    pub(super) async fn end_sessions(
        &self,
        instance: InstanceId,
        login: &LoginName,
        proof_only: bool,
    ) -> Result<(), Failure> {
        self.spec_of(instance).await?;
        let which = if proof_only { "proof" } else { "all" };
        let arguments = [login.as_str(), which, SESSIONS_GONE_SECONDS];
        let ended = self.run_script(instance, Script::EndSessions, &arguments).await?;
        match ended.code {
            Some(0) => Ok(()),
            Some(script::EXIT_SESSION_STAYS) => Err(Failure::new(
                Reason::GuestAgentFailure,
                "a desktop session of the account is still open; end it inside the guest",
            )),
            Some(_) | None => Err(unexpected(Script::EndSessions, &ended)),
        }
    }
}

fn unexpected(script: Script, ended: &Ended) -> Failure {
    Failure::new(Reason::GuestAgentFailure, "a command in the guest failed; the operator finds its words in the log")
        .with_context(format!("{script:?} ended with {:?}: {}", ended.code, ended.stderr.trim()))
}
