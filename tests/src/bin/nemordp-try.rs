//! `make try`: the product at work on this machine, see `nemordp_tests::trial`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use nemordp_tests::trial::{Mode, Trial, TrialError};

/// One order, from the HTTP API to a proven login, on this machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Directory that holds everything.
    #[arg(long, global = true, default_value = ".try")]
    dir: PathBuf,
    /// Without hypervisor and rights: simulated guests on loopback.
    #[arg(long, global = true)]
    sim: bool,
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start what does not run, and deliver a desktop.
    Up,
    /// Remove everything, and say what is left.
    Down,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when the standard error is closed.
            drop(writeln!(std::io::stderr().lock(), "error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), TrialError> {
    let mode = if arguments.sim { Mode::Simulated } else { Mode::Real };
    let trial = Trial::new(&arguments.dir, mode)?;
    match arguments.command {
        Action::Up => trial.up().map(drop),
        Action::Down => trial.down(),
    }
}
