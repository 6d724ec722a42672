//! The tools as tests use them: a call that must succeed, and its answer without the wrapping.

use serde_json::{Value, json};

use super::PATIENCE;
use super::server::Server;
use super::wait_for;

impl Server {
    /// Calls a tool that must succeed, with text and structure that say the same.
    #[track_caller]
    pub fn ok(&mut self, tool: &str, arguments: Value) -> Value {
        self.call_tool(tool, arguments).ok()
    }

    /// Calls a tool that must fail, and returns what it says.
    #[track_caller]
    pub fn error(&mut self, tool: &str, arguments: Value) -> String {
        self.call_tool(tool, arguments).error()
    }

    /// Creates a routine whose prompt the agent `shell` executes; `more` are further arguments. Returns its slug.
    #[track_caller]
    pub fn create(&mut self, title: &str, prompt: &str, more: Value) -> String {
        self.routine(title, prompt).with(more).create()
    }

    #[track_caller]
    pub fn trigger(&mut self, routine: &str) -> String {
        text(&self.ok("trigger_routine", json!({ "routine": routine }))["run"]["id"])
    }

    #[track_caller]
    pub fn start_run(&mut self, title: &str, prompt: &str, more: Value) -> String {
        let routine = self.create(title, prompt, more);
        self.trigger(&routine)
    }

    /// Returns a run as `list_runs` shows it; `None` if it does not.
    #[track_caller]
    pub fn find_run(&mut self, run: &str) -> Option<Value> {
        let listed = self.ok("list_runs", json!({ "limit": 200 }));
        listed["runs"].as_array().expect("runs").iter().find(|one| one["id"] == run).cloned()
    }

    #[track_caller]
    pub fn run(&mut self, run: &str) -> Value {
        self.find_run(run).expect("the run is listed")
    }

    #[track_caller]
    pub fn wait_for_run(&mut self, run: &str, status: &str) -> Value {
        let mut last = Value::Null;
        wait_for(PATIENCE, &format!("{run} to be {status}"), || {
            last = self.run(run);
            let over = !["queued", "preparing", "running", "unknown"].contains(&last["status"].as_str()?);
            assert!(!over || last["status"] == status, "{last}");
            (last["status"] == status).then(|| last.clone())
        })
    }

    /// Returns the clean text of a run's log.
    #[track_caller]
    pub fn log(&mut self, run: &str) -> String {
        text(&self.ok("read_log", json!({ "run": run, "tail_lines": 10_000 }))["text"])
    }

    #[track_caller]
    pub fn wait_for_log(&mut self, run: &str, wanted: &str) {
        wait_for(PATIENCE, &format!("{wanted:?} in the log of {run}"), || self.log(run).contains(wanted).then_some(()));
    }

    #[track_caller]
    pub fn stop(&mut self, run: &str) -> Value {
        self.ok("stop_run", json!({ "run": run }))["run"].clone()
    }

    /// Cleans up everything and returns the report.
    #[track_caller]
    pub fn clean_up(&mut self) -> Value {
        self.ok("cleanup_workbenches", json!({}))
    }

    #[track_caller]
    pub fn problems(&mut self) -> Vec<Value> {
        self.ok("health", json!({}))["problems"].as_array().expect("problems").clone()
    }
}

#[track_caller]
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
