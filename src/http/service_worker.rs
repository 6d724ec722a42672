//! The end of a service worker that something else left at our address.
//!
//! Another program may have been served at our port before. A browser lets its service worker answer for us, until it finds
//! another script where that one was: this one.

use axum::http::HeaderName;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

/// Takes the other's place, removes itself, and loads open pages from us. With `?` a page is loaded even if only its fragment
/// would be another.
const SCRIPT: &str = r#"addEventListener("install", () => skipWaiting());
addEventListener("activate", (event) => event.waitUntil(leave()));
async function leave() {
  await registration.unregister();
  for (const page of await clients.matchAll({ type: "window" })) {
    await page.navigate(`/?${new URL(page.url).hash}`).catch(() => {});
  }
}
"#;

/// Lets the script replace one for all of our paths, whichever path it has itself.
const SERVICE_WORKER_ALLOWED: HeaderName = HeaderName::from_static("service-worker-allowed");

/// Answers a browser that looks whether a service worker has a new script.
pub(super) fn end() -> Response {
    ([(CONTENT_TYPE, "text/javascript"), (SERVICE_WORKER_ALLOWED, "/")], SCRIPT).into_response()
}
