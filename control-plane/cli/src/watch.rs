//! Follows an operation to its end: a line per step with its seconds, a spinner for the one that runs.

use std::io::Write as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;
use nemordp_api::{Operation, OperationStatus, OperationStep, StepState};
use nemordp_types::{Clock as _, SystemClock};

use crate::client::Client;
use crate::error::Error;
use crate::output::Output;

/// Between two looks; an order takes some seconds, and a look costs the control plane one read.
const INTERVAL: Duration = Duration::from_millis(200);

/// Waits for the operation's end.
///
/// # Errors
/// When it ends otherwise than done.
pub async fn until_done(client: &Client, output: &Output, id: &str) -> Result<Operation, Error> {
    let mut printed = 0;
    let spinner = output.is_interactive().then(spinner);
    loop {
        let operation: Operation = client.get(&format!("v1/operations/{id}"), &[]).await?;
        if output.is_for_people() {
            printed = print_finished(&operation, printed, spinner.as_ref())?;
        }
        if let Some(spinner) = &spinner {
            spinner.set_message(present(&operation));
        }
        if operation.status.is_final() {
            if let Some(spinner) = spinner {
                spinner.finish_and_clear();
            }
            return finished(operation);
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn finished(operation: Operation) -> Result<Operation, Error> {
    if operation.status == OperationStatus::Done {
        return Ok(operation);
    }
    Err(Error::OperationFailed {
        id: operation.id.to_string(),
        status: operation.status.to_string(),
        fault: operation.failure.map(Box::new),
    })
}

fn spinner() -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    let spinner = ProgressBar::new_spinner().with_style(style);
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

/// Prints the steps that ended since the last look, in their order; returns how many are printed.
fn print_finished(operation: &Operation, printed: usize, spinner: Option<&ProgressBar>) -> Result<usize, Error> {
    let ended = |step: &&OperationStep| match step.state {
        StepState::Done | StepState::Failed | StepState::Undone | StepState::Skipped => true,
        StepState::Pending | StepState::Running | StepState::Undoing => false,
    };
    let count = operation.steps.iter().take_while(ended).count();
    for step in operation.steps.iter().take(count).skip(printed) {
        let line = step_line(step);
        match spinner {
            Some(spinner) => spinner.println(&line),
            None => writeln!(std::io::stderr().lock(), "{line}")?,
        }
    }
    Ok(count.max(printed))
}

fn step_line(step: &OperationStep) -> String {
    let seconds = match (step.started_at, step.finished_at) {
        (Some(started), Some(ended)) => format!("{:7.2} s", elapsed(started, ended)),
        (_, None) | (None, _) => "        -".to_owned(),
    };
    let failure = step.failure.as_ref().map(|fault| format!("  {}", fault.message)).unwrap_or_default();
    format!("{seconds}  {:<22} {}{failure}", step.name, step.state)
}

/// What runs now, for the spinner.
fn present(operation: &Operation) -> String {
    let running = operation.steps.iter().find(|step| matches!(step.state, StepState::Running | StepState::Undoing));
    let Some(step) = running else { return operation.status.to_string() };
    let seconds = step.started_at.map(|started| elapsed(started, SystemClock.now())).unwrap_or_default();
    let detail = step.detail.as_ref().map(|detail| format!(": {detail}")).unwrap_or_default();
    let percent = step.percent.map(|percent| format!(" {percent} %")).unwrap_or_default();
    format!("{seconds:6.1} s  {}{detail}{percent}", step.name)
}

fn elapsed(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64().max(0.0)
}
