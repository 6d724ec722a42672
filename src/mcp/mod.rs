//! The MCP face: JSON-RPC over stdio, in both eras of the protocol; tools, resources, prompts, tasks. It has no logic of its
//! own.
//!
//! Released: 2024-11-05 to 2025-11-25 (legacy, with a handshake) and 2026-07-28 (modern, stateless); a client may speak
//! either, or both in turn.

pub mod call;
mod call_threads;
mod calling;
mod completion;
pub mod consent;
mod identity;
mod lifecycle;
mod listening;
mod message;
mod prompts;
mod resources;
mod schema;
pub mod serve;
pub mod server;
mod stdio;
mod subscriptions;
mod tasks;
pub mod tool;
pub mod tools;

use std::sync::Arc;
use std::time::Duration;

use crate::agent::{SearchPath, ShellPaths};
use crate::janitor::status::Status;
use crate::run::context::App;

/// What the tools work on.
#[derive(Debug)]
pub struct Core {
    /// The home, and what works there.
    pub app: Arc<App>,
    /// What the janitor of this process does.
    pub janitor: Arc<Status>,
    /// Where agents' commands are found.
    pub shell_paths: Arc<ShellPaths>,
}

/// How long a call waits for the login shell's answer, which is asked for once, when the server starts.
const SEARCH_PATH_PATIENCE: Duration = Duration::from_millis(500);

impl Core {
    fn search_path(&self) -> SearchPath {
        self.shell_paths.get(SEARCH_PATH_PATIENCE)
    }
}

/// How the pieces fit, for the model that is given the tools.
pub const INSTRUCTIONS: &str = "\
moadim-mcp runs AI agents unattended. A routine is a saved prompt with an agent and limits; each trigger of it makes a run.
A run works in a directory of its own (its workbench), long after the call has returned and even after this server has gone.
1. list_agents says who can work. create_routine saves what is to be done: nobody will be there to answer questions.
2. trigger_routine starts a run now; with `wait` it waits for its end. A routine with a `schedule` also fires by itself.
3. wait_run waits, read_log shows what was printed, get_run tells all about one run, list_runs what ran. stop_run ends one.
4. A run past max_runtime_secs, or silent for max_silence_secs, is ended with all its processes. That needs no call.
5. A finished run's workbench goes after ttl_secs: copy what is to last, or pin_run it. The history of runs stays.
6. cleanup_workbenches cleans up now; with dry_run it says what would go, and why the rest stays.
Names: `routine` is a routine's slug, `run` a run's id. Resources moadim://... show the same, and tell of changes.
Where a tool says that a person has to agree, ask them; `confirm` is their word, not yours. health names what is wrong.";

#[cfg(test)]
impl Core {
    /// Makes a core over an empty home, which lasts as long as the directory that comes with it.
    pub(crate) fn example() -> (tempfile::TempDir, Self) {
        use crate::home::Home;
        use crate::run::context::Program;

        let dir = tempfile::tempdir().unwrap();
        let home = Home::open(dir.path().join("home")).unwrap();
        std::fs::write(home.config_file(), "session_host = 'detached'").unwrap();
        let app = Arc::new(App::new(home, Program::current().unwrap()));
        let core = Self { app, janitor: Arc::default(), shell_paths: Arc::default() };
        (dir, core)
    }
}
