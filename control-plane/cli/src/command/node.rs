//! Nodes, and the tickets that let them in.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nemordp_api::{
    CreatedTicket, FenceNode, HeldBack, LabelNode, NewTicket, Node, NodeGpus, NodeTemplateState, Overcommit, PinNode,
};
use nemordp_types::{GiB, MiB, NodeId, RegionName, Vcpu};

use crate::client::Client;
use crate::error::Error;
use crate::output::{Output, Row, cell, list};

/// What can be done with nodes.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Lists them.
    List,
    /// Shows one.
    Show {
        /// Its id.
        id: NodeId,
    },
    /// Makes a one-use ticket for a machine that shall become a node.
    Ticket(NewNode),
    /// No new instances on it; those it has stay.
    Cordon {
        /// Its id.
        id: NodeId,
    },
    /// New instances again.
    Uncordon {
        /// Its id.
        id: NodeId,
    },
    /// Gives it labels and takes some away; plans may ask for them.
    Label {
        /// Its id.
        id: NodeId,
        /// A label to give. May be given again.
        #[arg(long, value_name = "LABEL", required_unless_present = "remove")]
        add: Vec<String>,
        /// A label to take away. May be given again.
        #[arg(long, value_name = "LABEL")]
        remove: Vec<String>,
    },
    /// Holds back amounts that new instances do not get, so that maintenance has room; replaces what was held back before.
    HoldBack {
        /// Its id.
        id: NodeId,
        /// Processors, of those that are sold.
        #[arg(long, default_value_t = 0)]
        vcpu: u32,
        /// Memory.
        #[arg(long, default_value_t = 0)]
        memory_mib: u64,
        /// Disk of each storage pool.
        #[arg(long, default_value_t = 0)]
        disk_gib: u64,
    },
    /// Keeps it for one tenant: no new instances of others.
    Pin {
        /// Its id.
        id: NodeId,
        /// The tenant's name.
        #[arg(long)]
        tenant: String,
    },
    /// Everybody's instances again.
    Unpin {
        /// Its id.
        id: NodeId,
    },
    /// States that a lost node is off, so that what it held may be built elsewhere.
    Fence {
        /// Its id.
        id: NodeId,
        /// The machine is off, and you have made sure that it stays off.
        #[arg(long, required = true)]
        confirmed_off: bool,
    },
    /// Lets a fenced node work again; what was moved away from it stays away.
    Unfence {
        /// Its id.
        id: NodeId,
    },
    /// Refuses the node's certificate from now on; it comes back with a ticket for its id.
    Revoke {
        /// Its id.
        id: NodeId,
    },
}

/// A ticket's terms.
#[derive(Debug, Args)]
pub struct NewNode {
    /// Where the machine stands.
    #[arg(long)]
    region: RegionName,
    /// Only for this node, whose certificate expired.
    #[arg(long)]
    node: Option<NodeId>,
    /// How long it is good.
    #[arg(long)]
    lifetime_minutes: Option<u32>,
    /// Processors sold per hundred that exist; with memory_percent.
    #[arg(long, requires = "memory_percent")]
    vcpu_percent: Option<u32>,
    /// Memory sold per hundred that exist; with vcpu_percent.
    #[arg(long, requires = "vcpu_percent")]
    memory_percent: Option<u32>,
    /// Write the ticket into this file, readable by its owner only, instead of printing it.
    #[arg(long)]
    file: Option<PathBuf>,
}

impl Action {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::List => output.rows(&client.list::<Node>("v1/nodes", &[], usize::MAX).await?),
            Self::Show { id } => output.one(&client.get::<Node>(&format!("v1/nodes/{id}"), &[]).await?),
            Self::Ticket(terms) => terms.run(client, output).await,
            Self::Cordon { id } => output.one(&client.post_empty::<Node>(&format!("v1/nodes/{id}/cordon")).await?),
            Self::Label { id, add, remove } => {
                output.one(&client.post::<Node>(&format!("v1/nodes/{id}/labels"), &LabelNode { add, remove }).await?)
            }
            Self::HoldBack { id, vcpu, memory_mib, disk_gib } => {
                let amounts = HeldBack { vcpu: Vcpu(vcpu), memory_mib: MiB(memory_mib), disk_gib: GiB(disk_gib) };
                output.one(&client.post::<Node>(&format!("v1/nodes/{id}/held-back"), &amounts).await?)
            }
            Self::Pin { id, tenant } => {
                output.one(&client.post::<Node>(&format!("v1/nodes/{id}/pin"), &PinNode { tenant }).await?)
            }
            Self::Unpin { id } => output.one(&client.post_empty::<Node>(&format!("v1/nodes/{id}/unpin")).await?),
            Self::Fence { id, confirmed_off } => {
                output.one(&client.post::<Node>(&format!("v1/nodes/{id}/fence"), &FenceNode { confirmed_off }).await?)
            }
            Self::Unfence { id } => output.one(&client.post_empty::<Node>(&format!("v1/nodes/{id}/unfence")).await?),
            Self::Revoke { id } => output.one(&client.post_empty::<Node>(&format!("v1/nodes/{id}/revoke")).await?),
            Self::Uncordon { id } => output.one(&client.post_empty::<Node>(&format!("v1/nodes/{id}/uncordon")).await?),
        }
    }
}

impl NewNode {
    async fn run(self, client: &Client, output: &Output) -> Result<(), Error> {
        let overcommit = match (self.vcpu_percent, self.memory_percent) {
            (Some(vcpu_percent), Some(memory_percent)) => Some(Overcommit { vcpu_percent, memory_percent }),
            (None, _) | (_, None) => None,
        };
        let request =
            NewTicket { region: self.region, overcommit, node_id: self.node, lifetime_minutes: self.lifetime_minutes };
        let created: CreatedTicket = client.post("v1/nodes/tickets", &request).await?;
        let text = created.text.clone().ok_or_else(|| {
            Error::Usage(
                "this ticket was made before under the same idempotency key; its text was shown then".to_owned(),
            )
        })?;
        match self.file {
            None => output.text(&text, &created),
            Some(file) => write_private(&file, &text),
        }
    }
}

/// A file that only its owner reads, from its first byte on.
fn write_private(file: &std::path::Path, text: &str) -> Result<(), Error> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let open = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
    open.and_then(|mut opened| writeln!(opened, "{text}"))
        .map_err(|error| Error::File { path: file.display().to_string(), why: error.to_string() })
}

/// How many of a node's templates are usable, and what is on its way.
fn templates(node: &Node) -> String {
    let count = |state| node.templates.iter().filter(|template| template.state == state).count();
    let ready = count(NodeTemplateState::Ready);
    [(NodeTemplateState::Fetching, "fetching"), (NodeTemplateState::Failed, "failed")]
        .into_iter()
        .map(|(state, word)| (count(state), word))
        .filter(|(count, _)| *count > 0)
        .fold(format!("{ready} ready"), |text, (count, word)| format!("{text}, {count} {word}"))
}

/// Reserved of all, by model.
fn gpus(node: &Node) -> String {
    let of = |gpus: &NodeGpus| format!("{}/{} {}", gpus.reserved, gpus.count, gpus.model);
    list(&node.gpus.iter().map(of).collect::<Vec<_>>())
}

impl Row for Node {
    const HEADS: &'static [&'static str] = &[
        "ID",
        "NAME",
        "REGION",
        "POLICY",
        "AVAILABILITY",
        "VCPU",
        "MEMORY",
        "GPUS",
        "HELD BACK",
        "AGENT",
        "RUNS ON",
        "TEMPLATES",
        "LABELS",
        "KEPT FOR",
        "HEARTBEAT",
        "CORDONED BECAUSE",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.name.clone(),
            self.region.to_string(),
            self.policy.to_string(),
            self.availability.to_string(),
            format!("{}/{}", self.vcpu_reserved.0, self.vcpu.0),
            format!("{}/{} MiB", self.memory_reserved_mib.0, self.memory_mib.0),
            gpus(self),
            cell(self.held_back.map(|held| format!("{}, {}, {}", held.vcpu, held.memory_mib, held.disk_gib))),
            self.agent_address.clone(),
            format!("{} {}", self.hypervisor, self.acceleration),
            templates(self),
            list(&self.labels),
            cell(self.pinned_to.as_ref().map(|pin| &pin.tenant)),
            cell(self.last_heartbeat_at),
            match self.doubled_at {
                Some(since) => format!("two agents speak for it since {since}"),
                None => cell(self.policy_reason.as_ref()),
            },
        ]
    }
}
