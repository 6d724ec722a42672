//! A home whose scheduler has a clock that the test moves, and routines that are written by hand.

use std::path::PathBuf;

use moadim_mcp::clock::UnixSeconds;
use serde_json::{Value, json};

use super::home::TestHome;
use super::server::Server;
use super::{PATIENCE, wait_for};

/// 2026-01-01T00:00:00Z, from which these tests count.
const START: u64 = 1_767_225_600;
pub const MINUTE: u64 = 60;
pub const HOUR: u64 = 3600;

/// Returns the time so many seconds after that.
pub fn at(secs: u64) -> String {
    UnixSeconds(START + secs).to_string()
}

/// Returns how many seconds after that it is now.
pub fn now() -> u64 {
    UnixSeconds::now().0 - START
}

/// A home whose scheduler has a clock that the test moves.
pub struct Stage {
    pub home: TestHome,
    pub clock: PathBuf,
}

impl Stage {
    /// Makes one with these settings; its clock stands still.
    pub fn new(settings: &str) -> Self {
        let stage = Self::unconfigured();
        stage.configure(settings);
        stage
    }

    /// Makes one in whose moadim home nothing is yet.
    pub fn unconfigured() -> Self {
        let home = TestHome::new();
        let clock = home.scratch().join("clock");
        let stage = Self { home, clock };
        stage.set_clock(0);
        stage
    }

    pub fn configure(&self, settings: &str) {
        self.home.configure_detached(settings);
        self.home.add_agent("quick", "command = \"sh\"\nlogin_shell = false\n");
    }

    pub fn set_clock(&self, secs: u64) {
        let staged = self.clock.with_extension("new");
        std::fs::write(&staged, (START + secs).to_string()).unwrap();
        std::fs::rename(staged, &self.clock).unwrap();
    }

    pub fn server(&self) -> Server {
        let mut command = self.home.command();
        command.env("MOADIM_TEST_CLOCK", &self.clock);
        Server::start_with(command)
    }

    /// Writes a routine by hand; `fields` are further lines of its file.
    pub fn routine(&self, slug: &str, prompt: &str, fields: &str) {
        self.routine_of("quick", slug, prompt, fields);
    }

    /// Writes a routine of this agent.
    pub fn routine_of(&self, agent: &str, slug: &str, prompt: &str, fields: &str) {
        let made = at(0);
        let head = format!(
            "title = \"{slug}\"\nagent = \"{agent}\"\ncreated_at = \"{made}\"\nupdated_at = \"{made}\"\ntimezone = \"UTC\"\n"
        );
        self.home.write(format!("routines/{slug}/prompt.md"), prompt);
        self.home.write(format!("routines/{slug}/routine.toml"), &format!("{head}{fields}\n"));
    }

    /// Reads a routine's ledger; null while there is none.
    pub fn ledger(&self, slug: &str) -> Value {
        self.home.json(format!("routines/{slug}/ledger.json")).unwrap_or_default()
    }

    /// Waits until the scheduler follows a routine's schedule.
    pub fn wait_until_followed(&self, slug: &str, schedule: &str) {
        wait_for(PATIENCE, "the schedule to be followed", || {
            (self.ledger(slug)["schedule"]["schedule"] == schedule).then_some(())
        });
    }

    pub fn history(&self, slug: &str) -> Vec<Value> {
        let of_routine = |line: &Value| match line["id"].as_str() {
            Some(run) => run.rsplit_once('-').unwrap().0 == slug,
            None => line["routine"] == slug,
        };
        self.home.readable_history().into_iter().filter(of_routine).collect()
    }

    pub fn ended(&self, slug: &str) -> Vec<Value> {
        self.history(slug).into_iter().filter(|line| line["id"].is_string()).collect()
    }

    pub fn missed(&self, slug: &str) -> Vec<Value> {
        self.history(slug).into_iter().filter(|line| line["kind"] == "missed").collect()
    }

    /// Waits until so many runs of a routine have ended, and none is alive.
    pub fn wait_for_ended(&self, slug: &str, count: usize) -> Vec<Value> {
        wait_for(PATIENCE, &format!("{count} runs of {slug} to end"), || {
            let ended = self.ended(slug);
            (ended.len() >= count && self.alive(slug).is_empty()).then_some(ended)
        })
    }

    pub fn wait_for_missed(&self, slug: &str, count: usize) -> Vec<Value> {
        wait_for(PATIENCE, &format!("{count} misses of {slug}"), || {
            let missed = self.missed(slug);
            (missed.len() >= count).then_some(missed)
        })
    }

    pub fn alive(&self, slug: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.home.root().join("running")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.rsplit_once('-').is_some_and(|(of, _)| of == slug)).collect()
    }

    pub fn wait_for_alive(&self, slug: &str, count: usize) -> Vec<String> {
        wait_for(PATIENCE, &format!("{count} runs of {slug} to be alive"), || {
            let alive = self.alive(slug);
            (alive.len() == count).then_some(alive)
        })
    }

    /// Lets those end that wait for the gate.
    pub fn open_the_gate(&self) {
        std::fs::write(self.home.scratch().join("gate"), "").unwrap();
    }

    /// Returns a prompt that ends once the gate is open.
    pub fn until_the_gate_opens(&self) -> String {
        format!("while [ ! -e {}/gate ]; do sleep 0.05; done", self.home.scratch().display())
    }
}

/// Returns a routine as `list_routines` shows it.
pub fn routine_view(server: &mut Server, slug: &str) -> Value {
    server.ok("list_routines", json!({ "query": slug }))["routines"][0].clone()
}
