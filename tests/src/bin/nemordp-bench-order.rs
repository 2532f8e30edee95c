//! `make bench-order`: what a customer waits, beside the floor, see `nemordp_tests::bench_order`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nemordp_tests::bench_order::{Settings, run};

/// Seconds from an order to its proven login, beside guests that were started by hand.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Directory that holds everything.
    #[arg(long, default_value = ".try")]
    dir: PathBuf,
    /// Rounds; the table shows medians.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// File that the table is written to as well.
    #[arg(long)]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let failed = |error: &dyn std::fmt::Display| {
        // Nobody is left to tell when the standard error is closed.
        drop(writeln!(std::io::stderr().lock(), "error: {error}"));
        ExitCode::FAILURE
    };
    let table = match run(&Settings { dir: arguments.dir, rounds: arguments.rounds.max(1) }) {
        Ok(table) => table.to_string(),
        Err(error) => return failed(&error),
    };
    drop(write!(std::io::stdout().lock(), "{table}"));
    match arguments.out.map(|file| std::fs::write(file, table)) {
        None | Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => failed(&error),
    }
}
