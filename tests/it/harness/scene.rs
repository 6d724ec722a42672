//! What most tests begin with: a home and a server in it, a routine, a run, and then what must hold.

use std::fmt;
use std::ops::{Deref, Index};

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::calls::text;
use super::home::TestHome;
use super::server::Server;

/// A home without windows, with the agent `shell` and a short grace, in which a server is about to start.
///
/// ```ignore
/// let (home, mut server) = Scene::new().config("default_ttl_secs = 1\n").agent("plain", "login_shell = false\n").start();
/// let run = server.routine("Fails", "exit 7").run_to("failed");
/// assert_has(&run.view, json!({ "exit_code": 7 }));
/// ```
#[must_use]
pub struct Scene {
    home: TestHome,
}

impl Scene {
    pub fn new() -> Self {
        Self { home: TestHome::detached("") }
    }

    /// One in which only a call cleans up, after the passes that are made at the start.
    pub fn unwatched() -> Self {
        Self::new().config("watchdog_interval_secs = 600\n")
    }

    /// Adds lines to `config.toml`.
    pub fn config(self, lines: &str) -> Self {
        self.home.configure_detached(lines);
        self
    }

    /// Adds an agent that executes its prompt with `sh`; `lines` are the rest of its file. `shell` may be replaced.
    pub fn agent(self, name: &str, lines: &str) -> Self {
        self.home.add_agent(name, &format!("command = \"sh\"\n{lines}\n"));
        self
    }

    pub fn start(self) -> (TestHome, Server) {
        let server = Server::start(&self.home);
        (self.home, server)
    }

    /// Starts the server and waits for its first sweep: what is due from then on is left to the test's own clean-ups.
    pub fn start_swept(self) -> (TestHome, Server) {
        let (home, mut server) = self.start();
        server.wait_for_the_first_sweep();
        (home, server)
    }
}

/// A run that has ended, as `list_runs` showed it then. It stands for its id wherever one is wanted.
#[derive(Debug, Clone)]
pub struct Run {
    pub id: String,
    pub view: Value,
}

impl Deref for Run {
    type Target = str;

    fn deref(&self) -> &str {
        &self.id
    }
}

impl Index<&str> for Run {
    type Output = Value;

    fn index(&self, key: &str) -> &Value {
        &self.view[key]
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

impl Serialize for Run {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.id)
    }
}

impl PartialEq<Run> for Value {
    fn eq(&self, run: &Run) -> bool {
        self == run.id.as_str()
    }
}

/// A routine that is about to be created; the agent `shell` executes its prompt unless the arguments name another.
#[must_use]
pub struct NewRoutine<'a> {
    server: &'a mut Server,
    arguments: Value,
}

impl NewRoutine<'_> {
    /// Adds arguments of `create_routine`.
    pub fn with(mut self, more: Value) -> Self {
        let more = more.as_object().expect("further arguments").clone();
        self.arguments.as_object_mut().unwrap().extend(more);
        self
    }

    #[track_caller]
    pub fn create(self) -> String {
        text(&self.server.ok("create_routine", self.arguments)["routine"]["slug"])
    }

    /// Creates and triggers it, and waits until its run is as wanted.
    #[track_caller]
    pub fn run_to(self, status: &str) -> Run {
        let routine = text(&self.server.ok("create_routine", self.arguments)["routine"]["slug"]);
        self.server.run_to(&routine, status)
    }
}

impl Server {
    /// Begins a routine with this title and prompt.
    pub fn routine(&mut self, title: &str, prompt: &str) -> NewRoutine<'_> {
        NewRoutine { server: self, arguments: json!({ "title": title, "agent": "shell", "prompt": prompt }) }
    }

    /// Triggers a routine and waits until its run is as wanted.
    #[track_caller]
    pub fn run_to(&mut self, routine: &str, status: &str) -> Run {
        let id = self.trigger(routine);
        let view = self.wait_for_run(&id, status);
        Run { id, view }
    }
}

/// Makes sure that a document has these values, whatever else it has. Null means that there is none.
#[track_caller]
pub fn assert_has(document: &Value, expected: Value) {
    for (key, value) in expected.as_object().expect("the expected keys") {
        assert_eq!(document[key], *value, "`{key}` of {document}");
    }
}

/// Makes sure that a text has each of these parts.
#[track_caller]
pub fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part} is missing in: {text}");
    }
}
