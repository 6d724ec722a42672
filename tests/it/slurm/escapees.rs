//! Every way to escape from an end, against every way to end a run on a node, all at once: nothing of a run is left there, nobody
//! else is hurt, and while something is left, its workbench stays. A minute passes before a run without a record is decided about.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::scene::{at_once, home, lines, start, supervisor, wait_for_job};
use crate::escapees::{ESCAPEES, ORPHAN, SPAWNED, STOPPED};
use crate::harness::{
    Cluster, PATIENCE, Seen, Server, TestHome, assert_says, kept_because, text, wait_for, wait_until,
};
use serde_json::json;

/// Where Slurm knows a job's processes by their parents, and where it knows them by control groups.
#[test]
fn nothing_escapes() {
    at_once([false, true], fight);
}

/// How a run comes to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Stop,
    Bound,
    Cancel,
    /// Its supervisor is killed.
    Kill,
}

const WAYS: [Way; 4] = [Way::Stop, Way::Bound, Way::Cancel, Way::Kill];

/// A run that is about to be ended.
struct Fighter {
    way: Way,
    run: String,
    cookie: String,
}

impl Fighter {
    fn start(home: &TestHome, server: &mut Server, way: Way) -> Self {
        // The last of them less often: there are four of it on a small machine.
        let escapees = ESCAPEES.replace("sleep 0.03", "sleep 0.2");
        let prompt = format!("echo >> {}/ran-{way:?}\n{escapees}{ORPHAN}exec sleep 300", home.scratch().display());
        let run = start(server, &format!("{way:?}"), &prompt, json!({ "max_runtime_secs": 600, "ttl_secs": 1 }));
        let cookie = text(&home.json(format!("running/{run}/run.json")).unwrap()["cookie"]);
        Self { way, run, cookie }
    }

    /// Lists its processes, but for the person who works in its directory. Most of them still are where their agent began.
    fn left(&self, home: &TestHome) -> Vec<Seen> {
        let workbench = home.workbench(&self.run);
        let mut found = home.processes();
        found.retain(|one| {
            // It is shown also once it is removed, with a word at its end.
            let directory = std::fs::read_link(format!("/proc/{}/cwd", one.id.pid)).unwrap_or_default();
            let is_inside = directory.to_string_lossy().starts_with(&*workbench.to_string_lossy());
            one.command != PERSON && (is_inside || one.cookie.as_ref() == Some(&self.cookie))
        });
        found
    }

    fn wait_for_all(&self, home: &TestHome) {
        let sleepers = (300..=311).filter(|number| *number != 310).map(|number| format!("sleep {number}"));
        let expected: BTreeSet<String> = sleepers.chain([STOPPED, SPAWNED].map(str::to_owned)).collect();
        wait_until(&format!("all escapees of {:?}", self.way), || {
            // A look costs the processor some milliseconds.
            std::thread::sleep(Duration::from_millis(100));
            let there: BTreeSet<String> = self.left(home).into_iter().map(|one| one.command).collect();
            expected.is_subset(&there)
        });
    }

    fn end(&self, cluster: &Cluster, home: &TestHome, server: &mut Server) {
        match self.way {
            Way::Stop => assert_eq!(server.stop(&self.run)["status"], "stopped"),
            Way::Bound => home.set_bound("bound", 1),
            Way::Cancel => {
                cluster.run("scancel", ["--name", &format!("moadim-{}", self.run)]).ok();
            }
            Way::Kill => {
                self.wait_until_the_orphan_is_written_down(home);
                supervisor(cluster, home, &self.run).kill();
            }
        }
    }

    /// Only its supervisor recognises it, and tells others.
    fn wait_until_the_orphan_is_written_down(&self, home: &TestHome) {
        let orphan = self.left(home).into_iter().find(|one| one.command == "sleep 311").expect("it is there");
        let pid = format!("\"pid\":{},", orphan.pid_there().expect("it lives"));
        let record = home.entry(&self.run).join("processes.json");
        wait_until("it to be written down", || {
            let noted = std::fs::read_to_string(&record).unwrap_or_default();
            noted.split_whitespace().collect::<String>().contains(&pid)
        });
    }

    /// Makes sure that the last clean-up removed no workbench of what is alive.
    fn assert_spared(&self, home: &TestHome) {
        // In this order: what goes meanwhile hides nothing.
        let is_there = home.workbench(&self.run).exists();
        let left = self.left(home);
        assert!(is_there || left.is_empty(), "the workbench of {:?} was removed, and there are {left:?}", self.way);
    }

    /// Returns its status, and what its reason says.
    fn expected(&self) -> (&'static str, &'static str) {
        match self.way {
            Way::Stop => ("stopped", "stopped on request"),
            Way::Bound => ("timed_out", "exceeded max runtime"),
            Way::Cancel => ("interrupted", "termination signal"),
            Way::Kill => ("lost", "its supervisor and its processes vanished"),
        }
    }

    fn assert_ended(&self, home: &TestHome, cluster: &Cluster, cgroups: bool) {
        let way = self.way;
        let left = self.left(home);
        assert!(left.is_empty(), "survivors of {way:?}: {left:?}");
        assert_eq!(lines(home, &format!("ran-{way:?}")), 1, "{way:?}");
        let history = home.history(&self.run);
        assert_eq!(history.len(), 1, "{history:?}");
        let (status, reason) = self.expected();
        assert_eq!(history[0]["status"], status, "{history:?}");
        assert_says(&text(&history[0]["reason"]), &[reason]);
        // Only where nobody else can know what is left.
        let checks = cluster.job_states(&format!("moadim-check.{}", self.run));
        let expected: &[&str] = if way == Way::Kill && !cgroups { &["COMPLETED"] } else { &[] };
        assert_eq!(checks, expected, "{way:?}");
    }
}

/// Somebody who is at work on the node, in the directory of a run.
struct Person(Child);

const PERSON: &str = "sleep 352";

impl Person {
    fn start(cluster: &Cluster, home: &TestHome, run: &str) -> Self {
        let mut sleep = Command::new("sleep");
        sleep.arg("352").current_dir(home.workbench(run));
        Self(cluster.on(1, &sleep).stdin(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for those who must live on: the person, and the agent of another run.
fn bystanders(home: &TestHome) -> Vec<Seen> {
    wait_for(PATIENCE, "the bystanders", || {
        let mut found = home.processes_named("sleep");
        found.retain(|one| [PERSON, "sleep 351"].contains(&one.command.as_str()));
        (found.len() == 2).then_some(found)
    })
}

fn fight(cgroups: bool) {
    let home = home("");
    let Some(cluster) = Cluster::with(|settings| {
        // Longer than a supervisor takes that Slurm tells to end.
        (settings.nodes, settings.cgroups, settings.kill_wait_secs) = (1, cgroups, 10);
    }) else {
        return;
    };
    let mut server = cluster.server(&home);
    let other = start(&mut server, "Other", "exec sleep 351", json!({ "max_runtime_secs": 600 }));
    let fighters = WAYS.map(|way| Fighter::start(&home, &mut server, way));
    let killed = &fighters[3];
    let _person = Person::start(&cluster, &home, &killed.run);
    fighters.iter().for_each(|one| one.wait_for_all(&home));
    let bystanders = bystanders(&home);

    // The one that is waited for comes last.
    fighters.iter().rev().for_each(|one| one.end(&cluster, &home, &mut server));
    wait_for_job(&cluster, &killed.run, "FAILED");
    if cgroups {
        wait_until("Slurm to end what is left", || killed.left(&home).is_empty());
    } else {
        assert!(killed.left(&home).len() > 10, "{:?}", killed.left(&home));
    }
    assert_says(&kept_because(&server.clean_up(), &killed.run), &["alive"]);
    wait_until("all ends", || {
        server.clean_up();
        fighters.iter().for_each(|one| one.assert_spared(&home));
        fighters.iter().all(|one| !home.entry(&one.run).exists())
    });
    fighters.iter().for_each(|one| one.assert_ended(&home, &cluster, cgroups));
    wait_until("the workbenches to go", || {
        server.clean_up();
        fighters.iter().all(|one| !home.workbench(&one.run).exists())
    });
    assert!(bystanders.iter().all(|one| one.id.is_alive()), "{bystanders:?}");
    let seen = server.run(&other);
    assert!(seen["status"] == "running" && seen.get("status_reason").is_none(), "{seen}");
    assert_eq!(server.stop(&other)["status"], "stopped");
}
