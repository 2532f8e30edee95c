//! `make bench-control`: measures the control plane with simulated hosts, prints a table; see `nemordp_tests::bench_control`.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use nemordp_tests::bench_control::{Part, Plan, Table, measure};

/// What the control plane does on this machine.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where the programs lie; beside this one when absent.
    #[arg(long)]
    programs: Option<PathBuf>,
    /// Seconds of each steady load.
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Instances at rest while memory is measured.
    #[arg(long, default_value_t = 10_000)]
    instances: usize,
    /// Instances that are listed.
    #[arg(long, default_value_t = 20_000)]
    listed: usize,
    /// Agents that are connected.
    #[arg(long, default_value_t = 2_000)]
    agents: usize,
    /// Only these: orders, adoption, memory, listing, fleet.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where the table is written too.
    #[arg(long)]
    out: Option<PathBuf>,
}

fn say(text: &str) {
    // A closed output ends the showing, not the doing.
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let plan = Plan {
        programs: arguments.programs.clone(),
        seconds: arguments.seconds,
        instances: arguments.instances,
        listed: arguments.listed.max(2),
        agents: arguments.agents.max(1),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let (mut table, mut good) = (Table::default(), true);
    for part in Part::ALL.iter().copied() {
        if !arguments.only.is_empty() && !arguments.only.iter().any(|only| only == part.word()) {
            continue;
        }
        say(&format!("measures {} …", part.word()));
        if let Err(error) = runtime.block_on(measure(part, &plan, &mut table)) {
            say(&format!("{}: {error}", part.word()));
            good = false;
        }
    }
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text = format!("{processors} processors, {} s a load\n\n{table}", plan.seconds);
    say(&text);
    if let Some(out) = &arguments.out
        && let Err(error) = std::fs::write(out, &text)
    {
        say(&format!("{}: {error}", out.display()));
        good = false;
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
