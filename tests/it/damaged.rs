//! Damaged files: each is named in `health` and by the tool that needs it, all else works, and nothing is overwritten.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::harness::{PATIENCE, Scene, Server, TestHome, text, wait_for, wait_until};
use serde_json::{Value, json};

/// The name of a damage, and how it is done to a file that was whole.
type Damage = (&'static str, fn(&Path, &[u8]));

/// What can become of a file; each is given what it was.
const DAMAGES: [Damage; 7] = [
    ("empty", |path, _| fs::write(path, "").unwrap()),
    ("truncated", |path, whole| fs::write(path, &whole[..10]).unwrap()),
    ("binary", |path, _| fs::write(path, [0xff, 0, 0x1b, 0x80, b'\n', 0xfe]).unwrap()),
    ("huge", |path, _| File::create(path).unwrap().set_len(100 << 20).unwrap()),
    ("newer", |path, _| fs::write(path, r#"{"version": 99, "shape": "new"}"#).unwrap()),
    ("wrong types", |path, _| {
        let json = path.extension().is_some_and(|extension| extension == "json");
        let text = if json { r#"{"version": 1, "id": 7, "process": "x"}"# } else { "title = 7\ncommand = 7\n" };
        fs::write(path, text).unwrap();
    }),
    ("directory", |path, _| {
        fs::remove_file(path).unwrap();
        fs::create_dir(path).unwrap();
        fs::write(path.join("a file"), "kept").unwrap();
    }),
];

/// A file that is damaged while this lives.
struct Damaged {
    path: PathBuf,
    whole: Vec<u8>,
    what: String,
    after: (u64, u64, i64, i64),
}

impl Damaged {
    fn new(path: PathBuf, (name, damage): Damage) -> Self {
        let whole = fs::read(&path).unwrap();
        damage(&path, &whole);
        let what = format!("{} {name}", path.file_name().unwrap().display());
        Self { after: Self::look(&path), path, whole, what }
    }

    fn look(path: &Path) -> (u64, u64, i64, i64) {
        let metadata = path.symlink_metadata().unwrap();
        (metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec())
    }

    /// Makes sure that `answer` names the file.
    #[track_caller]
    fn named_in(&self, answer: &str) {
        assert!(answer.contains(self.path.to_str().unwrap()), "{}: {answer}", self.what);
        assert!(answer.len() < 2048, "{}: {} bytes", self.what, answer.len());
    }

    #[track_caller]
    fn named_in_health(&self, server: &mut Server) {
        let problems = Value::from(server.problems()).to_string();
        assert!(problems.contains(self.path.to_str().unwrap()), "{}: {problems}", self.what);
    }

    /// Makes sure that nobody has touched it, and puts back what it was.
    #[track_caller]
    fn restore(self) {
        assert_eq!(Self::look(&self.path), self.after, "{} was changed", self.what);
        if self.path.is_dir() {
            assert_eq!(fs::read_to_string(self.path.join("a file")).unwrap(), "kept");
            fs::remove_dir_all(&self.path).unwrap();
        }
        fs::write(&self.path, &self.whole).unwrap();
    }
}

/// A server with a routine of another name that has to work whatever is damaged.
fn healthy() -> (TestHome, Server) {
    let (home, mut server) = Scene::new().agent("quick", "login_shell = false").start();
    server.ok("create_routine", json!({ "title": "Other", "agent": "quick", "prompt": "true" }));
    (home, server)
}

#[track_caller]
fn others_work(server: &mut Server) {
    let run = server.ok("trigger_routine", json!({ "routine": "other", "overlap": "allow" }))["run"]["id"].clone();
    server.wait_for_run(run.as_str().unwrap(), "succeeded");
    server.ok("list_routines", json!({}));
    server.clean_up();
}

#[test]
fn a_damaged_manifest_leaves_its_live_run_alone() {
    let (home, mut server) = healthy();
    let run = server.start_run("Live", "exec sleep 300", json!({}));
    let agent = home.noted(&run, "agent");
    for damage in DAMAGES {
        let damaged = Damaged::new(home.entry(&run).join("run.json"), damage);
        damaged.named_in_health(&mut server);
        let listed = server.run(&run);
        assert_eq!(listed["status"], "running", "{}: its supervisor lives", damaged.what);
        damaged.named_in(&text(&listed["status_reason"]));
        damaged.named_in(&server.error("stop_run", json!({ "run": run })));
        others_work(&mut server);
        assert!(agent.id.is_alive(), "{}: the agent was ended", damaged.what);
        damaged.restore();
    }
    assert_eq!(server.stop(&run)["status"], "stopped");
}

#[test]
fn a_damaged_outcome_keeps_its_workbench() {
    let (home, mut server) = healthy();
    let run = server.routine("Done", "echo done").with(json!({ "ttl_secs": 1 })).run_to("succeeded");
    wait_until("it to be due", || {
        let foreseen = server.ok("cleanup_workbenches", json!({ "dry_run": true }));
        foreseen["removed"].as_array().unwrap().iter().any(|one| one["run"] == run)
    });
    let path = home.workbench(&run).join("outcome.json");
    for damage in DAMAGES {
        let damaged = Damaged::new(path.clone(), damage);
        damaged.named_in_health(&mut server);
        damaged.named_in(&text(&server.run(&run)["status_reason"]));
        assert_eq!(server.log(&run), "done\n");
        let report = server.clean_up();
        let kept = report["kept"].as_array().unwrap().iter().find(|one| one["run"] == run).expect("it is kept");
        damaged.named_in(&text(&kept["reason"]));
        damaged.restore();
    }
    others_work(&mut server);
}

#[test]
fn a_damaged_routine_takes_away_itself_alone() {
    let (home, mut server) = healthy();
    server.create("Broken", "true", json!({}));
    for damage in DAMAGES {
        let damaged = Damaged::new(home.root().join("routines/broken/routine.toml"), damage);
        damaged.named_in_health(&mut server);
        damaged.named_in(&server.error("trigger_routine", json!({ "routine": "broken" })));
        let again = json!({ "title": "Broken", "agent": "shell", "prompt": "x" });
        assert!(server.error("create_routine", again).contains("'broken' exists already"));
        others_work(&mut server);
        damaged.restore();
    }
    server.run_to("broken", "succeeded");
}

#[test]
fn damaged_settings_stop_what_depends_on_them() {
    let (home, mut server) = healthy();
    let run = server.start_run("Live", "exec sleep 300", json!({}));
    // Without settings the defaults hold: there is nothing wrong with an empty file.
    for damage in DAMAGES.into_iter().filter(|(name, _)| *name != "empty") {
        let damaged = Damaged::new(home.root().join("config.toml"), damage);
        damaged.named_in_health(&mut server);
        damaged.named_in(&server.error("trigger_routine", json!({ "routine": "other" })));
        damaged.named_in(&server.error("cleanup_workbenches", json!({})));
        assert_eq!(server.run(&run)["status"], "running", "{}", damaged.what);
        damaged.restore();
        others_work(&mut server);
    }
    assert_eq!(server.stop(&run)["status"], "stopped");
}

#[test]
fn a_damaged_agent_takes_away_itself_alone() {
    let (home, mut server) = healthy();
    server.create("Of the shell", "true", json!({}));
    for damage in DAMAGES {
        let damaged = Damaged::new(home.root().join("agents/shell.toml"), damage);
        damaged.named_in_health(&mut server);
        damaged.named_in(&server.error("trigger_routine", json!({ "routine": "of-the-shell" })));
        others_work(&mut server);
        damaged.restore();
    }
    server.run_to("of-the-shell", "succeeded");
}

#[test]
fn a_damaged_history_is_only_added_to() {
    let (home, mut server) = healthy();
    others_work(&mut server);
    let path = home.root().join("history.jsonl");
    // A file that is too large is closed, and so one of several.
    let whole = || {
        let files = fs::read_dir(home.root()).unwrap().map(|file| file.unwrap().path());
        let mut files: Vec<_> = files.filter(|path| path.to_str().unwrap().ends_with(".jsonl")).collect();
        files.sort();
        files.iter().map(|path| fs::read(path).unwrap()).collect::<Vec<_>>().concat()
    };
    for (name, damage) in DAMAGES.into_iter().filter(|(name, _)| *name != "directory") {
        damage(&path, &fs::read(&path).unwrap());
        let before = whole();
        let run = server.ok("trigger_routine", json!({ "routine": "other", "overlap": "allow" }))["run"]["id"].clone();
        server.wait_for_run(run.as_str().unwrap(), "succeeded");
        // The line is there before the entry goes, and so before the run counts as over.
        let after = whole();
        let added = String::from_utf8(after.strip_prefix(before.as_slice()).expect(name).to_vec()).unwrap();
        let line: Value = serde_json::from_str(added.trim()).unwrap_or_else(|error| panic!("{name}: {error}: {added}"));
        assert_eq!(line["id"], run, "{name}");
        assert!(added.len() < 4096 && added.ends_with('\n'), "{name}: {added}");
    }
}

#[test]
fn without_a_place_for_its_history_line_a_run_is_not_lost() {
    for supervisor_lives in [true, false] {
        let (home, mut server) = healthy();
        let run = server.start_run("Waits", "echo done; test -e go || exec sleep 300", json!({}));
        server.wait_for_log(&run, "done");
        let path = home.root().join("history.jsonl");
        fs::create_dir(&path).unwrap();
        if !supervisor_lives {
            home.noted(&run, "supervisor").kill();
        }
        home.noted(&run, "agent").kill();
        wait_for(PATIENCE, "its outcome, or that it is dead", || {
            let problems = server.problems();
            let named = problems.iter().any(|one| one["path"] == path.to_str().unwrap());
            assert!(named, "{problems:?}");
            assert!(home.entry(&run).exists(), "it is not over before it is in the history");
            if supervisor_lives {
                return home.outcome(&run).map(|_| ());
            }
            let failed = server.clean_up()["failed"].clone();
            failed
                .as_array()
                .unwrap()
                .iter()
                .any(|one| one["run"] == run && one["error"].as_str().unwrap().contains("history.jsonl"))
                .then_some(())
        });
        assert!(server.find_run(&run).is_some());
        fs::remove_dir(&path).unwrap();
        wait_until("the end of its entry", || {
            server.clean_up();
            !home.entry(&run).exists()
        });
        assert_eq!(home.history(&run).len(), 1);
        let status = if supervisor_lives { "failed" } else { "lost" };
        assert_eq!(server.run(&run)["status"], status);
        assert_eq!(home.outcome(&run).unwrap()["status"], status);
    }
}
