//! Requests to the QEMU guest agent (QMP-like JSON) and their answers.

use std::net::Ipv4Addr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nemordp_types::{Failure, LoginName, MacAddr, Reason};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use super::script::Script;

/// Asks whether the agent is there.
#[must_use]
pub fn ping() -> String {
    json!({ "execute": "guest-ping" }).to_string()
}

/// Asks for the network cards.
#[must_use]
pub fn network_interfaces() -> String {
    json!({ "execute": "guest-network-get-interfaces" }).to_string()
}

/// Asks for a password to be set; the agent answers when the guest's own tool has done it.
#[must_use]
pub fn set_password(login: &LoginName, password: &SecretString) -> SecretString {
    let encoded = STANDARD.encode(password.expose_secret());
    let arguments = json!({ "username": login, "password": encoded, "crypted": false });
    SecretString::from(json!({ "execute": "guest-set-user-password", "arguments": arguments }).to_string())
}

/// Starts one of the fixed scripts; values are arguments of their own and never part of the script's text.
#[must_use]
pub fn exec(script: Script, arguments: &[&str]) -> String {
    let mut argv = vec!["-c", script.text(), "nemordp"];
    argv.extend_from_slice(arguments);
    let arguments = json!({ "path": "/bin/sh", "arg": argv, "capture-output": true });
    json!({ "execute": "guest-exec", "arguments": arguments }).to_string()
}

/// Asks how a started script is doing.
#[must_use]
pub fn exec_status(pid: u64) -> String {
    json!({ "execute": "guest-exec-status", "arguments": { "pid": pid } }).to_string()
}

/// How a script ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i64>,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Status {
    exited: bool,
    exitcode: Option<i64>,
    out_data: Option<String>,
    err_data: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Interface {
    hardware_address: Option<String>,
    #[serde(default)]
    ip_addresses: Vec<IpAddress>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct IpAddress {
    ip_address: String,
}

fn returned<T: serde::de::DeserializeOwned>(answer: &str) -> Result<T, Failure> {
    let strange = |error: &dyn std::fmt::Display| {
        Failure::new(Reason::GuestAgentFailure, "the guest agent's answer cannot be read; check its version")
            .with_context(error)
    };
    let mut value: Value = serde_json::from_str(answer).map_err(|error| strange(&error))?;
    if let Some(error) = value.get("error") {
        return Err(refused(&error.to_string()));
    }
    serde_json::from_value(value["return"].take()).map_err(|error| strange(&error))
}

/// What an error of the agent becomes.
#[must_use]
pub fn refused(words: &str) -> Failure {
    Failure::new(Reason::GuestAgentFailure, "the guest agent refused the command").with_context(words)
}

/// Reads an answer that only says that it was done.
pub fn read_done(answer: &str) -> Result<(), Failure> {
    returned::<Value>(answer).map(drop)
}

/// Reads the process id of a started script.
pub fn read_pid(answer: &str) -> Result<u64, Failure> {
    #[derive(Deserialize)]
    struct Started {
        pid: u64,
    }
    returned::<Started>(answer).map(|started| started.pid)
}

/// Reads how a script is doing; none while it runs.
pub fn read_status(answer: &str) -> Result<Option<Ended>, Failure> {
    let status: Status = returned(answer)?;
    if !status.exited {
        return Ok(None);
    }
    let text = |data: Option<String>| {
        let bytes = STANDARD.decode(data.unwrap_or_default()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(Some(Ended { code: status.exitcode, stdout: text(status.out_data), stderr: text(status.err_data) }))
}

/// The address of the card with this MAC: the expected one if the card has it, else its first that is not link-local.
pub fn read_address(answer: &str, mac: MacAddr, expected: Ipv4Addr) -> Result<Option<Ipv4Addr>, Failure> {
    let interfaces: Vec<Interface> = returned(answer)?;
    let ours = |interface: &Interface| {
        interface.hardware_address.as_deref().and_then(|text| text.parse::<MacAddr>().ok()) == Some(mac)
    };
    let addresses: Vec<Ipv4Addr> = interfaces
        .iter()
        .filter(|interface| ours(interface))
        .flat_map(|interface| &interface.ip_addresses)
        .filter_map(|address| address.ip_address.parse().ok())
        .filter(|address: &Ipv4Addr| !address.is_link_local())
        .collect();
    Ok(addresses.iter().find(|address| **address == expected).or(addresses.first()).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_never_become_part_of_the_script() {
        let request: Value = serde_json::from_str(&exec(Script::Account, &["$(reboot)", "'; reboot"])).unwrap();
        let argv = request["arguments"]["arg"].as_array().unwrap();
        assert_eq!(argv[1], Script::Account.text());
        assert_eq!(argv[3], "$(reboot)");
        assert_eq!(argv[4], "'; reboot");
    }

    #[test]
    fn the_password_is_encoded_and_hidden() {
        let request = set_password(&LoginName::new("user").unwrap(), &SecretString::from("gehe\"im"));
        assert!(!format!("{request:?}").contains("Z2VoZSJpbQ"));
        let value: Value = serde_json::from_str(request.expose_secret()).unwrap();
        assert_eq!(value["arguments"]["password"], STANDARD.encode("gehe\"im"));
    }

    #[test]
    fn the_address_is_read_from_the_card_that_was_ordered() {
        let answer = r#"{"return":[
            {"name":"lo","hardware-address":"00:00:00:00:00:00","ip-addresses":[{"ip-address":"127.0.0.1","ip-address-type":"ipv4","prefix":8}]},
            {"name":"docker0","hardware-address":"02:42:00:00:00:01","ip-addresses":[{"ip-address":"172.17.0.1","ip-address-type":"ipv4","prefix":16}]},
            {"name":"eth0","hardware-address":"52:54:00:40:00:02","ip-addresses":[
              {"ip-address":"169.254.1.1","ip-address-type":"ipv4","prefix":16},
              {"ip-address":"10.64.0.9","ip-address-type":"ipv4","prefix":24},
              {"ip-address":"10.64.0.2","ip-address-type":"ipv4","prefix":24},
              {"ip-address":"fe80::1","ip-address-type":"ipv6","prefix":64}]},
            {"name":"sit0"}]}"#;
        let wanted: Ipv4Addr = "10.64.0.2".parse().unwrap();
        let mac = MacAddr::of_private_ipv4(wanted);
        assert_eq!(read_address(answer, mac, wanted).unwrap(), Some(wanted));
        let other = read_address(answer, mac, "10.64.0.7".parse().unwrap()).unwrap();
        assert_eq!(other, Some("10.64.0.9".parse().unwrap()), "a wrong address is shown, not hidden");
        let absent = MacAddr::of_private_ipv4("10.64.0.3".parse().unwrap());
        assert_eq!(read_address(answer, absent, wanted).unwrap(), None);
    }

    #[test]
    fn errors_and_nonsense_are_failures_of_the_agent() {
        for bad in [r#"{"error":{"class":"GenericError","desc":"no"}}"#, "{", r#"{"return":{}}"#] {
            assert_eq!(read_pid(bad).unwrap_err().reason, Reason::GuestAgentFailure, "{bad}");
        }
        assert_eq!(read_status(r#"{"return":{"exited":false}}"#).unwrap(), None);
        let ended = read_status(r#"{"return":{"exited":true,"exitcode":3,"out-data":"aGk="}}"#).unwrap().unwrap();
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(3), "hi"));
    }
}
