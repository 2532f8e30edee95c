//! The lab by hand: simulated KVM hosts on this machine, see `nemordp_tests::lab`.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ExitCode, Stdio};
use std::time::Instant;

use clap::{Parser, Subcommand};
use nemordp_tests::lab::{Host, HostNumber, KernelSource, Lab, LabError, Snapshot, machine_kernel};
use nemordp_types::node::Acceleration;

/// Simulated KVM hosts in namespaces of their own.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Directory that holds the lab.
    #[arg(long, global = true, default_value = "/var/lib/nemordp-lab")]
    dir: PathBuf,
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start a host unless it runs.
    Up {
        /// Its number, 1 to 200.
        #[arg(long, default_value_t = 1)]
        host: u8,
    },
    /// Remove all hosts with their disks, and say what is left.
    Down,
    /// Cut a host's power and start it again.
    Reboot {
        /// Its number.
        #[arg(long, default_value_t = 1)]
        host: u8,
    },
    /// List what exists.
    Status,
    /// Run a program in a host.
    Exec {
        /// The host's number.
        #[arg(long, default_value_t = 1)]
        host: u8,
        /// Program and arguments.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
    /// Say whether KVM works: `kvm` or `tcg`.
    Probe {
        /// A kernel to boot.
        #[arg(long, conflicts_with = "image")]
        kernel: Option<PathBuf>,
        /// A disk image to take the kernel from.
        #[arg(long)]
        image: Option<PathBuf>,
    },
    /// Write down what exists on this machine.
    Snapshot {
        /// The file to write.
        file: PathBuf,
    },
    /// Compare the machine with what was written down; fails and lists when something changed.
    Compare {
        /// The file that `snapshot` wrote.
        file: PathBuf,
    },
}

type Outcome = Result<ExitCode, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            // Nobody is left to tell when the standard error is closed.
            drop(writeln!(std::io::stderr(), "error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome {
    let lab = || Lab::new(&arguments.dir);
    match &arguments.command {
        Action::Up { host } => up(&lab()?, *host),
        Action::Down => down(&lab()?),
        Action::Reboot { host } => {
            let (host, started) = (host_of(&lab()?, *host)?, Instant::now());
            host.reboot()?;
            say(&format!("{} is up again after {:.1} s", host.name(), started.elapsed().as_secs_f32()))
        }
        Action::Status => say(&lab()?.status()?.join("\n")),
        Action::Exec { host, command } => exec(&host_of(&lab()?, *host)?, command),
        Action::Probe { kernel, image } => probe(&lab()?, kernel.clone(), image.clone()),
        Action::Snapshot { file } => {
            std::fs::write(file, serde_json::to_vec_pretty(&Snapshot::take()?)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Action::Compare { file } => compare(&serde_json::from_slice(&std::fs::read(file)?)?),
    }
}

fn up(lab: &Lab, host: u8) -> Outcome {
    let (host, started) = (host_of(lab, host)?, Instant::now());
    host.up()?;
    let seconds = started.elapsed().as_secs_f32();
    say(&format!(
        "{} is up after {seconds:.1} s at {}, libvirt at {}",
        host.name(),
        host.address()?,
        host.libvirt_uri()
    ))
}

fn down(lab: &Lab) -> Outcome {
    lab.down()?;
    say("left: nothing (processes, links, mounts and namespaces checked)")
}

fn exec(host: &Host, words: &[String]) -> Outcome {
    let Some((program, arguments)) = words.split_first() else { return Ok(ExitCode::FAILURE) };
    let mut command = host.command(program)?;
    command.args(arguments).stdin(Stdio::inherit());
    if let Some(terminal) = std::env::var_os("TERM") {
        command.env("TERM", terminal);
    }
    Err(command.exec().into())
}

fn probe(lab: &Lab, kernel: Option<PathBuf>, image: Option<PathBuf>) -> Outcome {
    let source = match (kernel, image) {
        (Some(kernel), _) => KernelSource::File(kernel),
        (None, Some(image)) => KernelSource::Image(image),
        (None, None) => {
            KernelSource::File(machine_kernel().ok_or("no kernel in /boot: name one with --kernel or --image")?)
        }
    };
    say(match lab.acceleration(&source)? {
        Acceleration::Kvm => "kvm",
        Acceleration::Tcg => "tcg",
        Acceleration::Simulated => "simulated",
    })
}

fn compare(before: &Snapshot) -> Outcome {
    let differences = before.diff(&Snapshot::take()?);
    if differences.is_empty() {
        return say("unchanged");
    }
    for difference in &differences {
        say(&difference.to_string())?;
    }
    Ok(ExitCode::FAILURE)
}

fn host_of(lab: &Lab, number: u8) -> Result<Host, LabError> {
    Ok(lab.host(HostNumber::new(number)?))
}

fn say(text: &str) -> Outcome {
    writeln!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}
