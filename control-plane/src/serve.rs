//! One control plane in one process: everything made, bound and started in order, ended in reverse.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nemordp_providers::nodes::{self, Nodes};
use nemordp_store::{CertificateRole, Store};
use nemordp_types::id::uuid_v7;
use nemordp_types::{Clock, Entropy, Failure, InstallationId, TenantId};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::app::{App, Desk, Fleet, LongWork, ensure_tenant};
use crate::config::{Config, Http};
use crate::grpc;
use crate::http::listener::{self, Security};
use crate::http::{Api, metrics};
use crate::pki::{self, Pki};
use crate::reconcile::{
    Audit, Auditor, Deletion, Drift, Ending, Expiry, NodeHealth, Outbox, Realignment, Reconciler, Reconcilers,
    ReservationReaper, SecondChance, SuspensionsAhead, TemplatesAhead,
};
use crate::saga::{self, Engine, RdpProver, Settings, Tools};
use crate::seal::{Sealer, ensure_key_file};
use crate::telemetry::Telemetry;
use crate::wake;
use crate::work::Work;

/// How often the own certificate is looked at.
const UPKEEP_EVERY: Duration = Duration::from_secs(600);
/// How often recorded numbers are folded.
const FOLD_EVERY: Duration = Duration::from_secs(10);
/// How soon another replica's revocation is in force here.
const REVOCATIONS_EVERY: Duration = Duration::from_secs(5);

/// What stands on disk and in the store before a control plane serves. Made where it is missing, else found.
#[derive(Debug)]
pub struct Installation {
    /// The memory, migrated.
    pub store: Store,
    /// The installation's id.
    pub id: InstallationId,
    /// The tenant whose keys are made without naming one.
    pub default_tenant: TenantId,
    /// CA and own certificate.
    pub pki: Pki,
    /// The keys that seal passwords.
    pub sealer: Sealer,
}

impl Installation {
    /// Makes data folder, store, CA, certificate and sealing key where they are missing; repeating changes nothing.
    ///
    /// # Errors
    /// When a file or the store cannot be read or written.
    pub async fn ensure(config: &Config, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Result<Self, Failure> {
        pki::private_folder(&config.data_dir)?;
        pki::private_folder(&config.template_dir())?;
        ensure_key_file(&config.seal_key_file(), entropy.as_ref())?;
        let sealer = Sealer::from_file(&config.seal_key_file(), Arc::clone(&entropy))?;
        let store = Store::open(&config.store_url(), Arc::clone(&clock), Arc::clone(&entropy)).await?;
        store.migrate().await?;
        let id = store.installation_ensure(InstallationId::new(clock.as_ref(), entropy.as_ref())).await?;
        let default_tenant = ensure_tenant(&store, &config.default_tenant, clock.as_ref(), entropy.as_ref()).await?;
        let pki = Pki::ensure(config.pki_dir(), config.grpc.names.clone(), clock, entropy)?;
        note_own_certificate(&store, &pki).await?;
        Ok(Self { store, id, default_tenant, pki, sealer })
    }
}

/// A control plane that serves.
#[derive(Debug)]
pub struct Running {
    /// Where the API is.
    pub http_addr: SocketAddr,
    /// Where agents connect.
    pub grpc_addr: SocketAddr,
    /// Where metrics are.
    pub metrics_addr: SocketAddr,
    /// The use cases, for programs that hold a control plane in their own process.
    pub app: Arc<App>,
    /// Its name among replicas, anew with each start; none where somebody else carries sagas on.
    pub replica: Option<String>,
    tasks: JoinSet<Result<(), Failure>>,
    shutdown: CancellationToken,
}

impl Running {
    /// Waits for the end: after the token was cancelled, or when a part failed for good, which ends the others too.
    ///
    /// # Errors
    /// Why a part failed.
    pub async fn join(mut self) -> Result<(), Failure> {
        let mut outcome = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            let ended = ended.unwrap_or_else(|error| Err(Failure::internal(format!("a task ended: {error}"))));
            if let Err(failure) = ended {
                tracing::error!(?failure, "a part of the control plane failed");
                outcome = Err(failure);
            }
            self.shutdown.cancel();
        }
        self.app.store.close().await;
        outcome
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    /// Why a part failed.
    pub async fn stop(self) -> Result<(), Failure> {
        self.shutdown.cancel();
        self.join().await
    }
}

/// Binds and starts everything around sagas that somebody else carries on.
///
/// # Errors
/// When an address cannot be bound, a file cannot be used, or the store refuses.
pub async fn serve_with(
    config: Arc<Config>,
    installation: Installation,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    work: Arc<dyn LongWork>,
    shutdown: CancellationToken,
) -> Result<Running, Failure> {
    let http_listener = bind("http.listen", config.http.listen).await?;
    let grpc_listener = bind("grpc.listen", config.grpc.listen).await?;
    let metrics_listener = bind("metrics.listen", config.metrics.listen).await?;
    let (http_addr, grpc_addr) = (local(&http_listener)?, local(&grpc_listener)?);
    let metrics_addr = local(&metrics_listener)?;
    let security = operator_tls(&config.http)?;
    let telemetry = Telemetry::new()?;
    let fleet = Fleet::new(installation.store.clone());
    let app = Arc::new(App {
        desk: Desk::open(installation.store.clone(), fleet.clone()),
        fleet,
        public_url: public_url(&config.http, http_addr)?,
        config,
        store: installation.store,
        clock,
        entropy,
        pki: Arc::new(installation.pki),
        sealer: installation.sealer,
        work,
        installation_id: installation.id,
    });
    app.revocations_refresh().await?;
    let api = Api::new(Arc::clone(&app), telemetry.clone(), shutdown.clone())?;
    let mut tasks = JoinSet::new();
    let served = listener::serve(http_listener, security, api.router(), shutdown.clone());
    tasks.spawn(async move {
        served.await;
        Ok(())
    });
    let mutual = app.config.metrics.require_certificate || !metrics_addr.ip().is_loopback();
    let security = if mutual { Security::Mutual(app.pki.metrics()) } else { Security::Plain };
    let served = listener::serve(metrics_listener, security, metrics::router(api, mutual), shutdown.clone());
    tasks.spawn(async move {
        served.await;
        Ok(())
    });
    tasks.spawn(fold_numbers(telemetry.clone(), shutdown.clone()));
    tasks.spawn(grpc::serve(grpc_listener, Arc::clone(&app), telemetry, shutdown.clone()));
    tasks.spawn(upkeep(Arc::clone(&app), shutdown.clone()));
    tasks.spawn(follow_revocations(Arc::clone(&app), shutdown.clone()));
    tracing::info!(%http_addr, %grpc_addr, %metrics_addr, installation = %app.installation_id, "control plane serves");
    Ok(Running { http_addr, grpc_addr, metrics_addr, app, replica: None, tasks, shutdown })
}

async fn bind(field: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::field(field, format!("{address} cannot be listened on: {error}")))
}

fn local(listener: &TcpListener) -> Result<SocketAddr, Failure> {
    listener.local_addr().map_err(Failure::internal)
}

fn public_url(http: &Http, address: SocketAddr) -> Result<Url, Failure> {
    if let Some(url) = &http.public_url {
        return Ok(url.clone());
    }
    let scheme = if http.tls_files().is_some() { "https" } else { "http" };
    Url::parse(&format!("{scheme}://{address}/")).map_err(Failure::internal)
}

/// The operator's certificate, if it is named.
///
/// # Errors
/// When certificate and key cannot be read or do not belong together.
pub(crate) fn operator_tls(http: &Http) -> Result<Security, Failure> {
    let Some((certificate, key)) = http.tls_files() else { return Ok(Security::Plain) };
    let bad = |field: &str, error: &dyn std::fmt::Display| {
        Failure::field(format!("http.{field}"), format!("use PEM files that belong together: {error}"))
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|error| bad("certificate_file", &error))?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| bad("key_file", &error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Failure::internal)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| bad("certificate_file", &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Security::Tls(Arc::new(config)))
}

/// So that it can be revoked by its serial number.
async fn note_own_certificate(store: &Store, pki: &Pki) -> Result<(), Failure> {
    let own = pki::record(&pki.own_certificate()?)?;
    Ok(store.certificate_note(CertificateRole::ControlPlane, &own).await?)
}

async fn upkeep(app: Arc<App>, shutdown: CancellationToken) -> Result<(), Failure> {
    let mut ticks = interval(UPKEEP_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        match app.pki.renew_if_due() {
            Ok(true) => {
                tracing::info!("own certificate renewed");
                if let Err(failure) = note_own_certificate(&app.store, &app.pki).await {
                    tracing::warn!(?failure, "the new certificate was not noted: it is at the next start");
                }
            }
            Ok(false) => {}
            Err(failure) => tracing::error!(?failure, "own certificate was not renewed; tried again in ten minutes"),
        }
    }
}

async fn fold_numbers(telemetry: Telemetry, shutdown: CancellationToken) -> Result<(), Failure> {
    let mut ticks = interval(FOLD_EVERY);
    loop {
        tokio::select! {
            _ = ticks.tick() => telemetry.upkeep(),
            () = shutdown.cancelled() => return Ok(()),
        }
    }
}

async fn follow_revocations(app: Arc<App>, shutdown: CancellationToken) -> Result<(), Failure> {
    let mut ticks = interval(REVOCATIONS_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = shutdown.cancelled() => return Ok(()),
        }
        if let Err(failure) = app.revocations_refresh().await {
            tracing::warn!(?failure, "the revocation list was not read");
        }
    }
}

/// Makes what is missing, starts everything, sagas and reconcilers included.
///
/// # Errors
/// As [`Installation::ensure`] and [`serve_with`].
pub async fn serve(
    config: Config,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    shutdown: CancellationToken,
) -> Result<Running, Failure> {
    let installation = Installation::ensure(&config, Arc::clone(&clock), Arc::clone(&entropy)).await?;
    let tools = Tools {
        store: installation.store.clone(),
        provider: Arc::new(Nodes::new(installation.pki.client(), nodes::Limits::default())),
        prover: Arc::new(RdpProver::new(config.proof.at_once())),
        sealer: installation.sealer.clone(),
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        limits: saga::Limits { proof: config.proof.deadline(), ..saga::Limits::default() },
    };
    let (engine, announce) = (Engine::new(), Arc::new(Notify::new()));
    let auditor = Auditor::new(tools.store.clone(), Arc::clone(&tools.provider), Arc::clone(&clock));
    let owner = uuid_v7(clock.as_ref(), entropy.as_ref()).to_string();
    let every = reconcilers(&config, &tools, &engine, &auditor);
    let reconcilers = Reconcilers::new(every, tools.store.clone(), Arc::clone(&clock), &owner);
    let settings = Settings {
        lease: config.work.lease(),
        at_once: usize::try_from(config.work.at_once).map_err(Failure::internal)?,
        ..Settings::named(owner.clone())
    };
    let work = Work {
        engine: engine.clone(),
        reconcilers: reconcilers.clone(),
        auditor,
        announce: Arc::clone(&announce),
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
    };
    let mut running =
        serve_with(Arc::new(config), installation, clock, entropy, Arc::new(work), shutdown.clone()).await?;
    running.replica = Some(owner);
    let hints = wake::Hints { store: tools.store.clone(), engine: engine.clone(), reconcilers: reconcilers.clone() };
    running.tasks.spawn(wake::tell(tools.store.clone(), announce, shutdown.clone()));
    running.tasks.spawn(wake::follow(hints, shutdown.clone()));
    let stop = shutdown.clone();
    running.tasks.spawn(async move {
        engine.run(tools, settings, stop).await;
        Ok(())
    });
    running.tasks.spawn(async move {
        reconcilers.run(shutdown).await;
        Ok(())
    });
    Ok(running)
}

/// All that keeps the long-lived truth.
fn reconcilers(config: &Config, tools: &Tools, engine: &Engine, auditor: &Auditor) -> Vec<Box<dyn Reconciler>> {
    let (store, clock) = (&tools.store, &tools.clock);
    let mut every: Vec<Box<dyn Reconciler>> = vec![
        Box::new(NodeHealth::new(store.clone(), Arc::clone(clock), config.nodes.health())),
        Box::new(ReservationReaper::new(store.clone())),
        Box::new(SecondChance::new(store.clone(), Arc::clone(clock), engine.clone())),
        Box::new(SuspensionsAhead::new(store.clone(), Arc::clone(&tools.provider))),
        Box::new(TemplatesAhead::new(store.clone(), Arc::clone(&tools.provider), Arc::clone(clock))),
        Box::new(Deletion::new(store.clone(), Arc::clone(clock), Arc::clone(&tools.entropy), engine.clone())),
        Box::new(Realignment::new(store.clone(), Arc::clone(clock), Arc::clone(&tools.entropy), engine.clone())),
        Box::new(Drift::new(auditor.clone())),
        Box::new(Audit::new(auditor.clone())),
        Box::new(Outbox::new(store.clone())),
    ];
    every.extend(Ending::ALL.map(|what| Box::new(Expiry::new(store.clone(), what)) as Box<dyn Reconciler>));
    every
}
