//! A guest that was started by hand: the same questions to its agent, with the same pauses as the product's agent makes.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use nemordp_agent::host::guest::account;
use nemordp_agent::host::guest::agent;
use nemordp_agent::host::guest::certificate;
use nemordp_agent::host::guest::script::Script;
use nemordp_proof::Credential;
use nemordp_types::{InstanceId, LoginName, SystemEntropy};
use secrecy::ExposeSecret as _;

use super::libvirt::Libvirt;
use crate::trial::{Result, TrialError};

const PATIENCE: Duration = Duration::from_secs(300);
/// As `agent::instance::wait` pauses.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Waits for the guest agent.
pub(super) fn wait_for_agent(libvirt: &Libvirt, domain: InstanceId) -> Result<()> {
    until("the guest agent", || Ok(libvirt.agent(domain, &agent::ping()).map(drop)))
}

/// Sets a fresh password for the template's account.
pub(super) fn set_password(libvirt: &Libvirt, domain: InstanceId) -> Result<Credential> {
    let login_name = LoginName::new("user").map_err(|failure| answer("login name", &failure))?;
    let password = nemordp_model::password::make(&SystemEntropy);
    let request = agent::set_password(&login_name, &password);
    let said = libvirt.agent(domain, request.expose_secret()).unwrap_or_default();
    agent::read_done(&said).map_err(|failure| answer("set-user-password", &failure))?;
    Ok(Credential { login_name, password })
}

/// Waits for the certificate that the RDP server shows.
pub(super) fn certificate(libvirt: &Libvirt, domain: InstanceId) -> Result<[u8; 32]> {
    until("the RDP server's certificate", || {
        let Some(pem) = script(libvirt, domain, Script::Certificate, &[])? else { return Ok(None) };
        certificate::sha256(&pem).map_err(|failure| answer("certificate", &failure))
    })
}

/// What the guest says of the account and its last refused login.
pub(super) fn last_refusal(libvirt: &Libvirt, domain: InstanceId, login: &LoginName) -> String {
    match script(libvirt, domain, Script::Account, &[login.as_str(), "0"]) {
        Ok(Some(printed)) => {
            account::read(&printed, login, Timestamp::UNIX_EPOCH).map_or(printed, |account| format!("{account:?}"))
        }
        Ok(None) => "the guest does not say why".to_owned(),
        Err(error) => error.to_string(),
    }
}

fn script(libvirt: &Libvirt, domain: InstanceId, script: Script, arguments: &[&str]) -> Result<Option<String>> {
    let Some(started) = libvirt.agent(domain, &agent::exec(script, arguments)) else { return Ok(None) };
    let pid = agent::read_pid(&started).map_err(|failure| answer("guest-exec", &failure))?;
    let mut pause = Duration::from_millis(10);
    loop {
        let said = libvirt.agent(domain, &agent::exec_status(pid)).unwrap_or_default();
        if let Some(ended) = agent::read_status(&said).map_err(|failure| answer("guest-exec-status", &failure))? {
            return Ok((ended.code == Some(0)).then_some(ended.stdout));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(150));
    }
}

fn until<T>(what: &str, mut ask: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    let mut pause = FIRST_PAUSE;
    loop {
        if let Some(found) = ask()? {
            return Ok(found);
        }
        if Instant::now() >= end {
            let hint = "look at the second host's libvirt".to_owned();
            return Err(TrialError::Deadline { what: what.to_owned(), seconds: PATIENCE.as_secs(), hint });
        }
        std::thread::sleep(pause);
        pause = (pause * 5 / 4).min(LONGEST_PAUSE);
    }
}

pub(super) fn answer(what: &str, why: &dyn std::fmt::Display) -> TrialError {
    TrialError::Answer { what: what.to_owned(), why: why.to_string() }
}
