//! Links that open the page once.
//!
//! A browser gets the address as an argument, which every user of the machine can read. So it gets a link that leads to the page with its
//! token. A link works once, for a minute, and for this user alone.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Extension, Path, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use rustix::process::geteuid;
use serde_json::json;

use super::connections::Connection;
use super::gate::failed;
use super::peer;
use super::token_hash::TokenHash;
use crate::mcp::call_threads::CallThreads;
use crate::random_token::random_token;

/// How long a browser may take to start.
const LINK_TIMEOUT: Duration = Duration::from_secs(60);

/// How many may be open at a time: more than a person opens within a minute.
const MAX_LINKS: usize = 16;

/// The links of one server that are not used up.
pub(super) struct Links {
    /// Where they lead.
    token: String,
    open: Mutex<Vec<Link>>,
}

struct Link {
    code: TokenHash,
    made: Instant,
}

impl Links {
    pub(super) fn new(token: String) -> Self {
        Self { token, open: Mutex::default() }
    }

    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// Makes a link; returns its path.
    ///
    /// # Errors
    /// The system gives no random bytes.
    pub(super) fn make(&self, now: Instant) -> Result<String, getrandom::Error> {
        let code = random_token()?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_LINKS {
            open.remove(0);
        }
        open.push(Link { code: TokenHash::of(&code), made: now });
        Ok(format!("/open/{code}"))
    }

    /// Uses a link up; returns whether it was open.
    fn follow(&self, code: &str, now: Instant) -> bool {
        let code = TokenHash::of(code);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|link| now.saturating_duration_since(link.made) < LINK_TIMEOUT);
        let found = open.iter().position(|link| link.code == code);
        found.map(|at| open.remove(at)).is_some()
    }
}

/// What the routes work with.
pub(super) type LinkState = (Arc<Links>, Arc<CallThreads>);

/// Makes a link, for a command that opens the dashboard that is running.
pub(super) async fn make(State((links, _)): State<LinkState>) -> Response {
    match links.make(Instant::now()) {
        Ok(link) => Json(json!({ "link": link })).into_response(),
        Err(error) => failed(StatusCode::SERVICE_UNAVAILABLE, error),
    }
}

/// Leads to the page with its token.
pub(super) async fn follow(
    State((links, threads)): State<LinkState>,
    Extension(connection): Extension<Connection>,
    Path(code): Path<String>,
) -> Response {
    // The list of a machine with many connections is long, and other requests must not wait for it.
    let Ok(user) = threads.run(move |_| connection.ends.and_then(peer::user)).await else {
        return failed(StatusCode::INTERNAL_SERVER_ERROR, "cannot tell whose connection this is: a bug; see the log");
    };
    let is_ours = user.is_none_or(|user| user == geteuid().as_raw() || user == 0);
    if !is_ours {
        tracing::warn!(user, "another user of this machine tried to open the dashboard");
        return failed(
            StatusCode::FORBIDDEN,
            "cannot open the dashboard of another user; start your own: moadim-mcp dashboard",
        );
    }
    if links.follow(&code, Instant::now()) {
        return (StatusCode::SEE_OTHER, [(LOCATION, format!("/#token={}", links.token))]).into_response();
    }
    failed(StatusCode::NOT_FOUND, "this link is used up; run `moadim-mcp dashboard` again to open the page")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_there_once_and_for_a_minute() {
        let (links, now) = (Links::new("hush".to_owned()), Instant::now());
        let make = || links.make(now).unwrap().strip_prefix("/open/").unwrap().to_owned();
        let (one, other) = (make(), make());
        assert!(!links.follow("", now) && !links.follow("hush", now));
        assert!(links.follow(&one, now) && !links.follow(&one, now));
        assert!(!links.follow(&other, now + LINK_TIMEOUT));
        let all: Vec<String> = (0..=MAX_LINKS).map(|_| make()).collect();
        assert!(!links.follow(&all[0], now), "there are too many");
        assert!(all[1..].iter().all(|code| links.follow(code, now)));
    }
}
