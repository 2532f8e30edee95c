//! Sagas: long work as operators see it, and what can be done with one that is stuck.

use clap::Subcommand;
use nemordp_api::{OperationStatus, Saga, SagaAbandon, SagaDirection, SagaRetry};
use nemordp_types::SagaId;

use crate::client::Client;
use crate::error::Error;
use crate::output::{Output, Row, cell};

/// What can be done with sagas.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Lists them, the oldest first.
    List {
        /// Only those in this status: running, unwinding, done, unwound, cancelled, stuck.
        #[arg(long, value_parser = status)]
        status: Option<OperationStatus>,
        /// How many at most.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Shows one with its steps.
    Show {
        /// Its id.
        id: SagaId,
    },
    /// Lets a stuck one go on, once what stopped it was removed.
    Retry {
        /// Its id.
        id: SagaId,
        /// Where to: forward or back; as it was going when it stuck when absent.
        #[arg(long, value_parser = direction)]
        direction: Option<SagaDirection>,
    },
    /// Gives a stuck one up: its order has failed, or its deletion is done, and its room is sold again.
    Abandon {
        /// Its id.
        id: SagaId,
        /// That nothing of it is left on any node.
        #[arg(long, required = true)]
        cleaned_up: bool,
    },
}

fn status(word: &str) -> Result<OperationStatus, String> {
    OperationStatus::from_word(word).ok_or_else(|| one_of(OperationStatus::ALL))
}

fn direction(word: &str) -> Result<SagaDirection, String> {
    SagaDirection::from_word(word).ok_or_else(|| one_of(SagaDirection::ALL))
}

fn one_of(all: &[impl ToString]) -> String {
    let words: Vec<String> = all.iter().map(ToString::to_string).collect();
    format!("use one of {}", words.join(", "))
}

impl Action {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Error> {
        let saga: Saga = match self {
            Self::List { status, limit } => {
                let filter = [("status", status.map(|status| status.to_string()))];
                return output.rows(&client.list::<Saga>("v1/sagas", &filter, limit).await?);
            }
            Self::Show { id } => client.get(&format!("v1/sagas/{id}"), &[]).await?,
            Self::Retry { id, direction } => {
                client.post(&format!("v1/sagas/{id}/retry"), &SagaRetry { direction }).await?
            }
            Self::Abandon { id, cleaned_up } => {
                client.post(&format!("v1/sagas/{id}/abandon"), &SagaAbandon { cleaned_up }).await?
            }
        };
        output.one(&saga)
    }
}

impl Row for Saga {
    const HEADS: &'static [&'static str] = &[
        "ID", "KIND", "STATUS", "STEP", "ORDER", "INSTANCE", "LEASES", "HOLDER", "NEXT RUN", "STEPS", "CREATED",
        "CAUSE",
    ];

    fn cells(&self) -> Vec<String> {
        let operation = &self.operation;
        let steps = operation.steps.iter().map(|step| {
            let why = step.failure.as_ref().map(|fault| format!(": {}", fault.message)).unwrap_or_default();
            format!("{} {} ({} tries){why}", step.name, step.state, step.attempts)
        });
        let steps: Vec<String> = steps.collect();
        vec![
            operation.id.to_string(),
            operation.kind.to_string(),
            operation.status.to_string(),
            self.step.to_string(),
            cell(operation.order_id),
            cell(operation.instance_id),
            self.leases.to_string(),
            cell(self.lease_owner.as_ref()),
            self.next_run_at.to_string(),
            steps.join("; "),
            operation.created_at.to_string(),
            cell(operation.failure.as_ref().map(|fault| format!("{} ({})", fault.message, fault.reason))),
        ]
    }
}
