//! The command line: arguments and which part of the program answers them.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::error::InstallerError;
use crate::progress::{OutputFormat, print_line};
use crate::template::{self, BuildRequest, bundle};

/// Prepares what NemoRDP runs on.
#[derive(Debug, Parser)]
#[command(name = "nemordp-installer", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Golden disks that instances are cloned from.
    #[command(subcommand)]
    Template(TemplateCommand),
}

#[derive(Debug, Subcommand)]
enum TemplateCommand {
    /// Build a template from Debian packages.
    Build(BuildArguments),
    /// The recipes that this program carries.
    List,
}

#[derive(Debug, Args)]
struct BuildArguments {
    /// Name of the recipe.
    name: String,
    /// Folder for the disk and its manifests; made if missing.
    #[arg(long)]
    out: PathBuf,
    /// Folder that keeps package archives and package lists for the next build; made if missing.
    #[arg(long)]
    cache: Option<PathBuf>,
    /// Folder of a recipe, instead of the one that the program carries.
    #[arg(long)]
    recipe: Option<PathBuf>,
    /// APT sources (a .list or .sources file), instead of the machine's own.
    #[arg(long)]
    sources: Option<PathBuf>,
    /// Use only what the cache has.
    #[arg(long, requires = "cache")]
    offline: bool,
    /// Folder in memory (tmpfs) for the ordered copy of the system.
    #[arg(long, default_value = "/dev/shm")]
    staging: PathBuf,
    /// Show the steps and do nothing.
    #[arg(long)]
    plan: bool,
    /// Build a second time from the same packages and compare the digests.
    #[arg(long, requires = "cache")]
    verify_reproducible: bool,
    /// How progress is shown.
    #[arg(long, value_enum, default_value = "text")]
    output: OutputFormat,
}

/// Does what the arguments ask for; `interrupt` stops it, cleanly.
pub async fn run(arguments: Arguments, interrupt: CancellationToken) -> Result<(), InstallerError> {
    match arguments.command {
        Command::Template(TemplateCommand::List) => {
            for name in bundle::names() {
                print_line(name);
            }
            Ok(())
        }
        Command::Template(TemplateCommand::Build(build)) => {
            let (show_plan, output) = (build.plan, build.output);
            let request = BuildRequest {
                name: build.name,
                out: build.out,
                cache: build.cache,
                recipe: build.recipe,
                sources: build.sources,
                offline: build.offline,
                staging: build.staging,
                verify_reproducible: build.verify_reproducible,
            };
            let plan = template::plan::make(request)?;
            if show_plan {
                print_line(&plan.show(output));
                return Ok(());
            }
            template::build::execute(&plan, output, &interrupt).await
        }
    }
}
