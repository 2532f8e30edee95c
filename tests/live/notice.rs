//! Somebody is at work on the desktop while its password is reset.

use std::time::Duration;

use nemordp_tests::lab::{CertificateCheck, RdpSession, RdpTarget};
use nemordp_tests::trial::Delivered;
use secrecy::SecretString;
use serde_json::Value;

use crate::Installation;
use crate::agent::{kill_agent, node_available, start_agent, wait_until};
use crate::isolation::{domain, in_guest};

/// Patience with the desktop of an emulated guest.
const DESKTOP: Duration = Duration::from_secs(120);
/// Seconds that an emulated guest needs to draw a window, and some.
const READ_IT: u64 = 40;

/// Names of the programs in the guest that carry the words.
const WHO_SAYS_IT: &str = "for each in /proc/[0-9]*; do \
    grep -qsa 'password is being reset' $each/environ $each/cmdline && cat $each/comm; done";

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}")).to_owned()
}

/// Has the agent leave so many seconds between the notice and the end of sessions.
fn leave_seconds(installation: &Installation, seconds: u64) {
    let file = installation.host().data_dir().join("agent.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let line = config.lines().find(|line| line.starts_with("announce_seconds")).expect("the trial says how long");
    std::fs::write(&file, config.replace(line, &format!("announce_seconds = {seconds}"))).unwrap();
    kill_agent(installation);
    start_agent(installation);
    wait_until("the node after its agent's restart", || node_available(installation));
}

/// The notice stands on the open desktop, then the session ends, and the password is another one.
pub(crate) fn stands_on_the_open_desktop_before_it_ends(installation: &Installation, desktop: &Delivered) {
    let cli = installation.cli();
    let reset = ["instance", "password-reset", &desktop.instance, "--watch"];
    cli.json(&reset).unwrap();
    leave_seconds(installation, READ_IT);
    let revealed = cli.json(&["credentials", "reveal", &desktop.instance]).unwrap();
    let target = RdpTarget {
        endpoint: desktop.endpoint,
        user: text(&revealed, "login_name"),
        password: SecretString::from(text(&revealed, "password")),
        certificate: CertificateCheck::Sha256(text(&revealed, "rdp_certificate_sha256")),
    };
    let mut session = RdpSession::open(&target, DESKTOP).unwrap();
    let picture = installation.dir.join("out/notice.png");
    std::thread::scope(|scope| {
        let resetting = scope.spawn(|| installation.cli().json(&reset));
        wait_until("a window of the desktop to say it", || {
            in_guest(&installation.host(), &domain(&desktop.instance), WHO_SAYS_IT).1.contains("lxterminal")
        });
        wait_until("the notice on the screen", || session.picture_of_something_new(&picture).unwrap());
        assert!(!session.is_over().unwrap(), "there is time to read it");
        resetting.join().unwrap().unwrap();
    });
    if let Some(keep) = std::env::var_os("NEMORDP_KEEP_NOTICE") {
        std::fs::copy(&picture, keep).unwrap();
    }
    wait_until("the session to end", || session.is_over().unwrap());
    let again = cli.json(&["credentials", "reveal", &desktop.instance]).unwrap();
    assert_ne!(text(&again, "password"), text(&revealed, "password"));
    leave_seconds(installation, 0);
}
