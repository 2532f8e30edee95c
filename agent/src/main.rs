//! The program `nemordp-agent`: reads its configuration, picks the host, runs until it is told to stop.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use nemordp_agent::config::{Config, HostKind, LogFormat};
use nemordp_agent::{Running, run};
use nemordp_trace::Export;
use nemordp_types::{Failure, SystemClock, SystemEntropy};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// The agent of one node of a NemoRDP installation.
#[derive(Debug, Parser)]
#[command(name = "nemordp-agent", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the agent.
    Run {
        /// The configuration, TOML.
        #[arg(long, default_value = "/etc/nemordp/agent.toml")]
        config: PathBuf,
    },
    /// Checks the configuration, and says what is wrong with it.
    CheckConfig {
        /// The configuration, TOML.
        #[arg(long, default_value = "/etc/nemordp/agent.toml")]
        config: PathBuf,
    },
}

fn main() -> ExitCode {
    // Every TLS library of this process takes its cryptography from here; a second installation keeps the first.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let result = match Arguments::parse().command {
        Command::Run { config } => Config::load(&config).and_then(start),
        Command::CheckConfig { config } => Config::load(&config).map(|_| say("the configuration is good")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("{failure:?}"));
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "what the operator reads when there is no log yet")]
fn say(text: &str) {
    eprintln!("nemordp-agent: {text}");
}

/// The log on standard error, and traces to the collector, if there is one.
fn log(format: LogFormat, export: Option<&Export>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match format {
        LogFormat::Json => Box::new(lines.json()),
        LogFormat::Text => Box::new(lines.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))),
    };
    nemordp_trace::install(lines, filter, export);
}

fn start(config: Config) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::internal(format!("no runtime: {error}")))?;
    runtime.block_on(Box::pin(until_told_to_stop(config)))
}

async fn until_told_to_stop(config: Config) -> Result<(), Failure> {
    let export = Export::start(&config.telemetry, "nemordp-agent").map_err(|failure| failure.within("telemetry"))?;
    log(config.log_format, export.as_ref());
    let ended = work(config, export.as_ref()).await;
    if let Some(export) = export {
        export.end().await;
    }
    ended
}

async fn work(config: Config, export: Option<&Export>) -> Result<(), Failure> {
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let unheard = |error| Failure::internal(format!("signals cannot be received: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(unheard)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(unheard)?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("told to stop");
        notify(NotifyState::Stopping);
        stop.cancel();
    });
    let running = on_host(config, shutdown).await?;
    if let Some(export) = export {
        export.identify(&running.node_id.to_string());
    }
    notify(NotifyState::Ready);
    running.finished().await
}

/// Tells systemd, where there is one.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "systemd was not told");
    }
}

async fn on_host(config: Config, shutdown: CancellationToken) -> Result<Running, Failure> {
    match config.host.kind {
        HostKind::Libvirt => on_libvirt(config, shutdown).await,
        HostKind::Sim => on_sim(config, shutdown).await,
    }
}

#[cfg(feature = "libvirt")]
async fn on_libvirt(config: Config, shutdown: CancellationToken) -> Result<Running, Failure> {
    use nemordp_agent::host::libvirt::LibvirtHost;
    let missing = || Failure::field("libvirt", "add the table [libvirt]");
    let (libvirt, network) = (config.libvirt.clone().ok_or_else(missing)?, config.network.clone());
    let gpus = config.gpus.clone();
    let open = move |installation| {
        let (libvirt, network, gpus) = (libvirt.clone(), network.clone(), gpus.clone());
        async move { LibvirtHost::open(&libvirt, &network, &gpus, installation).await }
    };
    Box::pin(run(config, open, Arc::new(SystemClock), Arc::new(SystemEntropy), shutdown)).await
}

#[cfg(not(feature = "libvirt"))]
async fn on_libvirt(_: Config, _: CancellationToken) -> Result<Running, Failure> {
    Err(Failure::field("host.kind", "this agent was built without libvirt: install the package, or set \"sim\""))
}

#[cfg(feature = "sim")]
async fn on_sim(config: Config, shutdown: CancellationToken) -> Result<Running, Failure> {
    use nemordp_agent::host::sim::SimHost;
    tracing::warn!("SIMULATED: no guest runs on this node; logins are answered by the agent itself");
    let host = SimHost::open(&config.sim, &config.network, &config.gpus, &config.data_dir, Arc::new(SystemClock))?;
    let open = move |_| std::future::ready(Ok(host.clone()));
    Box::pin(run(config, open, Arc::new(SystemClock), Arc::new(SystemEntropy), shutdown)).await
}

#[cfg(not(feature = "sim"))]
async fn on_sim(_: Config, _: CancellationToken) -> Result<Running, Failure> {
    Err(Failure::field("host.kind", "this agent was built without the simulated host: set \"libvirt\""))
}
