//! One noun a file.

mod audit;
mod availability;
mod capacity;
mod credentials;
mod instance;
mod node;
mod operation;
mod order;
mod placement;
mod plan;
mod reconciler;
mod reserve;
mod saga;
mod simulate;
mod template;
mod tenant;

use clap::Subcommand;
use nemordp_api::Operation;

use crate::client::Client;
use crate::error::Error;
use crate::output::Output;
use crate::watch;

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What a customer bought.
    #[command(subcommand)]
    Order(order::Action),
    /// The customers' desktops.
    #[command(subcommand)]
    Instance(instance::Action),
    /// Machines that run the agent.
    #[command(subcommand)]
    Node(node::Action),
    /// Whose customers there are.
    #[command(subcommand)]
    Tenant(tenant::Action),
    /// Golden disks.
    #[command(subcommand)]
    Template(template::Action),
    /// What is sold.
    #[command(subcommand)]
    Plan(plan::Action),
    /// Room that is held for scarce plans.
    #[command(subcommand)]
    Reserve(reserve::Action),
    /// Passwords, shown once.
    #[command(subcommand)]
    Credentials(credentials::Action),
    /// Long work and its steps.
    #[command(subcommand)]
    Operation(operation::Action),
    /// Long work as operators see it; what is stuck goes on or is given up.
    #[command(subcommand)]
    Saga(saga::Action),
    /// What can be had where, now.
    Availability,
    /// How many more of each plan each region takes.
    Capacity,
    /// Where an order would go, and how many more would fit, with nodes or plans added or removed.
    WhatIf(placement::Question),
    /// Replay orders against a fleet file; needs no control plane.
    Simulate(simulate::Arguments),
    /// What keeps the long-lived truth.
    #[command(subcommand)]
    Reconciler(reconciler::Action),
    /// Compares orders, what is held for them and what nodes run; fails when something does not fit.
    Audit,
}

impl Command {
    /// Does it.
    ///
    /// # Errors
    /// Whatever the API or the way there says.
    pub async fn run(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::Order(action) => action.run(client, output).await,
            Self::Instance(action) => action.run(client, output).await,
            Self::Node(action) => action.run(client, output).await,
            Self::Tenant(action) => action.run(client, output).await,
            Self::Template(action) => action.run(client, output).await,
            Self::Plan(action) => action.run(client, output).await,
            Self::Reserve(action) => action.run(client, output).await,
            Self::Credentials(action) => action.run(client, output).await,
            Self::Operation(action) => action.run(client, output).await,
            Self::Saga(action) => action.run(client, output).await,
            Self::Availability => availability::run(client, output).await,
            Self::Capacity => capacity::run(client, output).await,
            Self::WhatIf(question) => question.ask(client, output).await,
            Self::Simulate(arguments) => simulate::run(&arguments, output),
            Self::Reconciler(action) => action.run(client, output).await,
            Self::Audit => audit::run(client, output).await,
        }
    }
}

/// Prints an accepted operation, or follows it to its end first.
async fn accepted(client: &Client, output: &Output, operation: Operation, watch: bool) -> Result<(), Error> {
    let operation = if watch { watch::until_done(client, output, &operation.id.to_string()).await? } else { operation };
    output.one(&operation)
}
