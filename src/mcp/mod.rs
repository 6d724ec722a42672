//! The MCP face: JSON-RPC over stdio, in both eras of the protocol, and the tools. It has no logic of its own.
//!
//! Released: 2024-11-05 to 2025-11-25 (legacy, with a handshake) and 2026-07-28 (modern, stateless); a client may speak
//! either, or both in turn.

mod call_threads;
mod lifecycle;
mod message;
mod schema;
pub mod serve;
pub mod server;
mod stdio;
pub mod tool;
pub mod tools;

/// What the tools work on.
#[derive(Debug)]
pub struct Core {
    /// The program's version.
    pub version: &'static str,
}
