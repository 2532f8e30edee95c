//! A guest that was started by hand: the same questions to its agent, with the same pauses as the product's agent makes.

use std::time::{Duration, Instant};

use nemordp_agent::host::guest::agent;
use nemordp_agent::host::guest::certificate;
use nemordp_agent::host::guest::script::Script;
use nemordp_proof::Credential;
use nemordp_types::{LoginName, SystemEntropy};
use secrecy::ExposeSecret as _;

use super::shell::Shell;
use crate::trial::{Result, TrialError};

const PATIENCE: Duration = Duration::from_secs(300);
/// As `agent::instance::wait` pauses.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Waits for the guest agent.
pub(super) fn wait_for_agent(shell: &mut Shell, domain: &str) -> Result<()> {
    until("the guest agent", || Ok(shell.agent(domain, &agent::ping())?.map(drop)))
}

/// Sets a fresh password for the template's account.
pub(super) fn set_password(shell: &mut Shell, domain: &str) -> Result<Credential> {
    let login_name = LoginName::new("user").map_err(|failure| answer("login name", &failure))?;
    let password = nemordp_model::password::make(&SystemEntropy);
    let request = agent::set_password(&login_name, &password);
    let said = shell.agent(domain, request.expose_secret())?.unwrap_or_default();
    agent::read_done(&said).map_err(|failure| answer("set-user-password", &failure))?;
    Ok(Credential { login_name, password })
}

/// Waits for the certificate that the RDP server shows.
pub(super) fn certificate(shell: &mut Shell, domain: &str) -> Result<[u8; 32]> {
    until("the RDP server's certificate", || {
        let Some(pem) = script(shell, domain, Script::Certificate)? else { return Ok(None) };
        certificate::sha256(&pem).map_err(|failure| answer("certificate", &failure))
    })
}

fn script(shell: &mut Shell, domain: &str, script: Script) -> Result<Option<String>> {
    let Some(started) = shell.agent(domain, &agent::exec(script, &[]))? else { return Ok(None) };
    let pid = agent::read_pid(&started).map_err(|failure| answer("guest-exec", &failure))?;
    let mut pause = Duration::from_millis(10);
    loop {
        let said = shell.agent(domain, &agent::exec_status(pid))?.unwrap_or_default();
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
