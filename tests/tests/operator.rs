//! The operator's programs, run as an operator runs them: what keeps the truth, yesterday's store over today's node, and
//! settling what does not fit. The node is simulated, everything else is the real thing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use nemordp_tests::lab::poll;
use nemordp_tests::trial::{Binaries, Cli, Mode, Programs, Trial};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const PROGRAM: &str = "control-plane";

/// An installation on loopback, and the two programs that its operator has.
struct Desk {
    dir: PathBuf,
    cli: Cli,
}

impl Desk {
    fn at(dir: &Path) -> Self {
        let record: Value = serde_json::from_slice(&std::fs::read(dir.join("trial.json")).unwrap()).unwrap();
        let url = format!("http://127.0.0.1:{}", record["ports"][0]);
        Self { dir: dir.to_owned(), cli: Cli::new(Binaries::beside_this().unwrap(), url, dir.join("api-key")) }
    }

    fn ask(&self, words: &[&str]) -> Value {
        self.cli.json(words).unwrap()
    }

    fn refused(&self, words: &[&str]) -> String {
        self.cli.json(words).expect_err("it ends with an error").to_string()
    }

    /// The control plane's own program: how it ended, and all that it said.
    fn control_plane(&self, words: &[&str]) -> (bool, String) {
        let mut command = Binaries::beside_this().unwrap().command("nemordp-control-plane");
        command.args(words).arg("--config").arg(self.dir.join("control-plane/control-plane.toml"));
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    fn done(&self, words: &[&str]) -> String {
        let (success, said) = self.control_plane(words);
        assert!(success, "{words:?}: {said}");
        said
    }

    fn programs(&self) -> Programs {
        Programs::Own { dir: self.dir.clone() }
    }

    fn start(&self) {
        let mut serve = Binaries::beside_this().unwrap().command("nemordp-control-plane");
        serve.arg("serve").arg("--config").arg(self.dir.join("control-plane/control-plane.toml"));
        self.programs().start(PROGRAM, &mut serve, &self.dir.join("logs/control-plane.log")).unwrap();
        self.wait_until("the API to answer", || self.cli.json(&["node", "list"]).is_ok());
    }

    fn wait_until(&self, what: &str, mut check: impl FnMut() -> bool) {
        let met = poll(PATIENCE, || Ok(check().then_some(()))).unwrap();
        assert!(met.is_some(), "waited for {what}; see {}", self.dir.join("logs").display());
    }
}

#[test]
fn an_operator_looks_after_an_installation_and_brings_it_back_from_a_backup() {
    let folder = tempfile::Builder::new().prefix("nemordp-operator").tempdir().unwrap();
    let trial = Trial::new(folder.path(), Mode::Simulated).unwrap();
    let desktop = trial.up().unwrap();
    let desk = Desk::at(folder.path());
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        what_keeps_the_truth_is_seen_and_asked(&desk);
        a_gpu_is_sold_and_comes_back(&desk);
        yesterdays_store_is_settled(&desk, &desktop.instance);
        a_certificate_is_refused_from_now_on(&desk);
    }));
    trial.down().unwrap();
    if let Err(panic) = outcome {
        std::panic::resume_unwind(panic);
    }
}

fn what_keeps_the_truth_is_seen_and_asked(desk: &Desk) {
    assert_eq!(desk.ask(&["audit"])["findings"], json!([]));
    let all = desk.ask(&["reconciler", "list"]);
    let names: Vec<&str> = all.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.len() > 3, "{names:?}");
    for name in names {
        let before = desk.ask(&["reconciler", "show", name]);
        let after = desk.ask(&["reconciler", "run", name]);
        assert_eq!(after["name"], json!(name));
        assert!(after["runs"].as_u64() > before["runs"].as_u64(), "{name}: {before} {after}");
    }
    let unknown = desk.refused(&["reconciler", "show", "nobody"]);
    assert!(unknown.contains("nobody"), "{unknown}");
    let sagas = desk.ask(&["saga", "list", "--status", "done"]);
    let provision = sagas.as_array().unwrap().iter().find(|saga| saga["kind"] == json!("provision")).unwrap();
    let shown = desk.ask(&["saga", "show", provision["id"].as_str().unwrap()]);
    assert!(shown["steps"].as_array().unwrap().iter().any(|step| step["name"] == json!("prove_login")), "{shown}");
    let refused = desk.refused(&["saga", "retry", provision["id"].as_str().unwrap()]);
    assert!(refused.contains("stuck"), "only what is stuck is retried: {refused}");
}

/// The simulated node has two GPUs of one model.
fn a_gpu_is_sold_and_comes_back(desk: &Desk) {
    let gpus = |reserved: u64| json!([{ "model": "rtx4000", "count": 2, "reserved": reserved }]);
    let size = ["--vcpu", "1", "--memory-mib", "1024", "--disk-gib", "8", "--storage-class", "nvme"];
    let plan = [&["plan", "put", "gpu"], size.as_slice()].concat();
    let refused = desk.refused(&[plan.as_slice(), &["--gpus", "3"]].concat());
    assert!(refused.contains("the most in one is 2"), "{refused}");
    desk.ask(&[plan.as_slice(), &["--gpus", "2", "--gpu-model", "rtx4000"]].concat());
    let paid = ["--paid-until", "2099-01-01T00:00:00Z"];
    let order = ["order", "create", "--plan", "gpu", "--template", "sim-desktop", "--region", "lab"];
    let bought = desk.ask(&[order.as_slice(), &paid].concat());
    desk.wait_until("the order with GPUs", || {
        desk.ask(&["order", "show", bought["id"].as_str().unwrap()])["state"] == json!("active")
    });
    let id = bought["instance_id"].as_str().unwrap();
    let shown = desk.ask(&["instance", "show", id]);
    assert_eq!(shown["gpus"], json!({ "count": 2, "model": "rtx4000" }));
    assert_eq!(shown["paid_until"], json!("2099-01-01T00:00:00Z"));
    assert_eq!(desk.ask(&["node", "list"])[0]["gpus"], gpus(2));
    let refused = desk.refused(&order);
    assert!(refused.contains("gpu 1"), "{refused}");
    desk.ask(&["instance", "delete", id, "--grace-seconds", "0", "--watch"]);
    assert_eq!(desk.ask(&["node", "list"])[0]["gpus"], gpus(0));
    assert_eq!(desk.ask(&["audit"])["findings"], json!([]));
}

fn yesterdays_store_is_settled(desk: &Desk, instance: &str) {
    let file = desk.dir.join("yesterday.db");
    let file = file.to_str().unwrap();
    assert!(desk.done(&["store", "backup", file]).contains("bytes"));
    let (again, said) = desk.control_plane(&["store", "backup", file]);
    assert!(!again && said.contains(file), "a file that is there is not overwritten: {said}");

    // What the backup does not know: a change of the one desktop, and another one.
    desk.ask(&["instance", "stop", instance, "--watch"]);
    let order = ["order", "create", "--plan", "small", "--template", "sim-desktop", "--region", "lab"];
    let later = desk.ask(&order);
    desk.wait_until("the later order", || {
        desk.ask(&["order", "show", later["id"].as_str().unwrap()])["state"] == json!("active")
    });

    let (running, said) = desk.control_plane(&["store", "restore", file, "--replace"]);
    assert!(!running, "the store is in use: {said}");
    desk.programs().end(PROGRAM).unwrap();
    let (kept, said) = desk.control_plane(&["store", "restore", file]);
    assert!(!kept && said.contains("--replace"), "a store is replaced only when that is said: {said}");
    let said = desk.done(&["store", "restore", file, "--replace"]);
    assert!(said.contains("wait for their node's word") && said.contains("is kept as"), "{said}");
    desk.start();

    let frozen = |word: &str| desk.ask(&["instance", "show", instance])["frozen"] == json!(word);
    desk.wait_until("the node's word", || frozen("store_behind"));
    let refused = desk.refused(&["instance", "start", instance]);
    assert!(refused.contains("adopt"), "the way out is named: {refused}");
    // The audit fails, and names the desktop that the store does not know.
    let stranger = later["instance_id"].as_str().unwrap();
    desk.wait_until("the audit to name both", || {
        let found = desk.refused(&["audit"]);
        found.contains("finding")
    });
    let drift = desk.ask(&["reconciler", "run", "drift"]).to_string();
    assert!(drift.contains(stranger), "{drift}");

    let adopted = desk.ask(&["instance", "adopt", instance]);
    assert!(adopted.get("frozen").is_none(), "{adopted}");
    let node = desk.ask(&["node", "list"])[0].clone();
    assert_eq!(node["policy"], json!("cordoned"), "nothing new until the operator has looked");
    desk.ask(&["node", "uncordon", node["id"].as_str().unwrap()]);
    desk.ask(&["instance", "start", instance, "--watch"]);
    desk.wait_until("the node to say that it runs", || {
        desk.ask(&["instance", "show", instance])["power"] == json!("running")
    });
}

fn a_certificate_is_refused_from_now_on(desk: &Desk) {
    let list = desk.done(&["certificate", "list"]);
    let line = list.lines().find(|line| line.contains(" node ")).unwrap();
    let serial = line.split(' ').next().unwrap();
    let (done, said) = desk.control_plane(&["certificate", "revoke", "not-hex"]);
    assert!(!done && said.contains("serial"), "{said}");
    desk.done(&["certificate", "revoke", serial]);
    let list = desk.done(&["certificate", "list"]);
    assert!(list.lines().any(|line| line.starts_with(serial) && line.contains("revoked")), "{list}");
    desk.wait_until("the node not to be heard any more", || {
        desk.ask(&["node", "list"])[0]["availability"] != json!("available")
    });
}
