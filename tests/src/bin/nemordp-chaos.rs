//! `make chaos`: every blow at every step of every saga with real kills, on both stores, for about as long as asked; see
//! `nemordp_tests::chaos`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use nemordp_tests::chaos::{Campaign, Dice, Score, Trial, trials};
use nemordp_tests::cluster::{Result, Shape, StoreKind};

/// A cluster is made anew after so many trials, so that each begins with an empty store now and then.
const TRIALS_A_CLUSTER: usize = 25;

/// Kill anything, anywhere, lose nothing.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// About how long.
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Where chance begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only one store: sqlite or postgres.
    #[arg(long)]
    store: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say(&format!("no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let score = runtime.block_on(run(&arguments));
    for violation in &score.findings.violations {
        say(&format!("VIOLATION {violation}"));
    }
    say(&format!("chaos: {score}"));
    if score.findings.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn say(text: &str) {
    // A closed output ends the showing, not the doing.
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

async fn run(arguments: &Arguments) -> Score {
    let (began, mut dice) = (Instant::now(), Dice::new(arguments.seed));
    let end = began + Duration::from_secs(arguments.seconds);
    let mut plan: Vec<(StoreKind, Vec<Trial>)> = [(StoreKind::Sqlite, "sqlite"), (StoreKind::Postgres, "postgres")]
        .into_iter()
        .filter(|(_, name)| arguments.store.as_deref().is_none_or(|wanted| wanted == *name))
        .map(|(store, _)| (store, trials(store)))
        .collect();
    for (_, trials) in &mut plan {
        dice.shuffle(trials);
    }
    let whole: usize = plan.iter().map(|(_, trials)| trials.len()).sum();
    say(&format!("chaos: {whole} trials, seed {}, {} s", arguments.seed, arguments.seconds));
    let (mut total, mut at) = (Score::default(), 0);
    while Instant::now() < end {
        let mut nothing = true;
        for (store, trials) in &plan {
            let part: Vec<Trial> = trials.iter().skip(at).take(TRIALS_A_CLUSTER).cloned().collect();
            if part.is_empty() || Instant::now() >= end {
                continue;
            }
            nothing = false;
            // Half of what is left for the first store, so that a short time sees both.
            let until = if *store == StoreKind::Sqlite && plan.len() > 1 {
                Instant::now() + end.saturating_duration_since(Instant::now()) / 2
            } else {
                end
            };
            match campaign(*store, &part, dice.number(), until, began).await {
                Ok(score) => total.add(score),
                Err(error) => total.findings.violations.push(error.to_string()),
            }
        }
        // All of them were made: from the beginning, with other dice.
        at = if nothing { 0 } else { at + TRIALS_A_CLUSTER };
    }
    total
}

async fn campaign(store: StoreKind, part: &[Trial], seed: u64, end: Instant, began: Instant) -> Result<Score> {
    let replicas = if store == StoreKind::Postgres { 2 } else { 1 };
    let mut campaign = Campaign::start(Shape::quick(store, replicas, 2), seed).await?;
    say(&format!(
        "[{:6.1} s] {store:?}: {replicas} control plane(s), 2 nodes, up in {:.1} s, seed {seed}",
        began.elapsed().as_secs_f64(),
        campaign.started_in().as_secs_f64()
    ));
    for trial in part {
        if Instant::now() >= end {
            break;
        }
        let (started, before) = (Instant::now(), campaign.violations().len());
        if let Err(error) = campaign.trial(trial).await {
            let dir = campaign.abandon();
            return Err(nemordp_tests::cluster::ClusterError::Answer {
                what: format!("{store:?}, seed {seed}, {trial}"),
                why: format!("{error}; logs and store are kept in {}", dir.display()),
            });
        }
        say(&format!(
            "[{:6.1} s] {store:?}: {trial} ({:.1} s), violations so far: {}",
            began.elapsed().as_secs_f64(),
            started.elapsed().as_secs_f64(),
            campaign.violations().len()
        ));
        for violation in campaign.violations().iter().skip(before) {
            say(&format!("VIOLATION {violation}"));
        }
    }
    campaign.finish().await
}
