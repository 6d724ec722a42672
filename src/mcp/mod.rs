//! The MCP face: JSON-RPC over stdio, in both eras of the protocol, and the tools. It has no logic of its own.
//!
//! Released: 2024-11-05 to 2025-11-25 (legacy, with a handshake) and 2026-07-28 (modern, stateless); a client may speak
//! either, or both in turn.

pub mod call;
mod call_threads;
mod lifecycle;
mod message;
mod schema;
pub mod serve;
pub mod server;
mod stdio;
pub mod tool;
pub mod tools;

use std::sync::Arc;
use std::time::Duration;

use crate::agent::{ProbedPath, SearchPath};
use crate::janitor::status::Status;
use crate::run::workplace::Site;

/// What the tools work on.
#[derive(Debug)]
pub struct Core {
    /// The home, and what works there.
    pub site: Arc<Site>,
    /// What the janitor of this process does.
    pub janitor: Arc<Status>,
    /// Where agents' commands are found.
    pub search_path: Arc<ProbedPath>,
}

/// How long a call waits for the login shell's answer, which is asked for once, when the server starts.
const SEARCH_PATH_PATIENCE: Duration = Duration::from_millis(500);

impl Core {
    fn search_path(&self) -> SearchPath {
        self.search_path.get(SEARCH_PATH_PATIENCE)
    }
}

/// How the pieces fit, for the model that is given the tools.
pub const INSTRUCTIONS: &str = "\
moadim-mcp runs AI agents unattended. A routine is a saved definition: a prompt, an agent and limits. Triggering a routine \
starts a run: the agent works in a workbench (a directory) of its own, long after the call has returned and even after this \
server has gone. Start with list_agents, then create_routine, trigger_routine; follow with wait_run, list_runs, get_run and read_log; end with \
stop_run. Routines are named by `routine` (their slug), runs by `run` (their id). A run past max_runtime_secs is ended with \
all its processes; a finished workbench is removed ttl_secs after its finish. Both happen by themselves; cleanup_workbenches \
does it now, and with dry_run says what it would do and why. health lists everything that is wrong, and its cure.";
