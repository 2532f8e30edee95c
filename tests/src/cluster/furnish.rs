//! From nothing to a fleet with something to sell.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpStream;

use super::{Cluster, Link, Node, Program, Result, config, io, until, unusable};

const START_LIMIT: Duration = Duration::from_secs(60);
/// What stands for a disk where nothing boots.
const DISK: &[u8] = b"no disk: the simulated hypervisor boots nothing";

impl Cluster {
    pub(super) async fn furnish(&mut self) -> Result<()> {
        self.configure()?;
        self.initialise()?;
        self.start_replicas().await?;
        self.catalogue().await?;
        for number in 0..self.shape.nodes {
            self.enroll(number).await?;
        }
        let wanted = usize::from(self.shape.nodes);
        until("all nodes to be available", START_LIMIT, || async {
            let nodes = self.api.list("/v1/nodes").await?;
            let available = nodes.iter().filter(|node| node.get("availability") == Some(&json!("available")));
            Ok((available.count() == wanted).then_some(()))
        })
        .await
    }

    /// All replicas share one data folder, as they share one CA and one sealing key.
    fn configure(&mut self) -> Result<()> {
        let data = self.dir.path().join("control-plane");
        std::fs::create_dir_all(&data).map_err(io(data.display()))?;
        for index in 0..self.shape.replicas {
            let (http, grpc, metrics) = (self.block.http(index), self.block.grpc(index), self.block.metrics(index));
            let text = config::replica(&self.shape, &data, &self.store_url, http, grpc, metrics);
            let file = self.dir.path().join(format!("replica-{index}.toml"));
            std::fs::write(&file, text).map_err(io(file.display()))?;
            let name = format!("replica-{index}");
            let arguments =
                ["serve", "--config"].map(ToOwned::to_owned).into_iter().chain([file.display().to_string()]);
            let log = self.dir.path().join(format!("{name}.log"));
            let path = self.binaries.path("nemordp-control-plane");
            self.replicas.push(Program::new(&name, path, arguments.collect(), &log));
        }
        Ok(())
    }

    fn initialise(&self) -> Result<()> {
        let config = self.dir.path().join("replica-0.toml");
        let run = |arguments: &[&str]| {
            let mut command = self.binaries.command("nemordp-control-plane");
            let output = command.args(arguments).arg("--config").arg(&config).output().map_err(io("control plane"))?;
            if output.status.success() {
                return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
            }
            Err(unusable(arguments.join(" "), String::from_utf8_lossy(&output.stderr)))
        };
        run(&["init"])?;
        self.api.use_key(run(&["key", "create", "--name", "cluster", "--scopes", "orders,read,operate,admin"])?);
        Ok(())
    }

    pub(super) async fn wait_for_port(&self, address: SocketAddr) -> Result<()> {
        until(&format!("{address} to be served"), START_LIMIT, || async move {
            Ok(TcpStream::connect(address).await.is_ok().then_some(()))
        })
        .await
    }

    async fn catalogue(&self) -> Result<()> {
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(DISK)));
        self.api.upload(&format!("/v1/templates/{digest}/file"), DISK.to_vec()).await?;
        let template = json!({
            "name": "sim-desktop", "digest": digest, "file_size_bytes": DISK.len(), "virtual_size_bytes": 1 << 30,
            "rdp_security": "nla", "personalisation": "guest_agent", "login_name": "user",
        });
        self.api.post("/v1/templates", &template).await?;
        for (name, vcpu) in [("basic", 2), ("large", 4)] {
            let plan = json!({
                "name": name, "vcpu": vcpu, "memory_mib": vcpu * 2_048, "disk_gib": vcpu * 25, "storage_class": "nvme",
            });
            self.api.post("/v1/plans", &plan).await?;
        }
        Ok(())
    }

    async fn enroll(&mut self, number: u8) -> Result<()> {
        let dir = self.dir.path().join(format!("node-{number}"));
        std::fs::create_dir_all(&dir).map_err(io(dir.display()))?;
        let ticket = self.api.post("/v1/nodes/tickets", &json!({ "region": "lab" })).await?.text("text")?;
        let ticket_file = dir.join("ticket");
        std::fs::write(&ticket_file, ticket).map_err(io(ticket_file.display()))?;
        let (listen, advertise, uplink) =
            (self.block.agent(number), self.block.downlink(number), self.block.uplink(number));
        let replicas = (0..self.shape.replicas).map(|index| self.block.grpc(index)).collect();
        let file = dir.join("agent.toml");
        let text = config::node(&self.shape, number, &dir, uplink, listen, advertise);
        std::fs::write(&file, text).map_err(io(file.display()))?;
        let arguments = vec!["run".to_owned(), "--config".to_owned(), file.display().to_string()];
        let path = self.binaries.path("nemordp-agent");
        let mut agent = Program::new(&format!("node-{number}"), path, arguments, &dir.join("agent.log"));
        agent.start_if_gone()?;
        self.nodes.push(Node {
            name: format!("node-{number}"),
            agent,
            downlink: Link::open(advertise, vec![listen]).await?,
            uplink: Link::open(uplink, replicas).await?,
            dir,
        });
        Ok(())
    }

    /// The id of a node, without dashes.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn node_id(&self, name: &str) -> Result<String> {
        let nodes = self.api.list("/v1/nodes").await?;
        let found = nodes.iter().find(|node| node.get("name").and_then(Value::as_str) == Some(name));
        let id = found.and_then(|node| node.get("id")).and_then(Value::as_str);
        id.map(super::node::plain).ok_or_else(|| unusable(name, "no such node"))
    }
}
