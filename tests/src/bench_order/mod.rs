//! How long a customer waits, and what of it is ours: orders through the product beside guests started by hand.
//!
//! Each round takes, in an order that changes from round to round, one order, the bare floor of one, one `virt-clone`,
//! four orders at once and the floor of four at once. All are measured to the same proof of the same template on the
//! same machine, on two lab hosts that differ in nothing but the agent.

mod bare;
mod clone;
mod guest;
mod libvirt;
mod order;
mod proof;
mod resident;
mod sample;
mod table;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::lab::{Host, HostNumber, Lab, Snapshot};
use crate::trial::{Binaries, Cli, Mode, Record, Result, Trial, TrialError};
use bare::BareHost;
pub use resident::{Agent, Machine};
pub use sample::{Batch, Kind, Sample};
pub use table::Table;

/// Guests that are started at once in the measurements of many.
pub const AT_ONCE: usize = 4;

/// What is measured, and how often.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Directory that holds everything; a template that was built in it before is used.
    pub dir: PathBuf,
    /// Rounds; the table shows their median.
    pub rounds: usize,
}

/// Starts the installation, measures, removes it, and gives the table.
pub fn run(settings: &Settings) -> Result<Table> {
    let before = Snapshot::take()?;
    let trial = Trial::new(&settings.dir, Mode::Real)?;
    let outcome = measured(settings, &trial);
    say("removes the installation");
    let removed = trial.down();
    let table = outcome?;
    removed?;
    let left: Vec<String> = before.diff(&Snapshot::take()?).iter().map(ToString::to_string).collect();
    if left.is_empty() { Ok(table) } else { Err(TrialError::LeftBehind(left.join(", "))) }
}

fn measured(settings: &Settings, trial: &Trial) -> Result<Table> {
    let dir = settings.dir.canonicalize().map_err(|source| file_error(&settings.dir, source))?;
    let first = trial.up()?;
    let lab = Lab::new(dir.join("lab"))?;
    let node = lab.host(HostNumber::FIRST);
    let cli = cli(&dir)?;
    say("prepares the second host, on which guests are started by hand");
    let bare = BareHost::prepare(&lab, &node, &first.instance)?;
    // The trial's own desktop would take its share of the processors.
    cli.json(&["instance", "delete", &first.instance, "--watch"])?;
    let mut record = Record::read(&dir)?;
    record.instance = None;
    record.save()?;
    let orders = order::Orders { cli: &cli, node: &node };
    let mut table = Table::new(trial_acceleration(&bare), Machine::read());
    table.agent_at_rest(Agent::measure(&dir, &node)?);
    for round in 0..settings.rounds {
        for kind in Kind::in_round(round) {
            say(&format!("round {} of {}: {}", round + 1, settings.rounds, kind.words()));
            let batch = match kind {
                Kind::Order | Kind::Orders => orders.batch(kind.count(), &mut |agent| {
                    if kind == Kind::Orders && agent {
                        table.agent_with_guests(Agent::measure(&dir, &node)?);
                    }
                    Ok(())
                })?,
                Kind::Floor | Kind::Floors => bare.batch(kind.count())?,
                Kind::Clone => clone::batch(&bare)?,
            };
            say(&format!("    {}", batch.words()));
            table.add(kind, batch);
        }
    }
    Ok(table)
}

fn trial_acceleration(bare: &BareHost) -> &'static str {
    if bare.emulated { "TCG (emulation)" } else { "KVM" }
}

fn cli(dir: &Path) -> Result<Cli> {
    let record = Record::read(dir)?;
    let port = record
        .ports
        .first()
        .ok_or_else(|| TrialError::Answer { what: "trial.json".to_owned(), why: "it has no ports".to_owned() })?;
    Ok(Cli::new(Binaries::beside_this()?, format!("http://127.0.0.1:{port}"), dir.join("api-key")))
}

/// The processor time that the QEMU process of a domain has taken; nothing when it does not run.
fn qemu_seconds(host: &Host, domain: &str) -> Result<Option<f64>> {
    let name = format!("guest={domain},");
    let processes = host.processes()?;
    let found = processes.iter().find(|facts| facts.command_line().contains(&name));
    Ok(found.and_then(|facts| resident::processor_seconds(facts.process.pid)))
}

fn file_error(path: &Path, source: std::io::Error) -> TrialError {
    TrialError::File { path: path.to_owned(), source }
}

/// Progress, for who waits.
fn say(text: &str) {
    // A closed output ends the showing, not the measuring.
    drop(writeln!(std::io::stderr().lock(), "{text}"));
}
