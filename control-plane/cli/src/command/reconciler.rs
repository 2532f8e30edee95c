//! What keeps the long-lived truth.

use std::time::{Duration, Instant};

use clap::Subcommand;
use nemordp_api::{Reconciler, ReconcilerList};

use crate::client::Client;
use crate::error::Error;
use crate::output::{Output, Row, cell};

/// How long a run is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What can be done with reconcilers.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Lists them, with what each found and did last.
    List,
    /// Shows one, with all that it found.
    Show {
        /// Its name.
        name: String,
    },
    /// Has one run now, and shows what it found.
    Run {
        /// Its name.
        name: String,
    },
}

impl Action {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<(), Error> {
        match self {
            Self::List => output.rows(&all(client).await?),
            Self::Show { name } => show(output, &one(client, &name).await?),
            Self::Run { name } => {
                let before = one(client, &name).await?;
                let _accepted: serde_json::Value = client.post_plain(&format!("v1/reconcilers/{name}/run")).await?;
                let began = Instant::now();
                loop {
                    let now = one(client, &name).await?;
                    if now.last_run_at != before.last_run_at || now.runs != before.runs {
                        return show(output, &now);
                    }
                    if began.elapsed() > PATIENCE {
                        let why = "no replica ran it within a minute".to_owned();
                        return Err(Error::Answer { what: format!("reconciler {name}"), why });
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
        }
    }
}

async fn all(client: &Client) -> Result<Vec<Reconciler>, Error> {
    Ok(client.get::<ReconcilerList>("v1/reconcilers", &[]).await?.items)
}

async fn one(client: &Client, name: &str) -> Result<Reconciler, Error> {
    let mut every = all(client).await?;
    let names: Vec<&str> = every.iter().map(|one| one.name.as_str()).collect();
    let unknown = Error::Usage(format!("no reconciler is called {name}: there are {}", names.join(", ")));
    let index = every.iter().position(|one| one.name == name).ok_or(unknown)?;
    Ok(every.swap_remove(index))
}

fn show(output: &Output, shown: &Reconciler) -> Result<(), Error> {
    output.one(shown)?;
    match shown.details.as_ref().and_then(serde_json::Value::as_array) {
        Some(details) if output.is_for_people() => {
            let lines: Vec<String> = details.iter().map(ToString::to_string).collect();
            output.text(&lines.join("\n"), &shown.details)
        }
        Some(_) | None => Ok(()),
    }
}

impl Row for Reconciler {
    const HEADS: &'static [&'static str] = &["NAME", "EVERY", "LAST RUN", "TOOK", "FOUND", "FAILURE", "PURPOSE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            format!("{} s", self.period_seconds),
            cell(self.last_run_at),
            cell(self.last_run_milliseconds.map(|milliseconds| format!("{milliseconds} ms"))),
            cell(self.last_outcome.as_ref()),
            cell(self.failure.as_ref().map(|fault| format!("{} ({})", fault.message, fault.reason))),
            self.purpose.clone(),
        ]
    }
}
