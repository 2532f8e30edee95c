//! The operator's command line: a client of the HTTP API, with tables, JSON, progress, and exit codes for scripts.
//!
//! Map: [`client`] HTTP · [`command`] one noun a file · [`output`] tables and JSON · [`watch`] progress of an operation ·
//! [`error`] what can go wrong, and the exit code of each.

pub mod client;
pub mod command;
pub mod error;
pub mod output;
pub mod watch;

use clap::Parser;

use crate::client::{Client, Connection};
use crate::command::Command;
use crate::error::Error;
use crate::output::Output;

/// NemoRDP from the operator's desk.
///
/// Exit codes: 0 done · 2 wrong usage · 3 refused · 4 not found · 5 conflict or no capacity · 6 the operation failed, or an audit found something ·
/// 7 control plane not reachable, or an error inside it.
#[derive(Debug, Parser)]
#[command(name = "nemordp", version)]
pub struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// How answers are printed.
    #[arg(long, short, global = true, value_enum, default_value_t, env = "NEMORDP_OUTPUT")]
    output: output::Format,
    #[command(subcommand)]
    command: Command,
}

/// Runs one command.
///
/// # Errors
/// Whatever the API or the way there says, with its exit code.
pub async fn run(arguments: Arguments) -> Result<(), Error> {
    let client = Client::new(&arguments.connection)?;
    let output = Output::new(arguments.output);
    arguments.command.run(&client, &output).await
}
