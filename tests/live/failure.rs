//! Orders that cannot succeed on real guests: each ends with its reason, and nothing of it stays.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::Installation;
use crate::agent::{PATIENCE, answers_rdp, kill_agent, node_available, start_agent, wait_until};
use crate::isolation::{agent_answers, domain, in_guest};
use nemordp_tests::lab::poll;

/// Short, so that what never answers is known soon: the tests begin to count when the rest of the guest is up.
const SHORT_BOOT: &str = "boot_timeout_seconds = 6";
/// Virtual size of the disk that boots nothing.
const BLANK_GIB: u64 = 2;

/// The agent's settings, changed for a while.
struct Settings<'a> {
    installation: &'a Installation,
    file: PathBuf,
    original: String,
}

impl<'a> Settings<'a> {
    fn of(installation: &'a Installation) -> Self {
        let file = installation.host().data_dir().join("agent.toml");
        let original = std::fs::read_to_string(&file).unwrap();
        Self { installation, file, original }
    }

    /// The agent goes on with these; `line` stands among those of no table.
    fn with(&self, line: &str) {
        self.write(&format!("{line}\n{}", self.original));
    }

    fn write(&self, text: &str) {
        std::fs::write(&self.file, text).unwrap();
        kill_agent(self.installation);
        start_agent(self.installation);
        wait_until("the node to be heard again", || node_available(self.installation));
    }
}

/// What an order would leave behind, as the node and the store have it.
struct Left {
    domains: String,
    files: String,
    ruleset: String,
    reserved: Vec<Value>,
}

impl Left {
    fn look(installation: &Installation) -> Self {
        let host = installation.host();
        let told = |words: &[&str]| host.exec(words).unwrap().success().unwrap().text();
        let node = installation.cli().json(&["node", "list"]).unwrap()[0].clone();
        let reserved = ["vcpu_reserved", "memory_reserved_mib", "disk_reserved_bytes"];
        let folders = [host.data_dir().join("pool"), host.data_dir().join("small-pool")];
        // Templates come and go by themselves.
        let list = |folder: &PathBuf| {
            told(&["find", &folder.display().to_string(), "-type", "f", "-not", "-path", "*/templates/*"])
        };
        let mut files: Vec<String> =
            folders.iter().flat_map(|folder| list(folder).lines().map(str::to_owned).collect::<Vec<_>>()).collect();
        files.sort();
        Self {
            domains: told(&["virsh", "--quiet", "list", "--all", "--name"]),
            files: files.join("\n"),
            ruleset: told(&["nft", "--stateless", "list", "ruleset"]),
            reserved: reserved.iter().map(|field| node[*field].clone()).collect(),
        }
    }
}

struct Order<'a> {
    installation: &'a Installation,
    id: String,
    instance: String,
    before: Left,
}

impl<'a> Order<'a> {
    fn place(installation: &'a Installation, plan: &str, template: &str) -> Self {
        let before = Left::look(installation);
        let words = ["order", "create", "--plan", plan, "--template", template, "--region", "lab"];
        let order = installation.cli().json(&words).unwrap();
        let of = |field: &str| order[field].as_str().unwrap().to_owned();
        Self { installation, id: of("id"), instance: of("instance_id"), before }
    }

    fn show(&self) -> Value {
        self.installation.cli().json(&["order", "show", &self.id]).unwrap()
    }

    fn endpoint(&self) -> SocketAddr {
        let shown = self.installation.cli().json(&["instance", "show", &self.instance]).unwrap();
        format!("{}:{}", shown["endpoint_address"].as_str().unwrap(), shown["endpoint_port"]).parse().unwrap()
    }

    fn runs(&self) -> bool {
        let state = self.installation.host().exec(&["virsh", "--quiet", "domstate", &domain(&self.instance)]).unwrap();
        state.success().is_ok_and(|state| state.text().contains("running"))
    }

    /// It failed for this reason, the words tell the way out, and everything is as it was before.
    fn ends_with(self, reason: &str, fix: &str) {
        let ended = poll(PATIENCE, || {
            let order = self.show();
            Ok(["failed", "active", "refused"].iter().any(|state| order["state"] == json!(state)).then_some(order))
        });
        let order = ended.unwrap().unwrap_or_else(|| panic!("{reason}: the order did not end: {}", self.show()));
        assert_eq!(order["failure"]["reason"], json!(reason), "{order}");
        let message = order["failure"]["message"].as_str().unwrap();
        assert!(message.contains(fix), "{reason}: {message:?} says nothing of {fix:?}");
        let left = Left::look(self.installation);
        assert_eq!(left.domains, self.before.domains, "{reason}: a domain stays");
        assert_eq!(left.files, self.before.files, "{reason}: a disk stays");
        assert_eq!(left.reserved, self.before.reserved, "{reason}: room stays reserved");
        let rules = |ruleset: &str| ruleset.lines().map(str::to_owned).collect::<std::collections::BTreeSet<_>>();
        let (now, before) = (rules(&left.ruleset), rules(&self.before.ruleset));
        let changed: Vec<_> = now.symmetric_difference(&before).collect();
        assert!(changed.is_empty(), "{reason}: a rule stays: {changed:?}");
    }
}

pub(crate) fn says_why_and_leaves_nothing(installation: &Installation) {
    let settings = Settings::of(installation);
    let small = SmallPool::mount(installation);
    // Behind the first pool, on which the templates lie.
    settings.write(&settings.original.replace("\" }]", &format!("\" }}, {}]", small.table())));
    registers_a_disk_that_boots_nothing(installation);

    installation.phase("a full disk");
    wait_until("the node to report the pool", || {
        let node = installation.cli().json(&["node", "list"]).unwrap()[0].clone();
        node["pools"].as_array().is_some_and(|pools| pools.iter().any(|pool| pool["storage_class"] == json!("small")))
    });
    let sizes = ["--vcpu", "1", "--memory-mib", "1024", "--disk-gib", "8", "--storage-class", "small"];
    installation.cli().json(&[&["plan", "put", "cramped"][..], &sizes[..]].concat()).unwrap();
    small.fill();
    Order::place(installation, "cramped", "debian-12-xrdp").ends_with("disk_full", "free space");

    installation.phase("a guest that takes another password than it was given");
    let order = Order::place(installation, "small", "debian-12-xrdp");
    let (host, name) = (installation.host(), domain(&order.instance));
    wait_until("the guest's agent", || agent_answers(&host, &name));
    in_guest(&host, &name, TAKES_ANOTHER_PASSWORD);
    order.ends_with("login_wrong_password", "password");

    installation.phase("a guest whose agent does not answer");
    let order = Order::place(installation, "small", "debian-12-xrdp");
    let name = domain(&order.instance);
    wait_until("the domain to run", || order.runs());
    host.exec(&["virsh", "qemu-monitor-command", &name, "--hmp", "device_del channel0"]).unwrap().success().unwrap();
    let endpoint = order.endpoint();
    wait_until("the guest to answer RDP", || answers_rdp(endpoint));
    settings.with(SHORT_BOOT);
    order.ends_with("guest_agent_timeout", "qemu-guest-agent");

    installation.phase("a guest that never boots");
    Order::place(installation, "small", "blank").ends_with("guest_boot_timeout", "console");

    settings.write(&settings.original);
    small.unmount();
    let report = installation.cli().json(&["audit"]).unwrap();
    assert_eq!(report["findings"], json!([]), "the money-leak check finds nothing");
}

/// What sets passwords in the guest goes on to say yes, and sets another one.
const TAKES_ANOTHER_PASSWORD: &str = r#"mv /usr/sbin/chpasswd /usr/sbin/chpasswd.real && cat > /usr/sbin/chpasswd <<'END' && chmod 755 /usr/sbin/chpasswd
#!/bin/sh
IFS=: read -r name password
printf '%s:Certainly-Another-1\n' "$name" | /usr/sbin/chpasswd.real
END"#;

fn registers_a_disk_that_boots_nothing(installation: &Installation) {
    let disk = installation.dir.join("blank.qcow2");
    let words = ["qemu-img", "create", "-q", "-f", "qcow2", &disk.display().to_string(), &format!("{BLANK_GIB}G")];
    installation.host().exec(&words).unwrap().success().unwrap();
    let bytes = std::fs::read(&disk).unwrap();
    let manifest = json!({
        "name": "blank",
        "digest": format!("sha256:{}", hex::encode(Sha256::digest(&bytes))),
        "file_size": bytes.len(),
        "virtual_size": BLANK_GIB << 30,
        "rdp_security": "tls",
        "personalisation": "guest_agent",
        "login_name": "user",
    });
    let file = installation.dir.join("blank.json");
    std::fs::write(&file, manifest.to_string()).unwrap();
    installation.cli().json(&["template", "register", &file.display().to_string()]).unwrap();
}

/// A pool in memory that says it is large until it is filled.
struct SmallPool<'a> {
    installation: &'a Installation,
    path: String,
}

impl<'a> SmallPool<'a> {
    fn mount(installation: &'a Installation) -> Self {
        let path = installation.host().data_dir().join("small-pool");
        std::fs::create_dir_all(&path).unwrap();
        let this = Self { installation, path: path.display().to_string() };
        this.exec(&["mount", "-t", "tmpfs", "-o", "size=64g,mode=0755", "pool", &this.path]);
        this
    }

    fn exec(&self, words: &[&str]) {
        self.installation.host().exec(words).unwrap().success().unwrap();
    }

    fn table(&self) -> String {
        format!("{{ storage_class = \"small\", path = \"{}\" }}", self.path)
    }

    /// Room for a file's name, not for a disk.
    fn fill(&self) {
        self.exec(&["mount", "-o", "remount,size=64k", &self.path]);
    }

    fn unmount(&self) {
        self.exec(&["umount", &self.path]);
    }
}
