//! The product on real guests: `make try`, again, everything that may go wrong in between, `make try-down`.
//!
//! One machine holds one such run, so the phases stand in one test, in the order of an installation's life. Needs root
//! and the packages of `tests/setup/packages.sh live`; says so and passes where they are not there.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a skipped test says why, a long one says where it is")]

mod agent;
mod control_plane;
mod failure;
mod guest;
mod isolation;
mod lifecycle;
mod notice;
mod prometheus;

use std::path::PathBuf;
use std::time::Instant;

use nemordp_tests::lab::{Host, HostNumber, Lab, Snapshot};
use nemordp_tests::trial::{Binaries, Cli, Delivered, Mode, Trial};
use serde_json::Value;

/// An installation that runs, and what its phases need of it.
struct Installation {
    dir: PathBuf,
    trial: Trial,
    started: Instant,
}

impl Installation {
    fn host(&self) -> Host {
        Lab::new(self.dir.join("lab")).unwrap().host(HostNumber::FIRST)
    }

    fn cli(&self) -> Cli {
        let record: Value = serde_json::from_slice(&std::fs::read(self.dir.join("trial.json")).unwrap()).unwrap();
        let port = record["ports"][0].as_u64().unwrap();
        Cli::new(Binaries::beside_this().unwrap(), format!("http://127.0.0.1:{port}"), self.dir.join("api-key"))
    }

    fn ports(&self) -> Vec<u16> {
        let record: Value = serde_json::from_slice(&std::fs::read(self.dir.join("trial.json")).unwrap()).unwrap();
        record["ports"].as_array().unwrap().iter().map(|port| u16::try_from(port.as_u64().unwrap()).unwrap()).collect()
    }

    fn phase(&self, name: &str) {
        println!("=== {name} ({:.0} s)", self.started.elapsed().as_secs_f64());
    }
}

/// Templates and packages may be kept between runs, so that the second run is quick; the first builds them.
fn directory() -> (PathBuf, Option<tempfile::TempDir>) {
    match std::env::var_os("NEMORDP_TRIAL_DIR") {
        Some(dir) => (PathBuf::from(dir), None),
        None => {
            let folder = tempfile::Builder::new().prefix("nemordp-live").tempdir().unwrap();
            if let Some(built) = std::env::var_os("NEMORDP_TEMPLATE_DIR") {
                let templates = folder.path().join("templates");
                std::fs::create_dir(&templates).unwrap();
                for file in std::fs::read_dir(built).into_iter().flatten().map(Result::unwrap) {
                    std::fs::copy(file.path(), templates.join(file.file_name())).unwrap();
                }
            }
            (folder.path().to_owned(), Some(folder))
        }
    }
}

#[test]
fn an_installation_lives_through_everything_and_leaves_nothing() {
    if let Some(why) = Lab::unavailable() {
        println!("skipped: {why}");
        return;
    }
    let before = Snapshot::take().unwrap();
    let (dir, _folder) = directory();
    std::fs::create_dir_all(&dir).unwrap();
    // The guests' user must be able to reach the disks.
    std::fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let trial = Trial::new(&dir, Mode::Real).unwrap();
    let installation = Installation { dir, trial, started: Instant::now() };

    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| life(&installation)));
    if outcome.is_err() {
        keep_logs(&installation);
    }
    installation.phase("down");
    installation.trial.down().unwrap();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
    let differences: Vec<String> = before.diff(&Snapshot::take().unwrap()).iter().map(ToString::to_string).collect();
    assert!(differences.is_empty(), "the machine is not as it was:\n{}", differences.join("\n"));
}

/// What `make chaos` asks for: only the deaths, of agent, control plane and node.
fn only_deaths() -> bool {
    std::env::var_os("NEMORDP_LIVE").is_some_and(|word| word == "deaths")
}

fn life(installation: &Installation) {
    installation.phase("first delivery");
    let first = installation.trial.up().unwrap();
    delivered(&first);
    if !only_deaths() {
        what_the_proof_and_the_network_promise(installation, &first);
    }
    deaths(installation, &first);
    if !only_deaths() {
        what_customers_and_operators_do(installation, &first);
    }
}

fn what_the_proof_and_the_network_promise(installation: &Installation, first: &Delivered) {
    installation.phase("a wrong password and a man in the middle");
    guest::refuses_a_wrong_password_and_the_agent_says_why(installation, first);
    guest::finds_a_fresh_desktop(installation, first);

    installation.phase("isolation");
    isolation::holds_from_inside_the_guest(installation, first);

    installation.phase("metrics");
    prometheus::scrapes_agent_and_control_plane(installation, first);
}

fn deaths(installation: &Installation, first: &Delivered) {
    installation.phase("the agent dies while an instance runs");
    agent::restart_leaves_the_instance_undisturbed(installation, first);

    installation.phase("the agent dies while a clone is under way; a foreign domain stands beside");
    agent::restart_during_an_order_ends_well_and_spares_foreign_domains(installation);

    installation.phase("the node reboots");
    agent::endpoint_survives_a_reboot_of_the_node(installation, first);

    installation.phase("the control plane dies in every step of an order");
    control_plane::deaths_in_every_step_end_in_one_desktop(installation);
}

fn what_customers_and_operators_do(installation: &Installation, first: &Delivered) {
    installation.phase("the password is reset while somebody is at work");
    notice::stands_on_the_open_desktop_before_it_ends(installation, first);

    installation.phase("what a customer does with a desktop");
    lifecycle::every_wish_comes_true_on_a_real_guest(installation, first);

    installation.phase("orders that cannot succeed");
    failure::says_why_and_leaves_nothing(installation);

    installation.phase("second delivery, everything is there");
    let second = installation.trial.up().unwrap();
    delivered(&second);
    assert_ne!(first.instance, second.instance);
}

fn delivered(desktop: &Delivered) {
    let picture = desktop.screenshot.as_ref().expect("a real desktop has a picture");
    assert!(std::fs::metadata(picture).unwrap().len() > 1000, "the picture shows something");
    let rdp = std::fs::read_to_string(&desktop.rdp_file).unwrap();
    assert!(rdp.contains(&desktop.endpoint.to_string()), "the .rdp file carries the endpoint: {rdp}");
    assert!(desktop.link.contains('#'), "the secret part of the link stands in the fragment");
}

/// What the programs said, where the next reader finds it after the directory is gone.
fn keep_logs(installation: &Installation) {
    for name in ["control-plane", "agent"] {
        let log = installation.dir.join("logs").join(format!("{name}.log"));
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let tail: Vec<&str> = text.lines().rev().take(60).collect();
        println!("--- the end of {name}.log");
        for line in tail.iter().rev() {
            println!("{line}");
        }
    }
}
