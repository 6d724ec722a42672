//! The interface for programs: the tools by name (`tools`), what the resources are by path (`resources`), what changed (`events`),
//! its description (`openapi`), and figures for Prometheus (`metrics`).

mod events;
mod metrics;
mod openapi;
mod refusal;
mod resources;
mod tools;

use std::io;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;

use self::events::Events;
use self::metrics::Disk;
use self::refusal::Refusal;
use self::tools::Calls;
use crate::mcp::call_threads::CallThreads;
use crate::mcp::tool::Tool;
use crate::run::context::App;

/// What the routes work with.
pub(super) struct ApiState {
    app: Arc<App>,
    calls: Calls,
    events: Events,
    disk: Disk,
    /// Cancelled when the server shuts down: streams end, and so do calls that only wait.
    closing: CancellationToken,
}

impl ApiState {
    /// Starts the thread that looks for changes; tools run on `threads`.
    ///
    /// # Errors
    /// The system has no threads left.
    pub(super) fn new(
        app: Arc<App>,
        tools: Vec<Tool>,
        threads: Arc<CallThreads>,
        closing: CancellationToken,
    ) -> io::Result<Self> {
        let calls = Calls::new(tools, threads);
        Ok(Self { app, calls, events: Events::new()?, disk: Disk::default(), closing })
    }
}

/// Returns the routes. A request that gets to one is allowed, has its `guard::Caller` among its extensions, and its whole body.
pub(super) fn router(state: Arc<ApiState>) -> Router {
    let routes = Router::new()
        .route("/api/tools/{name}", post(tools::answer))
        .route("/api/events", get(events::answer))
        .route("/api/openapi.json", get(describe))
        .route("/metrics", get(metrics::answer));
    resources::TABLE
        .iter()
        .fold(routes, |routes, resource| routes.route(resource.path, resource.handler()))
        .method_not_allowed_fallback(wrong_method)
        .route("/api/", any(not_found))
        .route("/api/{*path}", any(not_found))
        .with_state(state)
}

/// Answers where a path takes other methods.
pub(super) async fn wrong_method(request: Request) -> Response {
    let path = crate::quote::shortened(request.uri().path(), 80);
    Refusal::method(format_args!("{path} is not served with {}", request.method())).into_response()
}

/// Answers where there is nothing.
pub(super) async fn not_found(request: Request) -> Response {
    let path = crate::quote::shortened(request.uri().path(), 80);
    Refusal::not_found(format_args!("there is no {path}; GET /api/openapi.json lists the paths")).into_response()
}

async fn describe(State(state): State<Arc<ApiState>>) -> Response {
    // Made once in a while, and small.
    Json(openapi::openapi(state.calls.tools())).into_response()
}
