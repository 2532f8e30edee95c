//! `nemordp-installer`: parses, runs, reports.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let arguments = nemordp_installer::cli::Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&error.to_string(), 1),
    };
    let interrupt = CancellationToken::new();
    let outcome = runtime.block_on(async {
        tokio::spawn(watch_signals(interrupt.clone()));
        nemordp_installer::cli::run(arguments, interrupt.clone()).await
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error.to_string(), error.exit_code()),
    }
}

/// The first SIGINT or SIGTERM asks the work to stop and to clean up.
async fn watch_signals(interrupt: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
        return;
    };
    tokio::select! {
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
    interrupt.cancel();
}

fn report(message: &str, code: u8) -> ExitCode {
    // When nobody reads the standard error, the exit code still tells.
    drop(writeln!(std::io::stderr().lock(), "error: {message}"));
    ExitCode::from(code)
}
