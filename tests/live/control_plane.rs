//! The control plane dies while a real guest is made.

use nemordp_tests::lab::{Lab, ProcessRef};
use nemordp_tests::trial::Binaries;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::Installation;
use crate::agent::{PATIENCE, answers_rdp, wait_until};
use crate::isolation::domain;

const PROGRAM: &str = "control-plane";

fn lab(installation: &Installation) -> Lab {
    Lab::new(installation.dir.join("lab")).unwrap()
}

fn kill(installation: &Installation) {
    let process: ProcessRef = lab(installation).program(PROGRAM).unwrap().expect("the control plane runs");
    assert!(process.signal(Signal::SIGKILL));
    assert!(process.wait_gone(PATIENCE));
}

fn start(installation: &Installation) {
    let config = installation.dir.join("control-plane/control-plane.toml");
    let mut serve = Binaries::beside_this().unwrap().command("nemordp-control-plane");
    serve.arg("serve").arg("--config").arg(config);
    lab(installation).spawn(PROGRAM, &serve, &installation.dir.join("logs/control-plane.log")).unwrap();
}

/// Killed in the middle of each step that touches the node, it finishes the order as if nothing had been.
pub(crate) fn deaths_in_every_step_end_in_one_desktop(installation: &Installation) {
    let cli = installation.cli();
    let order = ["order", "create", "--plan", "small", "--template", "debian-12-xrdp", "--region", "lab"];
    let order = cli.json(&order).unwrap();
    let of = |field: &str| order[field].as_str().unwrap().to_owned();
    let (id, instance, operation) = (of("id"), of("instance_id"), of("operation_id"));
    for step in ["ensure_instance", "set_password", "prove_login"] {
        wait_until(&format!("the step {step}"), || {
            let shown = cli.json(&["operation", "show", &operation]).unwrap_or(Value::Null);
            let steps = shown["steps"].as_array().cloned().unwrap_or_default();
            // A short step may be over before it is seen; what counts is that the next death comes no earlier.
            let begun = |row: &Value| row["name"] == json!(step) && row["state"] != json!("pending");
            shown["status"] == json!("done") || steps.iter().any(begun)
        });
        kill(installation);
        start(installation);
    }
    wait_until("the order to be active", || {
        let shown = cli.json(&["order", "show", &id]).unwrap_or(Value::Null);
        assert_ne!(shown["state"], json!("failed"), "{shown}");
        shown["state"] == json!("active")
    });
    let shown = cli.json(&["instance", "show", &instance]).unwrap();
    let endpoint = format!("{}:{}", shown["endpoint_address"].as_str().unwrap(), shown["endpoint_port"]);
    assert!(answers_rdp(endpoint.parse().unwrap()), "the desktop answers at {endpoint}");
    let domains = installation.host().exec(&["virsh", "--quiet", "list", "--all", "--name"]).unwrap();
    let domains = domains.success().unwrap().text();
    assert_eq!(domains.matches(&domain(&instance)).count(), 1, "one domain, not two: {domains}");
    cli.json(&["instance", "delete", &instance, "--watch"]).unwrap();
    assert_eq!(cli.json(&["audit"]).unwrap()["findings"], json!([]), "the money-leak check finds nothing");
}
