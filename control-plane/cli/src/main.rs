//! `nemordp`: parses, runs, reports.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        return ExitCode::FAILURE;
    }
    let arguments = nemordp::Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&error.to_string(), 7),
    };
    match runtime.block_on(nemordp::run(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => report(&error.to_string(), error.exit_code()),
    }
}

fn report(message: &str, code: u8) -> ExitCode {
    // When nobody reads the standard error, the exit code still tells.
    drop(writeln!(std::io::stderr().lock(), "error: {message}"));
    ExitCode::from(code)
}
