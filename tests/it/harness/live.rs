//! A run that is alive while something goes wrong around it, and what must be said of it then.

use moadim_mcp::clock::UnixSeconds;
use moadim_mcp::run::id::RunId;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::calls::text;
use super::home::TestHome;
use super::processes::Seen;
use super::server::Server;
use super::{PATIENCE, wait_for};

/// A run that hangs, and its agent; its retention is over as soon as it is.
pub struct Live {
    pub run: String,
    pub agent: Seen,
}

impl Live {
    pub fn start(home: &TestHome, server: &mut Server, title: &str) -> Self {
        Self::start_with(home, server, title, "sleep 300 & exec sleep 301")
    }

    /// Starts one with a prompt of its own.
    pub fn start_with(home: &TestHome, server: &mut Server, title: &str, prompt: &str) -> Self {
        let run = server.start_run(title, prompt, json!({ "ttl_secs": 1 }));
        let agent = home.noted(&run, "agent");
        Self { run, agent }
    }

    /// Waits until nothing but its life keeps its workbench.
    pub fn outlive_its_retention(&self) {
        let id: RunId = self.run.parse().unwrap();
        wait_for(PATIENCE, "the retention to pass", || (id.stamp().age_secs_at(UnixSeconds::now()) > 1).then_some(()));
    }

    /// Cleans up, and makes sure that the run is shown as wanted, with the reason if there is one, and was not touched.
    #[track_caller]
    pub fn assert_spared(&self, home: &TestHome, server: &mut Server, status: &str, reason: Option<&str>) -> Value {
        self.outlive_its_retention();
        let report = server.clean_up();
        let seen = server.run(&self.run);
        assert_eq!(report["killed"], json!([]), "{report}");
        assert_eq!(seen["status"], status, "{seen}");
        let kept = kept_because(&report, &self.run);
        match reason {
            None => assert!(seen.get("status_reason").is_none() && kept.contains("alive"), "{seen} {kept}"),
            Some(reason) => {
                assert!(text(&seen["status_reason"]).contains(reason), "{seen}");
                assert!(kept.contains(reason), "{kept}");
                let problems = server.problems();
                let says = |one: &Value| text(&one["problem"]).contains(&self.run);
                let problem = problems.iter().find(|one| says(one)).unwrap_or_else(|| panic!("{problems:?}"));
                assert!(text(&problem["problem"]).contains(reason), "{problem}");
            }
        }
        assert!(self.agent.id.is_alive());
        assert!(home.entry(&self.run).exists() && home.workbench(&self.run).exists());
        assert_eq!((home.history(&self.run).len(), home.outcome(&self.run)), (0, None));
        report
    }
}

#[track_caller]
pub fn kept_because(report: &Value, run: &str) -> String {
    let kept = report["kept"].as_array().unwrap().iter().find(|one| one["run"] == *run);
    text(&kept.unwrap_or_else(|| panic!("{run} is not kept: {report}"))["reason"])
}

/// Ends all processes of a run at once, as far as anybody can tell. Its agent has started a `sleep`, or is about to.
pub fn cut_the_power(home: &TestHome, run: &str) {
    let supervisor = home.noted(run, "supervisor");
    // One that is in the middle of becoming it shows no cookie.
    wait_for(PATIENCE, "its sleep", || {
        home.processes_named("sleep").iter().any(|one| one.cookie == supervisor.cookie).then_some(())
    });
    supervisor.signal(Signal::STOP);
    wait_for(PATIENCE, "all others to be gone", || {
        let mut others = home.processes();
        others.retain(|one| one.cookie == supervisor.cookie && one.id != supervisor.id);
        others.iter().for_each(Seen::kill);
        others.is_empty().then_some(())
    });
    supervisor.kill();
    wait_for(PATIENCE, "the supervisor to be gone", || (!supervisor.id.is_alive()).then_some(()));
}

/// A home in which only a call cleans up, after the passes that are made at the start.
pub fn unwatched() -> TestHome {
    TestHome::detached("watchdog_interval_secs = 600\n")
}
