//! Plans.

use clap::Subcommand;
use nemordp_api::{Gpus, NewPlan, Plan};
use nemordp_types::{GiB, GpuModel, MiB, PlanName, StorageClass, Vcpu};

use crate::client::Client;
use crate::error::Error;
use crate::output::{Output, Row, cell, list};

/// What can be done with plans.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Creates a plan, or changes one of this name for later orders.
    Put {
        /// Its name, like basic.
        name: PlanName,
        /// Processors.
        #[arg(long)]
        vcpu: u32,
        /// Memory.
        #[arg(long)]
        memory_mib: u64,
        /// Disk.
        #[arg(long)]
        disk_gib: u64,
        /// On which storage.
        #[arg(long)]
        storage_class: StorageClass,
        /// GPUs.
        #[arg(long, value_name = "COUNT")]
        gpus: Option<u32>,
        /// Of which model, like rtx4000; of any one model without.
        #[arg(long, value_name = "MODEL", requires = "gpus")]
        gpu_model: Option<GpuModel>,
        /// A label that a node must have to take it. May be given again; without any, any node will do.
        #[arg(long = "label", value_name = "LABEL")]
        labels: Vec<String>,
        /// Take it off sale.
        #[arg(long)]
        withdraw: bool,
    },
    /// Lists them.
    List,
}

impl Action {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::Put { name, vcpu, memory_mib, disk_gib, storage_class, gpus, gpu_model, labels, withdraw } => {
                let request = NewPlan {
                    name,
                    vcpu: Vcpu(vcpu),
                    memory_mib: MiB(memory_mib),
                    disk_gib: GiB(disk_gib),
                    storage_class,
                    gpus: gpus.map(|count| Gpus { count, model: gpu_model }),
                    labels,
                    on_sale: !withdraw,
                };
                output.one(&client.post::<Plan>("v1/plans", &request).await?)
            }
            Self::List => output.rows(&client.list::<Plan>("v1/plans", &[], usize::MAX).await?),
        }
    }
}

impl Row for Plan {
    const HEADS: &'static [&'static str] = &["NAME", "VCPU", "MEMORY", "DISK", "STORAGE", "GPUS", "LABELS", "ON SALE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.to_string(),
            self.vcpu.to_string(),
            self.memory_mib.to_string(),
            self.disk_gib.to_string(),
            self.storage_class.to_string(),
            cell(self.gpus.as_ref().map(gpus)),
            list(&self.labels),
            if self.on_sale { "yes" } else { "no" }.to_owned(),
        ]
    }
}

/// How many, and of which model.
pub(super) fn gpus(gpus: &Gpus) -> String {
    match &gpus.model {
        Some(model) => format!("{} {model}", gpus.count),
        None => format!("{} of any model", gpus.count),
    }
}
