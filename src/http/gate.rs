//! What each request passes on its way to the routes, and each answer on its way back.

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::{Body, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::header::{ALLOW, CONTENT_LENGTH, EXPECT, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::time::timeout;

use super::connections::Connection;
use super::guard::{self, Caller, Owner, Refusal, Screened};
use super::rate_limit::RateLimit;
use super::security_headers::SecurityHeaders;
use super::service_worker;
use super::token_hash::TokenHash;
use super::webhook_auth;
use crate::home::Home;
use crate::mcp::call_threads::CallThreads;

/// How large a request's body may be: larger than any arguments of a tool.
const MAX_BODY_BYTES: usize = 1024 * 1024;

/// How much of a body that is too large is read, so that its sender gets the answer and not a broken connection.
const MAX_DISCARDED_BYTES: usize = 16 * 1024 * 1024;

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer may take to begin: a tool waits 50 s at most, and a clean-up somewhat longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(150);

const MAX_WRONG_TOKENS_PER_MINUTE: usize = 100;

const MAX_TRIGGERS_PER_MINUTE: usize = 30;

/// What all requests to one server pass.
pub(super) struct Gate {
    home: Arc<Home>,
    port: u16,
    token: TokenHash,
    headers: SecurityHeaders,
    threads: Arc<CallThreads>,
    wrong_tokens: Mutex<RateLimit>,
    /// By the id of the webhook token.
    triggers: Mutex<HashMap<String, RateLimit>>,
}

impl Gate {
    pub(super) fn new(home: Home, port: u16, token: &str, page: &str, threads: Arc<CallThreads>) -> Self {
        Self {
            home: Arc::new(home),
            port,
            token: TokenHash::of(token),
            headers: SecurityHeaders::for_page(page),
            threads,
            wrong_tokens: Mutex::new(RateLimit::per_minute(MAX_WRONG_TOKENS_PER_MINUTE)),
            triggers: Mutex::default(),
        }
    }

    async fn decide(&self, head: &Parts) -> Result<Caller, Refusal> {
        match guard::screen(head, self.port)? {
            Screened::Open => Ok(Caller::Anyone),
            Screened::Token(token) => guard::authorize(head, self.owner_of(token).await),
        }
    }

    async fn owner_of(&self, token: &str) -> Owner {
        if TokenHash::of(token) == self.token {
            return Owner::Person;
        }
        if webhook_auth::id(token).is_none() {
            return Owner::Nobody;
        }
        // A slow disk must not hold up other requests. A look that panics, which is logged, finds nothing.
        let (home, token) = (Arc::clone(&self.home), token.to_owned());
        let found = self.threads.run(move |_| webhook_auth::find(&home, &token)).await;
        found.ok().flatten().map_or(Owner::Nobody, Owner::Webhook)
    }

    /// Counts a request that is counted.
    ///
    /// # Errors
    /// There are too many of its kind: the time until the next.
    fn count(&self, decision: &Result<Caller, Refusal>, now: Instant) -> Result<(), Duration> {
        match decision {
            Err(Refusal::WrongToken) => self.wrong_tokens.lock().unwrap_or_else(PoisonError::into_inner).take(now),
            Ok(Caller::Webhook(webhook)) => {
                let mut triggers = self.triggers.lock().unwrap_or_else(PoisonError::into_inner);
                let limit = || RateLimit::per_minute(MAX_TRIGGERS_PER_MINUTE);
                triggers.entry(webhook.id.clone()).or_insert_with(limit).take(now)
            }
            _ => Ok(()),
        }
    }

    async fn answer(&self, request: Request, next: Next) -> Response {
        let (mut head, body) = request.into_parts();
        let decision = self.decide(&head).await;
        if let Some(connection) = head.extensions.get::<Connection>() {
            connection.set_authenticated(decision == Ok(Caller::Person));
        }
        if let Err(wait) = self.count(&decision, Instant::now()) {
            return too_many(wait);
        }
        let caller = match decision {
            Ok(caller) => caller,
            Err(refusal) => return refused(refusal),
        };
        if guard::asks_for_service_worker(&head) {
            return service_worker::end();
        }
        if let Caller::Webhook(token) = &caller {
            webhook_auth::note_use(&self.home, token);
        }
        let body = if caller == Caller::Anyone {
            Body::empty()
        } else {
            match read(&head.headers, body).await {
                Ok(bytes) => bytes.into(),
                Err(status) => return failed(status, body_problem(status)),
            }
        };
        head.extensions.insert(caller);
        match timeout(ANSWER_TIMEOUT, next.run(Request::from_parts(head, body))).await {
            Ok(response) => response,
            Err(_) => failed(
                StatusCode::SERVICE_UNAVAILABLE,
                "no answer within 150 s; check the state (GET /api/runs) before you try again",
            ),
        }
    }
}

/// Judges a request, reads its body, has it answered, and adds to the answer what every answer has.
pub(super) async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let mut response = gate.answer(request, next).await;
    gate.headers.add_to(response.headers_mut());
    response
}

/// Returns an answer that says what is wrong.
pub(super) fn failed(status: StatusCode, error: impl std::fmt::Display) -> Response {
    (status, Json(json!({ "error": error.to_string() }))).into_response()
}

fn refused(refusal: Refusal) -> Response {
    let mut response = failed(refusal.status(), refusal);
    match refusal {
        Refusal::NoToken => {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"moadim-mcp\""));
        }
        Refusal::WrongToken => {
            let challenge = "Bearer realm=\"moadim-mcp\", error=\"invalid_token\"";
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        Refusal::Method(allowed) => {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
        }
        _ => {}
    }
    response
}

fn too_many(wait: Duration) -> Response {
    let secs = wait.as_secs() + 1;
    let mut response = failed(StatusCode::TOO_MANY_REQUESTS, format_args!("too many requests; try again in {secs} s"));
    response.headers_mut().insert(RETRY_AFTER, secs.into());
    response
}

fn body_problem(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => "the body is larger than 1 MiB; send a smaller one",
        StatusCode::REQUEST_TIMEOUT => "the body took longer than 10 s to arrive; send it again",
        _ => "the body is cut off; send it again",
    }
}

/// Reads a whole body.
///
/// # Errors
/// It is too large, too slow, or breaks off: the status that says so.
async fn read(headers: &HeaderMap, body: Body) -> Result<Vec<u8>, StatusCode> {
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    // Such a client sends nothing before it is asked to.
    if headers.contains_key(EXPECT) && length.is_some_and(|length| length > MAX_BODY_BYTES as u64) {
        return Err(StatusCode::PAYLOAD_TOO_LARGE);
    }
    timeout(BODY_TIMEOUT, read_all(body)).await.map_err(|_| StatusCode::REQUEST_TIMEOUT)?
}

async fn read_all(mut body: Body) -> Result<Vec<u8>, StatusCode> {
    let (mut kept, mut read) = (Vec::new(), 0);
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let Ok(bytes) = frame.map_err(|_| StatusCode::BAD_REQUEST)?.into_data() else { continue };
        read += bytes.len();
        if read <= MAX_BODY_BYTES {
            kept.extend_from_slice(&bytes);
        } else if read > MAX_DISCARDED_BYTES {
            break;
        }
    }
    if read <= MAX_BODY_BYTES { Ok(kept) } else { Err(StatusCode::PAYLOAD_TOO_LARGE) }
}
