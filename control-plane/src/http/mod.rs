//! The HTTP API: transport only. Requests become calls of the use cases, failures become problem documents.
//!
//! Map: `v1` one endpoint a file · `auth` keys and scopes · `request` what is read out of a request, idempotency ·
//! [`error`] the one table of statuses · `view` the model as the API shows it · `layer` what happens to every request ·
//! `listener` connections · `describe` the OpenAPI document · `pages` for people.

mod auth;
mod describe;
pub mod error;
mod health;
mod layer;
pub(crate) mod listener;
pub(crate) mod metrics;
mod pages;
mod request;
mod v1;
mod view;

use std::ops::Deref;
use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use nemordp_types::Failure;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::telemetry::Telemetry;

pub use describe::document;
pub(crate) use view::node_availability;

/// Streams of operations that are open at once.
const STREAMS_MAX: usize = 512;

/// What handlers share.
#[derive(Debug, Clone)]
pub struct Api(Arc<Shared>);

/// What handlers share.
#[derive(Debug)]
pub struct Shared {
    pub(crate) app: Arc<App>,
    pub(crate) telemetry: Telemetry,
    pub(crate) shutdown: CancellationToken,
    streams: Arc<Semaphore>,
    throttle: auth::Throttle,
    turns: request::Turns,
    openapi: String,
}

impl Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Api {
    /// For one control plane.
    ///
    /// # Errors
    /// Only when the OpenAPI document cannot be written.
    pub fn new(app: Arc<App>, telemetry: Telemetry, shutdown: CancellationToken) -> Result<Self, Failure> {
        Ok(Self(Arc::new(Shared {
            app,
            telemetry,
            shutdown,
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            throttle: auth::Throttle::default(),
            turns: request::Turns::default(),
            openapi: document().to_pretty_json().map_err(Failure::internal)?,
        })))
    }

    /// Everything that is served at the API's address.
    pub fn router(&self) -> Router {
        let (documented, _) = routes();
        let deadline = from_fn_with_state(self.app.config.http.request_deadline(), layer::deadline);
        let (patient, _) = patient_routes().split_for_parts();
        documented
            .layer(deadline)
            .merge(patient)
            .route("/docs", get(pages::docs))
            .route("/openapi.json", get(pages::openapi))
            .route("/problems", get(pages::problems))
            .route("/problems/{reason}", get(pages::problem))
            .route("/c", get(pages::credentials))
            .fallback(layer::no_such_path)
            .method_not_allowed_fallback(layer::wrong_method)
            .layer(CatchPanicLayer::custom(layer::panicked))
            .layer(from_fn_with_state(self.clone(), layer::around))
            .with_state(self.clone())
    }
}

/// The ordinary routes, and the document of all of them.
fn routes() -> (Router<Api>, utoipa::openapi::OpenApi) {
    let (router, mut document) = ordinary_routes().split_for_parts();
    document.merge(patient_routes().into_openapi());
    (router, document)
}

/// Routes whose requests take as long as their bytes or their work need.
fn patient_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(v1::templates::upload::upload))
        .routes(routes!(v1::templates::register::register))
        .routes(routes!(v1::operations::events::events))
        .routes(routes!(v1::audit::run::run))
}

/// What storefronts and operators ask for.
fn ordinary_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(describe::Document::openapi())
        .merge(operator_routes())
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(v1::orders::list::list))
        .routes(routes!(v1::orders::create::create))
        .routes(routes!(v1::orders::get::get))
        .routes(routes!(v1::orders::cancel::cancel))
        .routes(routes!(v1::orders::placement::get))
        .routes(routes!(v1::placements::what_if::what_if))
        .routes(routes!(v1::operations::list::list))
        .routes(routes!(v1::operations::get::get))
        .routes(routes!(v1::instances::list::list))
        .routes(routes!(v1::instances::get::get))
        .routes(routes!(v1::instances::delete::delete))
        .routes(routes!(v1::instances::start::start))
        .routes(routes!(v1::instances::stop::stop))
        .routes(routes!(v1::instances::adopt::adopt))
        .routes(routes!(v1::instances::restart::restart))
        .routes(routes!(v1::instances::reset::reset))
        .routes(routes!(v1::instances::password_reset::password_reset))
        .routes(routes!(v1::instances::paid_until::paid_until))
        .routes(routes!(v1::instances::rename::rename))
        .routes(routes!(v1::instances::resize::resize))
        .routes(routes!(v1::instances::reinstall::reinstall))
        .routes(routes!(v1::instances::rescue::rescue))
        .routes(routes!(v1::instances::unrescue::unrescue))
        .routes(routes!(v1::instances::suspend::suspend))
        .routes(routes!(v1::instances::unsuspend::unsuspend))
        .routes(routes!(v1::instances::restore::restore))
        .routes(routes!(v1::instances::credentials::credentials))
        .routes(routes!(v1::instances::rdp_file::rdp_file))
        .routes(routes!(v1::instances::usage::usage))
        .routes(routes!(
            v1::instances::suspension::schedule::schedule,
            v1::instances::suspension::get::get,
            v1::instances::suspension::cancel::cancel
        ))
        .routes(routes!(v1::credentials::reveal))
        .routes(routes!(v1::plans::list::list))
        .routes(routes!(v1::plans::put::put))
        .routes(routes!(v1::plans::get::get))
        .routes(routes!(v1::templates::list::list))
        .routes(routes!(v1::templates::get::get))
        .routes(routes!(v1::availability::list))
        .routes(routes!(v1::capacity::list))
        .routes(routes!(v1::events::list))
}

/// What operators alone ask for.
fn operator_routes() -> OpenApiRouter<Api> {
    OpenApiRouter::new()
        .routes(routes!(v1::nodes::list::list))
        .routes(routes!(v1::nodes::get::get))
        .routes(routes!(v1::nodes::cordon::cordon))
        .routes(routes!(v1::nodes::uncordon::uncordon))
        .routes(routes!(v1::nodes::revoke::revoke))
        .routes(routes!(v1::nodes::fence::fence))
        .routes(routes!(v1::nodes::unfence::unfence))
        .routes(routes!(v1::nodes::labels::labels))
        .routes(routes!(v1::nodes::held_back::held_back))
        .routes(routes!(v1::nodes::pin::pin))
        .routes(routes!(v1::nodes::unpin::unpin))
        .routes(routes!(v1::nodes::tickets::list::list))
        .routes(routes!(v1::nodes::tickets::create::create))
        .routes(routes!(v1::keys::list::list))
        .routes(routes!(v1::keys::create::create))
        .routes(routes!(v1::keys::revoke::revoke))
        .routes(routes!(v1::reserves::list::list, v1::reserves::set::set))
        .routes(routes!(v1::tenants::list::list))
        .routes(routes!(v1::tenants::pin::pin))
        .routes(routes!(v1::tenants::unpin::unpin))
        .routes(routes!(v1::reconcilers::list::list))
        .routes(routes!(v1::reconcilers::run::run))
        .routes(routes!(v1::audit::get::get))
        .routes(routes!(v1::sagas::list::list))
        .routes(routes!(v1::sagas::get::get))
        .routes(routes!(v1::sagas::retry::retry))
        .routes(routes!(v1::sagas::abandon::abandon))
}
