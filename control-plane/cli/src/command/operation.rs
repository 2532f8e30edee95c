//! Operations: long work and its steps.

use clap::Subcommand;
use nemordp_api::Operation;
use nemordp_types::SagaId;

use crate::client::Client;
use crate::error::Error;
use crate::output::{Output, Row, cell};
use crate::watch;

/// What can be done with operations.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Shows one.
    Show {
        /// Its id.
        id: SagaId,
    },
    /// Follows one to its end.
    Watch {
        /// Its id.
        id: SagaId,
    },
}

impl Action {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Error> {
        let operation: Operation = match self {
            Self::Show { id } => client.get(&format!("v1/operations/{id}"), &[]).await?,
            Self::Watch { id } => watch::until_done(client, output, &id.to_string()).await?,
        };
        output.one(&operation)
    }
}

impl Row for Operation {
    const HEADS: &'static [&'static str] =
        &["ID", "KIND", "STATUS", "ORDER", "INSTANCE", "STEPS", "CREATED", "FINISHED", "CAUSE"];

    fn cells(&self) -> Vec<String> {
        let steps: Vec<String> = self.steps.iter().map(|step| format!("{} {}", step.name, step.state)).collect();
        vec![
            self.id.to_string(),
            self.kind.to_string(),
            self.status.to_string(),
            cell(self.order_id),
            cell(self.instance_id),
            steps.join(", "),
            self.created_at.to_string(),
            cell(self.finished_at),
            cell(self.failure.as_ref().map(|fault| format!("{} ({})", fault.message, fault.reason))),
        ]
    }
}
