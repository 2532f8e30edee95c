//! Placement offline: files replayed, or a game against a judge.

use std::path::{Path, PathBuf};

use clap::Args;
use nemordp_simulate::amounts::Amounts;
use nemordp_simulate::engine::Lifetimes;
use nemordp_simulate::fleet::Fleet;
use nemordp_simulate::strategy::{self, Strategy};
use nemordp_simulate::{picture, protocol, replay};

use crate::error::Error;
use crate::output::{Output, Row};

/// What is simulated.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Play against a judge: one event a line on standard input, one answer a line on standard output.
    #[arg(long, conflicts_with_all = ["fleet", "events", "strategy", "svg"])]
    protocol: bool,
    /// The nodes and plans, JSON.
    #[arg(long, value_name = "FILE", required_unless_present = "protocol")]
    fleet: Option<PathBuf>,
    /// What happens, one JSON object a line, sorted by time.
    #[arg(long, value_name = "FILE", required_unless_present = "protocol")]
    events: Option<PathBuf>,
    /// Who decides.
    #[arg(long, default_value = "nemordp", value_parser = clap::builder::PossibleValuesParser::new(strategy::names()))]
    strategy: String,
    /// Where a picture of load and overflow goes.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

impl Row for replay::Report {
    const HEADS: &'static [&'static str] = &[
        "orders",
        "nodes used",
        "nodes used at peak",
        "rejected",
        "rejected by reserve",
        "overflow money",
        "avoidable",
        "migrations",
        "idle vcpu/memory/disk/gpu on nodes in use",
        "decision p50",
        "decision p99",
    ];

    fn cells(&self) -> Vec<String> {
        let idle: Vec<String> = self.stranded.iter().map(|share| format!("{:.1} %", share * 100.0)).collect();
        vec![
            self.orders.to_string(),
            self.nodes_used.to_string(),
            self.nodes_used_at_peak.to_string(),
            self.rejected.to_string(),
            self.rejected_by_reserve.to_string(),
            format!("{:.2}", self.overflow_money),
            format!("{:.2}", self.avoidable_money),
            self.migrations.to_string(),
            idle.join(" / "),
            format!("{} ns", self.decision_p50_ns),
            format!("{} ns", self.decision_p99_ns),
        ]
    }
}

/// Plays or replays.
///
/// # Errors
/// Files that cannot be read, written or used, with line and reason.
pub(super) fn run(arguments: &Arguments, output: &Output) -> Result<(), Error> {
    let (Some(fleet), Some(events)) = (&arguments.fleet, &arguments.events) else {
        let played = protocol::play(std::io::stdin().lock(), std::io::stdout().lock());
        return played.map_err(|error| Error::Usage(error.to_string()));
    };
    let unusable = |error: replay::ReplayError| Error::Usage(error.to_string());
    let fleet = replay::read_fleet(&read(fleet)?).map_err(unusable)?;
    let choose = |fleet: &Fleet, plans: &[(Amounts, f64)], lifetimes: Lifetimes| -> Box<dyn Strategy> {
        let named = strategy::by_name(&arguments.strategy, fleet, plans, lifetimes);
        // The command line takes known names only.
        named.unwrap_or_else(|| Box::new(nemordp_simulate::engine::Engine::new(fleet, plans, lifetimes)))
    };
    let report = replay::replay(&fleet, &read(events)?, &choose).map_err(unusable)?;
    if let Some(path) = &arguments.svg {
        std::fs::write(path, picture::svg(&report.curve)).map_err(|error| file(path, &error))?;
    }
    output.one(&report)
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| file(path, &error))
}

fn file(path: &Path, error: &std::io::Error) -> Error {
    Error::File { path: path.display().to_string(), why: error.to_string() }
}
