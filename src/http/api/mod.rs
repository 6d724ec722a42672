//! The routes below `/api`.

use std::io;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::Map;
use tokio_util::sync::CancellationToken;

use super::gate::failed;
use crate::mcp::call_threads::CallThreads;
use crate::mcp::tool::{Tool, call_by_name};
use crate::run::context::App;

/// What the routes work with.
pub(super) struct ApiState {
    app: Arc<App>,
    /// Those that are served.
    #[expect(dead_code, reason = "for the routes of tools")]
    tools: Vec<Tool>,
    /// Where tools run.
    threads: CallThreads,
    /// The server is to end: streams end, too.
    #[expect(dead_code, reason = "for the stream of events")]
    closing: CancellationToken,
}

impl ApiState {
    /// Starts the threads that tools run on.
    ///
    /// # Errors
    /// The system has no threads left.
    pub(super) fn new(app: Arc<App>, tools: Vec<Tool>, closing: CancellationToken) -> io::Result<Self> {
        Ok(Self { app, tools, threads: CallThreads::new()?, closing })
    }
}

/// Returns the routes. A request that gets to one is allowed, has its `guard::Caller` among its extensions, and its whole body.
pub(super) fn router(state: Arc<ApiState>) -> Router {
    Router::new().route("/api/health", get(health)).with_state(state)
}

async fn health(State(state): State<Arc<ApiState>>) -> Response {
    let app = Arc::clone(&state.app);
    match state.threads.run(move |_| call_by_name(&app, "health", Map::new())).await {
        Ok(Ok(answer)) => Json(answer).into_response(),
        Ok(Err(error)) => failed(StatusCode::UNPROCESSABLE_ENTITY, error),
        Err(error) => failed(StatusCode::INTERNAL_SERVER_ERROR, error.0),
    }
}
