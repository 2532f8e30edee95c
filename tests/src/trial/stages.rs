//! The stages of `make try`, in their order; each is done at once when it was done before.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nemordp_types::Template;
use nemordp_types::node::Acceleration;
use secrecy::SecretString;
use serde_json::Value;

use super::cli::{Cli, text};
use super::configuration::{Addresses, Node, pool};
use super::programs::{output, run};
use super::{Mode, Record, Result, Trial, TrialError, simulated, write};
use crate::lab::{CertificateCheck, KernelSource, LabError, RdpTarget, poll, poll_every, rdp_screenshot};

const RECIPE: &str = "debian-12-xrdp";
/// Name, processors, MiB of memory, GiB of disk; the trial orders the first, so that a small machine holds it.
const PLANS: [(&str, &str, &str, &str); 3] =
    [("small", "1", "1024", "8"), ("basic", "2", "4096", "50"), ("performance", "4", "8192", "100")];
const START_LIMIT: Duration = Duration::from_secs(60);
/// Between two questions to the control plane.
const POLL: Duration = Duration::from_millis(250);
/// Patience with a template on its way to the node.
const TEMPLATE_LIMIT: Duration = Duration::from_secs(120);
const SCREENSHOT_LIMIT: Duration = Duration::from_secs(90);

/// A desktop that was delivered.
#[derive(Debug, Clone)]
pub struct Delivered {
    /// The instance's id.
    pub instance: String,
    /// Where the customer connects.
    pub endpoint: SocketAddr,
    /// Who logs in.
    pub login_name: String,
    /// The link that shows the password once.
    pub link: String,
    /// The file that opens the desktop.
    pub rdp_file: PathBuf,
    /// A picture of the desktop; none where there is no desktop.
    pub screenshot: Option<PathBuf>,
}

impl Trial {
    /// The template: built once, from Debian packages.
    pub(super) fn template(&self) -> Result<(Template, PathBuf)> {
        if self.mode == Mode::Simulated {
            let folder = self.dir.join("sim-template");
            return Ok((simulated::template(&folder)?, folder.join("sim-desktop.json")));
        }
        let folder = self.dir.join("templates");
        let manifest = folder.join(RECIPE).with_extension("json");
        if !manifest.exists() {
            self.report.line("builds a template from Debian packages (once)");
            let mut command = self.binaries.command("nemordp-installer");
            command.args(["template", "build", RECIPE, "--out"]).arg(&folder);
            command.arg("--cache").arg(self.dir.join("cache"));
            run(&mut command, "nemordp-installer template build", "its message stands above")?;
        }
        let bytes = std::fs::read(&manifest).map_err(|source| TrialError::File { path: manifest.clone(), source })?;
        let template: Template = serde_json::from_slice(&bytes)
            .map_err(|error| TrialError::Answer { what: manifest.display().to_string(), why: error.to_string() })?;
        self.report.line(&format!("template {} {}", template.name, template.digest));
        Ok((template, manifest))
    }

    /// The machine that becomes the node, and how guests are executed there.
    pub(super) fn node(&self, addresses: &Addresses, template: &(Template, PathBuf)) -> Result<Node> {
        let Some(host) = self.lab_host() else {
            let data = self.dir.join("agent");
            return Ok(Node { address: Ipv4Addr::LOCALHOST, data, acceleration: Acceleration::Simulated });
        };
        host.up()?;
        let data = host.data_dir();
        let folder = pool(&data);
        std::fs::create_dir_all(&folder).map_err(|source| TrialError::File { path: folder, source })?;
        let acceleration = self.acceleration(&template.1)?;
        let words = match acceleration {
            Acceleration::Kvm => "KVM works here: guests run on it",
            Acceleration::Tcg | Acceleration::Simulated => {
                "KVM does not work here: guests run under QEMU's own emulation (TCG), which is slow"
            }
        };
        let address = host.address()?;
        self.report
            .line(&format!("libvirtd runs in namespaces of its own, node {address}, machine {}", addresses.machine));
        self.report.line(words);
        Ok(Node { address, data, acceleration })
    }

    fn acceleration(&self, manifest: &Path) -> Result<Acceleration> {
        let super::Programs::InLab(lab) = &self.programs else { return Ok(Acceleration::Simulated) };
        Ok(lab.acceleration(&KernelSource::Image(manifest.with_extension("qcow2")))?)
    }

    /// Starts the control plane, and makes the operator's key.
    pub(super) fn control_plane(&self, addresses: &Addresses, node: &Node) -> Result<Cli> {
        let config = self.dir.join("control-plane").join("control-plane.toml");
        let key_file = self.dir.join("api-key");
        let url = format!("http://127.0.0.1:{}", addresses.http);
        let cli = Cli::new(self.binaries.clone(), url, key_file.clone());
        if !self.programs.is_running("control-plane")? {
            write(&config, &self.control_plane_config(addresses, node))?;
            let mut init = self.binaries.command("nemordp-control-plane");
            output(init.arg("init").arg("--config").arg(&config), "nemordp-control-plane init")?;
            let mut serve = self.binaries.command("nemordp-control-plane");
            serve.arg("serve").arg("--config").arg(&config);
            self.programs.start("control-plane", &mut serve, &self.log("control-plane"))?;
            self.wait_for_port("control-plane", SocketAddr::from(([127, 0, 0, 1], addresses.http)))?;
            self.report.line("control plane runs (SQLite), with a CA of its own");
        }
        if !key_file.exists() {
            let mut create = self.binaries.command("nemordp-control-plane");
            create.args(["key", "create", "--name", "trial", "--scopes", "orders,read,operate,admin", "--config"]);
            let key = output(create.arg(&config), "nemordp-control-plane key create")?;
            write_private(&key_file, key.trim())?;
        }
        Ok(cli)
    }

    /// Registers template and plans.
    pub(super) fn catalogue(&self, cli: &Cli, (template, manifest): &(Template, PathBuf)) -> Result<()> {
        let known = cli.json(&["template", "list"])?;
        let digest = template.digest.to_string();
        if !items(&known).any(|row| row.get("digest").and_then(Value::as_str) == Some(digest.as_str())) {
            cli.json(&["template", "register", &manifest.display().to_string()])?;
            self.report.line("template uploaded, verified and registered");
        }
        if items(&cli.json(&["plan", "list"])?).count() == 0 {
            for (name, vcpu, memory, disk) in PLANS {
                let sizes = ["--vcpu", vcpu, "--memory-mib", memory, "--disk-gib", disk, "--storage-class", "nvme"];
                cli.json(&[&["plan", "put", name][..], &sizes[..]].concat())?;
            }
            self.report.line("plans registered: small, basic, performance");
        }
        Ok(())
    }

    /// Starts the agent, which enrolls with a one-use ticket, and waits for its first heartbeat.
    pub(super) fn enroll(&self, cli: &Cli, addresses: &Addresses, node: &Node) -> Result<()> {
        if !self.agent_runs()? {
            let config = node.data.join("agent.toml");
            let ticket = node.data.join("ticket");
            write(&config, &self.agent_config(addresses, node)?)?;
            cli.show(&["node", "ticket", "--region", "lab", "--file", &ticket.display().to_string()])?;
            self.start_agent(&config)?;
        }
        let available = poll(START_LIMIT, || {
            let nodes = cli.json(&["node", "list"]).unwrap_or(Value::Null);
            let available =
                items(&nodes).any(|row| row.get("availability").and_then(Value::as_str) == Some("available"));
            Ok(available.then_some(()))
        })?;
        available.ok_or_else(|| self.late("the node's first heartbeat", "agent"))?;
        self.report.line("node enrolled over mTLS, heartbeats arrive");
        Ok(())
    }

    /// Waits until the node has fetched the template, so that the order does not wait for it.
    pub(super) fn wait_for_template(&self, cli: &Cli, (template, _): &(Template, PathBuf)) -> Result<()> {
        let digest = template.digest.to_string();
        let started = std::time::Instant::now();
        let mut told = 0;
        let ready = poll_every(POLL, TEMPLATE_LIMIT, || {
            let nodes = cli.json(&["node", "list"]).unwrap_or(Value::Null);
            let found = items(&nodes)
                .flat_map(|node| items(node.get("templates").unwrap_or(&Value::Null)))
                .find(|row| row.get("digest").and_then(Value::as_str) == Some(digest.as_str()));
            let Some(found) = found else { return Ok(None) };
            let state = found.get("state").and_then(Value::as_str).unwrap_or_default();
            if state == "failed" {
                let why = found.get("failure").unwrap_or(&Value::Null).to_string();
                return Err(LabError::Malformed { what: "the template on the node".to_owned(), why });
            }
            let fetched = found.get("fetched_bytes").and_then(Value::as_u64).unwrap_or(0);
            let quarter = fetched * 4 / template.file_size.0.max(1);
            if state == "fetching" && quarter > told {
                told = quarter;
                self.report.line(&format!("the node fetches the template: {} %", quarter * 25));
            }
            Ok((state == "ready").then_some(()))
        })?;
        ready.ok_or_else(|| self.late("the template on the node", "agent"))?;
        let waited = started.elapsed().as_secs_f64();
        self.report
            .line(&format!("template lies on the node, fetched and verified ahead of the order ({waited:.1} s)"));
        Ok(())
    }

    fn agent_runs(&self) -> Result<bool> {
        match self.lab_host() {
            Some(host) => Ok(host.processes()?.iter().any(|facts| facts.name.starts_with("nemordp-agent"))),
            None => self.programs.is_running("agent"),
        }
    }

    fn start_agent(&self, config: &Path) -> Result<()> {
        let log = self.log("agent");
        match self.lab_host() {
            Some(host) => {
                let program = self.binaries.path("nemordp-agent");
                host.spawn(&program, &["run", "--config", &config.display().to_string()], &log)?;
                Ok(())
            }
            None => {
                let mut command = self.binaries.command("nemordp-agent");
                self.programs.start("agent", command.arg("run").arg("--config").arg(config), &log)
            }
        }
    }

    /// Removes the desktop of an earlier call: the node is small.
    pub(super) fn remove_earlier(&self, cli: &Cli, record: &mut Record) -> Result<()> {
        if let Some(instance) = record.instance.take() {
            self.report.line("removes the desktop of the last time");
            cli.show(&["instance", "delete", &instance, "--watch"])?;
            record.save()?;
        }
        Ok(())
    }

    /// One order, from the API to the proven login.
    pub(super) fn deliver(&self, cli: &Cli, template: &(Template, PathBuf), record: &mut Record) -> Result<Delivered> {
        record.orders += 1;
        let reference = format!("trial-{}-{}", std::process::id(), record.orders);
        let template_name = template.0.name.to_string();
        self.report
            .line("places an order through the HTTP API: accepted means capacity, port and address are reserved");
        let order = [
            "order",
            "create",
            "--plan",
            "small",
            "--template",
            &template_name,
            "--region",
            "lab",
            "--host-name",
            "desk-1",
            "--time-zone",
            "Europe/Berlin",
            "--external-reference",
            &reference,
            "--watch",
        ];
        cli.show(&order)?;
        let orders = cli.json(&["order", "list", "--external-reference", &reference])?;
        let order = items(&orders).next().cloned().unwrap_or(Value::Null);
        let instance = text(&order, "instance_id")?;
        record.instance = Some(instance.clone());
        record.save()?;
        let shown = cli.json(&["instance", "show", &instance])?;
        let endpoint = endpoint(&shown)?;
        self.report.line(&format!("login proven through {endpoint}: the order is active"));
        let screenshot = self.picture(cli, &instance)?;
        let link = text(&cli.json(&["credentials", "link", &instance])?, "url")?;
        let rdp_file = self.dir.join("out").join("desk-1.rdp");
        write(&rdp_file, "")?;
        cli.show(&["instance", "rdp-file", &instance, "--file", &rdp_file.display().to_string()])?;
        Ok(Delivered { instance, endpoint, login_name: text(&shown, "login_name")?, link, rdp_file, screenshot })
    }

    /// Logs in as the customer would, takes a picture, and has the password replaced, since it has been seen.
    fn picture(&self, cli: &Cli, instance: &str) -> Result<Option<PathBuf>> {
        if self.mode == Mode::Simulated {
            self.report.line("no picture: a simulated guest answers the login and has no desktop");
            return Ok(None);
        }
        let revealed = cli.json(&["credentials", "reveal", instance])?;
        let certificate = text(&revealed, "rdp_certificate_sha256")?;
        let target = RdpTarget {
            endpoint: endpoint(&revealed)?,
            user: text(&revealed, "login_name")?,
            password: SecretString::from(text(&revealed, "password")?),
            certificate: CertificateCheck::Sha256(certificate),
        };
        let file = self.dir.join("out").join("desktop.png");
        write(&file, "")?;
        let picture = rdp_screenshot(&target, &file, SCREENSHOT_LIMIT)?;
        self.report.line(&format!(
            "logged in with a real RDP client, picture taken after {:.1} s",
            picture.took.as_secs_f64()
        ));
        self.report.line("has the password replaced, since it was seen: ends the session, sets, proves again");
        cli.show(&["instance", "password-reset", instance, "--watch"])?;
        Ok(Some(file))
    }

    pub(super) fn say_how_to_look_around(&self, addresses: &Addresses, cli: &Cli, delivered: &Delivered) {
        let url = &cli.url;
        let nemordp = self.binaries.path("nemordp");
        self.report.line("done");
        self.report.plain("");
        self.report.plain(&format!("  endpoint       {}", delivered.endpoint));
        self.report.plain(&format!("  user           {}", delivered.login_name));
        self.report.plain(&format!("  password link  {}   (opens once)", delivered.link));
        self.report.plain(&format!("  .rdp file      {}", delivered.rdp_file.display()));
        if let Some(file) = &delivered.screenshot {
            self.report.plain(&format!("  screenshot     {}", file.display()));
        }
        self.report.plain("");
        self.report.plain(&format!("  API reference  {url}/docs"));
        self.report.plain(&format!("  metrics        http://127.0.0.1:{}/metrics", addresses.metrics));
        self.report
            .plain(&format!("  command line   export NEMORDP_URL={url} NEMORDP_KEY_FILE={}", cli.key_file.display()));
        self.report.plain(&format!("                 {} instance list", nemordp.display()));
        self.report.plain(&format!("  logs           {}", self.dir.join("logs").display()));
        self.report.plain("  stop, remove   make try-down");
    }

    fn wait_for_port(&self, name: &str, address: SocketAddr) -> Result<()> {
        let answered = poll(START_LIMIT, || Ok(TcpStream::connect(address).is_ok().then_some(())))?;
        answered.ok_or_else(|| self.late(&format!("{name} to listen at {address}"), name))
    }

    fn late(&self, what: &str, log: &str) -> TrialError {
        let hint = format!("see {}", self.log(log).display());
        TrialError::Deadline { what: what.to_owned(), seconds: START_LIMIT.as_secs(), hint }
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn endpoint(value: &Value) -> Result<SocketAddr> {
    let address = text(value, "endpoint_address")?;
    let port = value.get("endpoint_port").and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    let parsed = address.parse().ok().zip(port).map(|(ip, port)| SocketAddr::new(ip, port));
    parsed.ok_or_else(|| TrialError::Answer { what: "endpoint".to_owned(), why: format!("{address} is no address") })
}

/// A file that only its owner reads, from its first byte on.
fn write_private(file: &Path, content: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let open = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
    open.and_then(|mut opened| opened.write_all(content.as_bytes()))
        .map_err(|source| TrialError::File { path: file.to_owned(), source })
}
