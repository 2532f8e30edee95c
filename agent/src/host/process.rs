//! The one place where the agent starts a program of the host.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nemordp_types::{Failure, Reason};
use tokio::io::AsyncWriteExt;

/// What a program printed before it ended well.
#[derive(Debug)]
pub struct Printed {
    /// Its standard output.
    pub stdout: String,
}

/// Runs a program with fixed arguments, gives it `input`, and waits for its end within the deadline; a program that is
/// still running then is killed. A program that ends badly is a failure with what it said as context.
pub async fn run(program: &Path, arguments: &[&str], input: &str, deadline: Duration) -> Result<Printed, Failure> {
    let name = program.display();
    tokio::time::timeout(deadline, run_unbounded(program, arguments, input)).await.unwrap_or_else(|_| {
        Err(Failure::new(Reason::HostFailure, format!("{name} did not end within {} s", deadline.as_secs())))
    })
}

async fn run_unbounded(program: &Path, arguments: &[&str], input: &str) -> Result<Printed, Failure> {
    let name = program.display();
    let broken = |error: std::io::Error| {
        Failure::new(Reason::HostFailure, format!("{name} cannot be run; install it or correct its path"))
            .with_context(error)
    };
    #[expect(clippy::disallowed_methods, reason = "the host's own tools have no library; every start passes here")]
    let mut child = tokio::process::Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(broken)?;
    if let Some(mut pipe) = child.stdin.take() {
        // A program that ends without reading says why on its standard error, which counts.
        let _ = pipe.write_all(input.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(broken)?;
    if output.status.success() {
        return Ok(Printed { stdout: String::from_utf8_lossy(&output.stdout).into_owned() });
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Failure::new(Reason::HostFailure, format!("{name} refused; the operator finds its words in the log"))
        .with_context(format!("{name} {}: {}: {}", arguments.join(" "), output.status, said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_hangs_is_ended_at_its_deadline() {
        let failure = run(Path::new("/bin/sleep"), &["60"], "", Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(failure.reason, Reason::HostFailure);
    }

    #[tokio::test]
    async fn what_a_program_says_when_it_refuses_is_kept_for_the_operator() {
        let failure = run(Path::new("/bin/ls"), &["/no/such/place"], "", Duration::from_secs(5)).await.unwrap_err();
        assert!(failure.context.unwrap().contains("/no/such/place"));
        let echoed = run(Path::new("/bin/cat"), &[], "text", Duration::from_secs(5)).await.unwrap();
        assert_eq!(echoed.stdout, "text");
        assert!(run(Path::new("/no/such/program"), &[], "", Duration::from_secs(5)).await.is_err());
    }
}
