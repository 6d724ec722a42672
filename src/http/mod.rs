//! The same tools over HTTP, on this machine's loopback alone: for the dashboard in a browser, and for programs.
//!
//! A connection is accepted (`serve`, `connections`), a request's head is judged before its body is read (`guard`, `gate`), and
//! what is left goes to the routes (`api`). `running` is how commands find the server of a home.

mod api;
mod connections;
mod gate;
mod guard;
mod links;
mod peer;
mod rate_limit;
pub(crate) mod running;
mod security_headers;
pub(crate) mod serve;
mod token_hash;
pub(crate) mod webhook_auth;
