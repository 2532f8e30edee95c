//! One `virsh` that stays open: a new process for each call would be measured as if it were libvirt.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::file_error;
use crate::trial::{Result, TrialError};

const END: &str = "---nemordp-bench-end---";

/// An open `virsh`; ends with the value.
pub(super) struct Shell {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Shell {
    pub(super) fn open(uri: &str) -> Result<Self> {
        #[expect(clippy::disallowed_methods, reason = "the benchmark does by hand what the product does")]
        let mut command = std::process::Command::new("virsh");
        command.args(["--quiet", "--connect", uri]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let failed = |source| file_error("virsh".as_ref(), source);
        let mut child = command.spawn().map_err(failed)?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (input, output) = pipes.ok_or_else(|| failed(std::io::Error::other("it has no pipes")))?;
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    /// Gives a command's output; none when there was none, which is how a failed one looks here.
    pub(super) fn ask(&mut self, command: &str) -> Result<Option<String>> {
        let failed = |source| file_error("virsh".as_ref(), source);
        writeln!(self.input, "{command}\necho {END}").and_then(|()| self.input.flush()).map_err(failed)?;
        let mut text = String::new();
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).map_err(failed)? == 0 {
                return Err(failed(std::io::Error::from(std::io::ErrorKind::UnexpectedEof)));
            }
            if line.trim_end().ends_with(END) {
                let text = text.trim().to_owned();
                return Ok((!text.is_empty()).then_some(text));
            }
            text.push_str(&line);
        }
    }

    /// The answer of a guest's agent; none while it does not answer.
    pub(super) fn agent(&mut self, domain: &str, request: &str) -> Result<Option<String>> {
        self.ask(&format!("qemu-agent-command {domain} --timeout 10 {}", quoted(request)))
    }

    /// A command that prints nothing when it works: a second one shows whether it did.
    pub(super) fn start(&mut self, xml: &str, domain: &str) -> Result<()> {
        self.ask(&format!("create {}", quoted(xml)))?;
        let state = self.ask(&format!("domstate {domain}"))?;
        if state.as_deref() == Some("running") {
            return Ok(());
        }
        Err(TrialError::Answer { what: format!("virsh create of {domain}"), why: format!("its state is {state:?}") })
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        drop(writeln!(self.input, "quit"));
        drop(self.child.wait());
    }
}

/// In double quotes, where virsh takes a backslash before what it would understand otherwise.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_reach_the_guest_as_they_are() {
        assert_eq!(quoted(r#"{"a":"b\n'c'"}"#), r#""{\"a\":\"b\\n'c'\"}""#);
    }
}
