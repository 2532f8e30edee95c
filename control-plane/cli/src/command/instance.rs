//! Instances.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use nemordp_api::{
    AdoptionHow, Instance, InstanceUsage, NewAdoption, NewSuspension, Operation, PaidUntil, ReinstallInstance,
    RenameInstance, ResizeInstance, Suspension,
};
use nemordp_types::{GiB, HostName, InstanceId, MiB, TemplateName, Vcpu};
use serde::Serialize;

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
    /// Notes until when it is paid for: a renewal. Nothing is switched off then.
    PaidUntil {
        /// Its id.
        id: InstanceId,
        /// When, like 2027-01-31T00:00:00Z.
        #[arg(required_unless_present = "unknown")]
        at: Option<jiff::Timestamp>,
        /// Nobody knows any more.
        #[arg(long, conflicts_with = "at")]
        unknown: bool,
    },
    /// Boots it.
    Start(Target),
    /// Shuts it down.
    Stop(Target),
    /// Reboots it.
    Restart(Target),
    /// Ends the user's sessions and sets a new password, which is proven and revealed once.
    PasswordReset(Target),
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
    /// Cuts its power and boots it.
    Reset(Target),
    /// Gives the guest another host name.
    Rename {
        /// Which.
        #[command(flatten)]
        target: Target,
        /// The name.
        #[arg(long)]
        host_name: HostName,
    },
    /// Gives it more processors, memory or disk, on the node that it is on; it is shut down and booted for that.
    Resize {
        /// Which.
        #[command(flatten)]
        target: Target,
        /// To which size.
        #[command(flatten)]
        size: Size,
    },
    /// Begins anew on a fresh disk, with the same endpoint; everything on the disk is lost.
    Reinstall {
        /// Which.
        #[command(flatten)]
        target: Target,
        /// From what; the template that it was made from when absent.
        #[arg(long)]
        template: Option<TemplateName>,
    },
    /// Boots a rescue system that sees its disk as a second one.
    Rescue(Target),
    /// Boots from its own disk again.
    Unrescue(Target),
    /// Takes it off the network and off power, and keeps it.
    Suspend(Target),
    /// Ends a suspension.
    Unsuspend(Target),
    /// Takes back a deletion whose time of grace is not over.
    Restore(Target),
    /// Removes it with its disk.
    Delete {
        /// Which.
        #[command(flatten)]
        target: Target,
        /// Seconds that it is kept, off and restorable; 0: it goes at once. The installation's setting when absent.
        #[arg(long)]
        grace_seconds: Option<u64>,
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

/// A size; at least one of the amounts.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct Size {
    /// Processors.
    #[arg(long)]
    vcpu: Option<u32>,
    /// Memory, MiB.
    #[arg(long)]
    memory_mib: Option<u64>,
    /// Disk, GiB.
    #[arg(long)]
    disk_gib: Option<u64>,
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
            Self::PaidUntil { id, at, unknown: _ } => {
                let path = format!("v1/instances/{id}/paid-until");
                output.one(&client.post::<Instance>(&path, &PaidUntil { paid_until: at }).await?)
            }
            Self::Start(target) => target.post(client, output, "start").await,
            Self::Stop(target) => target.post(client, output, "stop").await,
            Self::Restart(target) => target.post(client, output, "restart").await,
            Self::PasswordReset(target) => target.post(client, output, "password-reset").await,
            Self::Reset(target) => target.post(client, output, "reset").await,
            Self::Rename { target, host_name } => {
                target.post_body(client, output, "rename", &RenameInstance { host_name }).await
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
            Self::Resize { target, size } => {
                let (vcpu, memory_mib) = (size.vcpu.map(Vcpu), size.memory_mib.map(MiB));
                let body = ResizeInstance { vcpu, memory_mib, disk_gib: size.disk_gib.map(GiB) };
                target.post_body(client, output, "resize", &body).await
            }
            Self::Reinstall { target, template } => {
                target.post_body(client, output, "reinstall", &ReinstallInstance { template }).await
            }
            Self::Rescue(target) => target.post(client, output, "rescue").await,
            Self::Unrescue(target) => target.post(client, output, "unrescue").await,
            Self::Suspend(target) => target.post(client, output, "suspend").await,
            Self::Unsuspend(target) => target.post(client, output, "unsuspend").await,
            Self::Restore(target) => target.post(client, output, "restore").await,
            Self::Delete { target, grace_seconds } => target.delete(client, output, grace_seconds).await,
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

impl Target {
    async fn post_body(
        self,
        client: &Client,
        output: &Output,
        action: &str,
        body: &(impl Serialize + Sync),
    ) -> Result<(), Error> {
        let operation: Operation = client.post(&format!("v1/instances/{}/{action}", self.id), body).await?;
        accepted(client, output, operation, self.watch).await
    }

    async fn delete(self, client: &Client, output: &Output, grace_seconds: Option<u64>) -> Result<(), Error> {
        let query = grace_seconds.map(|seconds| format!("?grace_seconds={seconds}")).unwrap_or_default();
        let operation: Operation = client.delete(&format!("v1/instances/{}{query}", self.id)).await?;
        accepted(client, output, operation, self.watch).await
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
        "PAID UNTIL",
        "CREATED",
    ];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            lifecycle(self),
            cell(self.frozen),
            self.power.to_string(),
            format!("{}:{}", self.endpoint_address, self.endpoint_port),
            self.login_name.to_string(),
            self.host_name.to_string(),
            size(self),
            self.template.to_string(),
            cell(self.node_id),
            self.order_id.to_string(),
            cell(self.paid_until),
            self.created_at.to_string(),
        ]
    }
}

/// What it takes of its node.
fn size(instance: &Instance) -> String {
    let gpus = instance.gpus.as_ref().map(|gpus| format!(", {}", super::plan::gpus(gpus))).unwrap_or_default();
    format!("{}, {}, {}{gpus}", instance.vcpu, instance.memory_mib, instance.disk_gib)
}

/// Where it is in its life, and what holds it back.
fn lifecycle(instance: &Instance) -> String {
    let mut words = vec![instance.lifecycle.to_string()];
    words.extend(instance.suspended_at.map(|_| "suspended".to_owned()));
    words.extend(instance.rescued.then(|| "rescued".to_owned()));
    words.extend(instance.delete_after.map(|at| format!("to be deleted at {at}")));
    words.join(", ")
}
