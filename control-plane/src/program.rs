//! The command line: what each command does with the configuration.

mod certificate;
mod store;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use nemordp_model::{ApiScopes, Label};
use nemordp_store::{CertificateRole, NewApiKey, Store};
use nemordp_trace::Export;
use nemordp_types::{ApiKeyId, Clock, Entropy, Failure, SystemClock, SystemEntropy};
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use crate::app::{self, ensure_tenant};
use crate::config::Config;
use crate::pki;
use crate::serve::{Installation, operator_tls};
use crate::telemetry::log_to_stderr;
use store::StoreCommand;

#[derive(Debug, Parser)]
#[command(name = "nemordp-control-plane", version, about = "NemoRDP's control plane")]
struct Arguments {
    /// The configuration (TOML).
    #[arg(
        long,
        global = true,
        env = "NEMORDP_CONTROL_PLANE_CONFIG",
        default_value = "/etc/nemordp/control-plane.toml",
        value_name = "FILE"
    )]
    config: PathBuf,
    /// Lines of the log for machines or for people.
    #[arg(long, global = true, env = "NEMORDP_LOG_FORMAT", default_value = "json", value_parser = ["json", "text"])]
    log_format: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes data folder, store, CA, certificate and sealing key where they are missing; repeating changes nothing.
    Init,
    /// Serves the API, the agents and metrics until SIGTERM.
    Serve,
    /// API keys.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Certificates for monitoring systems.
    #[command(subcommand)]
    MonitoringCertificate(MonitoringCommand),
    /// Certificates that our CA issued.
    #[command(subcommand)]
    Certificate(certificate::CertificateCommand),
    /// The store.
    #[command(subcommand)]
    Store(StoreCommand),
    /// Prints the OpenAPI document.
    Openapi,
    /// Reads the configuration and says what is wrong with it.
    CheckConfig,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// Makes a key and prints it, this once.
    Create {
        /// What it is for.
        #[arg(long)]
        name: String,
        /// What it allows: orders, read, operate, admin; commas between.
        #[arg(long, value_delimiter = ',', required = true)]
        scopes: Vec<String>,
        /// Whose it is, made where it is missing; the default tenant when absent.
        #[arg(long)]
        tenant: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
enum MonitoringCommand {
    /// Makes a client certificate that may read metrics, with its key and our CA.
    Create {
        /// The folder for monitoring.crt, monitoring.key and ca.crt.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Runs the program.
#[must_use]
pub fn run() -> ExitCode {
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider was installed already");
    }
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&Failure::internal(error)),
    };
    match runtime.block_on(Box::pin(execute(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => complain(&failure),
    }
}

async fn execute(arguments: Arguments) -> Result<(), Failure> {
    let json = arguments.log_format == "json";
    let (clock, entropy): (Arc<dyn Clock>, Arc<dyn Entropy>) = (Arc::new(SystemClock), Arc::new(SystemEntropy));
    if !matches!(arguments.command, Command::Serve) {
        log_to_stderr(json, None);
    }
    if let Command::Openapi = arguments.command {
        let document = crate::http::document().to_pretty_json().map_err(Failure::internal)?;
        return say(&document);
    }
    let config = Config::load(&arguments.config)?;
    match arguments.command {
        Command::Openapi => Ok(()),
        Command::CheckConfig => {
            operator_tls(&config.http)?;
            say(&format!("{} can be used", arguments.config.display()))
        }
        Command::Init => {
            let installation = Installation::ensure(&config, clock, entropy).await?;
            say(&format!("installation {} in {}", installation.id, config.data_dir.display()))?;
            installation.store.close().await;
            Ok(())
        }
        Command::Serve => serve(config, json, clock, entropy).await,
        Command::Key(KeyCommand::Create { name, scopes, tenant }) => {
            create_key(&config, &name, &scopes, tenant.as_deref(), clock, entropy).await
        }
        Command::MonitoringCertificate(MonitoringCommand::Create { out }) => {
            let installation = Installation::ensure(&config, clock, entropy).await?;
            monitoring_certificate(&installation, &out).await
        }
        Command::Certificate(command) => command.run(&config, clock, entropy).await,
        Command::Store(command) => command.run(&config, clock, entropy).await,
    }
}

async fn serve(config: Config, json: bool, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<(), Failure> {
    let export = Export::start(&config.telemetry, "nemordp-control-plane");
    let export = export.map_err(|failure| failure.within("telemetry"))?;
    log_to_stderr(json, export.as_ref());
    let served = serve_until_told(config, clock, entropy, export.as_ref()).await;
    if let Some(export) = export {
        export.end().await;
    }
    served
}

async fn serve_until_told(
    config: Config,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    export: Option<&Export>,
) -> Result<(), Failure> {
    let shutdown = CancellationToken::new();
    let running = crate::serve::serve(config, clock, entropy, shutdown.clone()).await?;
    if let (Some(export), Some(replica)) = (export, &running.replica) {
        export.identify(replica);
    }
    tokio::spawn(async move {
        asked_to_end().await;
        tracing::info!("asked to end: finishes what is being answered");
        shutdown.cancel();
    });
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::debug!(%error, "nobody waits for readiness");
    }
    running.join().await
}

async fn asked_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be received: only SIGKILL ends this process");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

async fn create_key(
    config: &Config,
    name: &str,
    scopes: &[String],
    tenant: Option<&str>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
) -> Result<(), Failure> {
    let label = Label::new(name, "name")?;
    let scopes: ApiScopes = scopes.join(" ").parse()?;
    let store = Store::open(&config.store_url(), Arc::clone(&clock), Arc::clone(&entropy)).await?;
    let tenant = tenant.unwrap_or(&config.default_tenant);
    let tenant_id = ensure_tenant(&store, tenant, clock.as_ref(), entropy.as_ref()).await?;
    let secret = app::secret(entropy.as_ref(), app::KEY_PREFIX);
    let id = ApiKeyId::new(clock.as_ref(), entropy.as_ref());
    let secret_sha256 = app::secret_sha256(secret.expose_secret());
    store.api_key_create(&NewApiKey { id, tenant_id, label, scopes, secret_sha256 }, None).await?;
    store.close().await;
    say(secret.expose_secret())
}

async fn monitoring_certificate(installation: &Installation, out: &Path) -> Result<(), Failure> {
    let pki = &installation.pki;
    let (issued, key) = pki.issue_monitoring()?;
    // Noted before anybody has it, so that none is out there that cannot be revoked.
    installation.store.certificate_note(CertificateRole::Monitoring, &pki::record(&issued.der)?).await?;
    pki::private_folder(out).map_err(|failure| failure.with_field("out"))?;
    let files = [
        ("ca.crt", pki::to_pem(pki.authority().certificate()), 0o644),
        ("monitoring.key", key, 0o600),
        ("monitoring.crt", pki::to_pem(&issued.der), 0o644),
    ];
    for (name, content, mode) in files {
        pki::replace(&out.join(name), content.as_bytes(), mode).map_err(|failure| failure.with_field("out"))?;
    }
    say(&format!("monitoring.crt, monitoring.key and ca.crt in {}, good until {}", out.display(), issued.not_after))
}

fn say(text: &str) -> Result<(), Failure> {
    writeln!(std::io::stdout(), "{text}").map_err(Failure::internal)
}

fn complain(failure: &Failure) -> ExitCode {
    // Nothing is left to be done when not even standard error can be written.
    drop(writeln!(std::io::stderr(), "nemordp-control-plane: {failure:?}"));
    ExitCode::FAILURE
}
