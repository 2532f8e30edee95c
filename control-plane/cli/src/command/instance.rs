//! Instances.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nemordp_api::{AdoptionHow, Instance, InstanceUsage, NewAdoption, NewSuspension, Operation, Suspension};
use nemordp_types::InstanceId;

use crate::client::Client;
use crate::command::accepted;
use crate::error::Error;
use crate::output::{Output, Row, cell};

/// What can be done with instances.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Lists them, the oldest first.
    List {
        /// How many at most.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Shows one.
    Show {
        /// Its id.
        id: InstanceId,
    },
    /// Shows what it used: network, time.
    Usage {
        /// Its id.
        id: InstanceId,
    },
    /// Has it suspended at a time, even when the control plane cannot be reached then.
    SuspendAt {
        /// Its id.
        id: InstanceId,
        /// When, like 2026-12-24T18:00:00Z.
        at: jiff::Timestamp,
    },
    /// Takes back what was scheduled.
    SuspendNever {
        /// Its id.
        id: InstanceId,
    },
    /// Boots it.
    Start(Target),
    /// Shuts it down.
    Stop(Target),
    /// Reboots it.
    Restart(Target),
    /// Ends the user's sessions and sets a new password, which is proven and revealed once.
    PasswordReset(Target),
    /// Removes it with its disk, for good.
    Delete(Target),
    /// Settles one that was frozen after a restore: it is taken as its node has it, unless told otherwise.
    Adopt {
        /// Its id.
        id: InstanceId,
        /// The customer has it already: its order is fulfilled.
        #[arg(long, group = "how")]
        delivered: bool,
        /// What was under way goes on; an order may be undone by that.
        #[arg(long, group = "how")]
        resume: bool,
        /// It does not exist any more: what it held is given back.
        #[arg(long, group = "how")]
        gone: bool,
    },
    /// Writes the `.rdp` file that opens it.
    RdpFile {
        /// Its id.
        id: InstanceId,
        /// Where to; the standard output when absent.
        #[arg(long)]
        file: Option<PathBuf>,
    },
}

/// Which instance, and whether to wait.
#[derive(Debug, Args)]
pub struct Target {
    /// Its id.
    id: InstanceId,
    /// Show the steps until it is done.
    #[arg(long)]
    watch: bool,
}

impl Action {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::List { limit } => output.rows(&client.list::<Instance>("v1/instances", &[], limit).await?),
            Self::Show { id } => output.one(&client.get::<Instance>(&format!("v1/instances/{id}"), &[]).await?),
            Self::Usage { id } => {
                output.one(&client.get::<InstanceUsage>(&format!("v1/instances/{id}/usage"), &[]).await?)
            }
            Self::SuspendAt { id, at } => {
                let path = format!("v1/instances/{id}/suspension");
                output.one(&client.post::<Suspension>(&path, &NewSuspension { at }).await?)
            }
            Self::SuspendNever { id } => client.delete::<()>(&format!("v1/instances/{id}/suspension")).await,
            Self::Start(target) => target.post(client, output, "start").await,
            Self::Stop(target) => target.post(client, output, "stop").await,
            Self::Restart(target) => target.post(client, output, "restart").await,
            Self::PasswordReset(target) => target.post(client, output, "password-reset").await,
            Self::Delete(target) => {
                let operation: Operation = client.delete(&format!("v1/instances/{}", target.id)).await?;
                accepted(client, output, operation, target.watch).await
            }
            Self::Adopt { id, delivered, resume, gone } => {
                let how = match (delivered, resume, gone) {
                    (true, _, _) => AdoptionHow::Delivered,
                    (_, true, _) => AdoptionHow::Resume,
                    (_, _, true) => AdoptionHow::Gone,
                    (false, false, false) => AdoptionHow::Keep,
                };
                let adopted: Instance = client.post(&format!("v1/instances/{id}/adopt"), &NewAdoption { how }).await?;
                output.one(&adopted)
            }
            Self::RdpFile { id, file } => {
                let text = client.get_text(&format!("v1/instances/{id}/rdp-file")).await?;
                match file {
                    None => output.text(&text, &text),
                    Some(file) => std::fs::write(&file, text)
                        .map_err(|error| Error::File { path: file.display().to_string(), why: error.to_string() }),
                }
            }
        }
    }
}

impl Target {
    async fn post(self, client: &Client, output: &Output, action: &str) -> Result<(), Error> {
        let operation: Operation = client.post_empty(&format!("v1/instances/{}/{action}", self.id)).await?;
        accepted(client, output, operation, self.watch).await
    }
}

impl Row for Suspension {
    const HEADS: &'static [&'static str] = &["INSTANCE", "SUSPENDED AT", "STATE"];

    fn cells(&self) -> Vec<String> {
        vec![self.instance_id.to_string(), self.at.to_string(), self.state.to_string()]
    }
}

impl Row for InstanceUsage {
    const HEADS: &'static [&'static str] = &["RECEIVED", "SENT", "RAN", "UNTIL"];

    fn cells(&self) -> Vec<String> {
        vec![
            format!("{} B", self.received_bytes),
            format!("{} B", self.sent_bytes),
            format!("{} s", self.running_seconds),
            cell(self.until),
        ]
    }
}

impl Row for Instance {
    const HEADS: &'static [&'static str] = &[
        "ID",
        "LIFECYCLE",
        "FROZEN",
        "POWER",
        "ENDPOINT",
        "LOGIN",
        "HOST NAME",
        "SIZE",
        "TEMPLATE",
        "NODE",
        "ORDER",
        "CREATED",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.lifecycle.to_string(),
            cell(self.frozen),
            self.power.to_string(),
            format!("{}:{}", self.endpoint_address, self.endpoint_port),
            self.login_name.to_string(),
            self.host_name.to_string(),
            format!("{}, {}, {}", self.vcpu, self.memory_mib, self.disk_gib),
            self.template.to_string(),
            cell(self.node_id),
            self.order_id.to_string(),
            self.created_at.to_string(),
        ]
    }
}
