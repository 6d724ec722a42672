//! Routines by tool and by hand: shown, changed, deleted.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Scene, Server, SetOnDrop, TestHome, assert_has, assert_says, text, wait_until};
use serde_json::{Value, json};

fn definition_of(home: &TestHome, slug: &str) -> String {
    home.read(format!("routines/{slug}/routine.toml"))
}

#[test]
fn a_routine_is_shown_with_its_prompt_its_settings_and_its_newest_runs() {
    let (_home, mut server) = Scene::new().agent("shell", "accept_env = [\"TOKEN\"]").start();
    let settings = json!({
        "ttl_secs": 60, "failed_ttl_secs": 90, "keep_last": 2, "max_daily_runs": 9, "max_runtime_secs": 30, "max_silence_secs": 20,
        "schedule": "0 9 * * 1-5", "timezone": "Europe/Berlin", "overlap": "queue", "catch_up": "none",
        "max_consecutive_failures": 3, "retry": { "max_attempts": 2, "backoff_secs": 5 },
        "repositories": [{ "url": "https://example.com/a.git", "branch": "main", "directory": "src" }],
    });
    let mut more = settings.clone();
    more["env"] = json!({ "TOKEN": "hidden" });
    let routine = server.create("Whole", "echo whole", more);
    server.ok("update_routine", json!({ "routine": routine, "clear": ["repositories", "schedule"] }));
    let run = server.run_to(&routine, "succeeded");
    let shown = server.ok("get_routine", json!({ "routine": routine }));
    assert_eq!(shown["prompt"], "echo whole");
    let mut expected = settings;
    for cleared in ["repositories", "schedule"] {
        expected.as_object_mut().unwrap().remove(cleared);
    }
    assert_eq!(shown["settings"], expected);
    assert_eq!(shown["routine"]["env_keys"], json!(["TOKEN"]));
    assert!(!shown.to_string().contains("hidden"), "{shown}");
    let runs = shown["recent_runs"].as_array().unwrap();
    assert_eq!((runs.len(), &runs[0]["run"], &runs[0]["status"]), (1, &json!(run), &json!("succeeded")));
    assert!(server.error("get_routine", json!({ "routine": "whol" })).contains("'whole'"));
}

#[test]
fn an_update_changes_what_is_given_and_nothing_else() {
    let (home, mut server) = Scene::new().agent("shell", "accept_env = [\"A\"]").start();
    let more = json!({ "ttl_secs": 60, "tags": ["a", "b"], "env": { "A": "1" } });
    let routine = server.create("Before", "echo one", more);
    let before = server.ok("get_routine", json!({ "routine": routine }));
    let file = definition_of(&home, &routine);
    server.ok("update_routine", json!({ "routine": routine, "ttl_secs": 60, "keep_last": null }));
    assert_eq!(definition_of(&home, &routine), file, "nothing differs");

    let change =
        json!({ "routine": routine, "title": "After", "prompt": "echo two", "tags": ["c"], "overlap": "allow" });
    let changed = server.ok("update_routine", change)["routine"].clone();
    assert_has(&changed, json!({ "slug": "before", "title": "After", "tags": ["c"] }));
    assert_has(&changed, json!({ "ttl_secs": 60, "env_keys": ["A"] }));
    assert_eq!(changed["created_at"], before["routine"]["created_at"]);
    let shown = server.ok("get_routine", json!({ "routine": routine }));
    assert_eq!((&shown["prompt"], &shown["settings"]["overlap"]), (&json!("echo two"), &json!("allow")));

    server.ok("update_routine", json!({ "routine": routine, "clear": ["ttl_secs", "env"], "overlap": "skip" }));
    let shown = server.ok("get_routine", json!({ "routine": routine }));
    assert_has(&shown["routine"], json!({ "ttl_secs": 86_400, "env_keys": [] }));
    assert_eq!(shown["settings"], json!({}));
}

#[test]
fn a_refused_update_changes_nothing_and_says_why() {
    let (home, mut server) = Scene::new().start();
    let routine = server.create("Same", "echo same", json!({ "ttl_secs": 60 }));
    let before = definition_of(&home, &routine);
    let cases: [(Value, &[&str]); 11] = [
        (json!({ "ttl_secs": 0 }), &["`ttl_secs`", "is 0", "between 1 and 2592000"]),
        (json!({ "title": "  " }), &["`title`"]),
        (json!({ "agent": "nobody" }), &["nobody", "list_agents"]),
        (json!({ "prompt": "" }), &["`prompt`", "write it down"]),
        (json!({ "prompt": "echo other", "keep_last": u64::MAX }), &["`keep_last`", "at most 1000000"]),
        (json!({ "env": { "PATH": "/x" } }), &["PATH"]),
        (json!({ "retry": { "max_attempts": 1, "backoff_secs": 1 } }), &["retry.max_attempts"]),
        (json!({ "retry": { "max_attempts": 2, "backof": 1 } }), &["retry", "backof"]),
        (json!({ "clear": ["title"] }), &["`clear[0]`", "title", "`ttl_secs`"]),
        (json!({ "clear": ["ttl_secs"], "ttl_secs": 5 }), &["`clear`", "ttl_secs", "do one of the two"]),
        (json!({ "overlap": "both" }), &["`overlap`", "`queue`"]),
    ];
    for (change, parts) in cases {
        let mut arguments = json!({ "routine": routine });
        arguments.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let error = server.error("update_routine", arguments);
        for part in parts {
            assert!(error.contains(part), "{part} is missing in: {error}");
        }
    }
    assert_eq!(definition_of(&home, &routine), before);
    assert_eq!(server.ok("get_routine", json!({ "routine": routine }))["prompt"], "echo same");
    fs::remove_dir_all(home.root().join("routines/same")).unwrap();
    let gone = server.error("update_routine", json!({ "routine": routine, "ttl_secs": 5 }));
    assert!(gone.contains("no routine 'same'") && !home.root().join("routines/same").exists(), "{gone}");
}

#[test]
fn what_a_person_edits_is_seen_at_once_and_their_comments_stay() {
    let (home, mut server) = Scene::new().start();
    let routine = server.create("Mine", "echo tool", json!({ "ttl_secs": 60 }));
    let written = definition_of(&home, &routine);
    let edited = format!("# My own.\n{}", written.replace("ttl_secs = 60", "# short\nttl_secs = 77 # for now"));
    home.write("routines/mine/routine.toml", &edited);
    home.write("routines/mine/prompt.md", "echo hand");
    assert_eq!(server.ok("list_routines", json!({}))["routines"][0]["ttl_secs"], 77);
    let run = server.run_to(&routine, "succeeded");
    assert_eq!(server.log(&run), "hand\n");

    server.ok("update_routine", json!({ "routine": routine, "enabled": false, "keep_last": 1 }));
    let after = definition_of(&home, &routine);
    let kept = |line: &&str| !line.starts_with("updated_at") && !line.starts_with("enabled");
    let added: Vec<&str> = after.lines().filter(|line| !edited.lines().any(|old| old == *line)).filter(kept).collect();
    assert_eq!(added, ["keep_last = 1"]);
    assert!(edited.lines().filter(kept).all(|line| after.contains(line)), "{after}");
    assert!(server.error("trigger_routine", json!({ "routine": routine })).contains("enable it with update_routine"));
    home.write("routines/mine/routine.toml", &after.replace("enabled = false", "enabled = true"));
    server.run_to(&routine, "succeeded");
}

#[test]
fn a_routine_that_a_person_broke_is_named_and_leaves_the_others_working() {
    let (home, mut server) = Scene::new().start();
    let (broken, good) = (server.create("Broken", "true", json!({})), server.create("Good", "true", json!({})));
    let whole = definition_of(&home, &broken);
    for (damage, problem) in [
        (whole.replace("title = ", "titel = "), "titel"),
        (whole.replace("agent = ", "agent "), "line 2"),
        (whole.replace("enabled = true", "max_runtime_secs = 0"), "max_runtime_secs"),
    ] {
        home.write("routines/broken/routine.toml", &damage);
        for (tool, arguments) in [
            ("get_routine", json!({ "routine": broken })),
            ("trigger_routine", json!({ "routine": broken })),
            ("update_routine", json!({ "routine": broken, "ttl_secs": 5 })),
        ] {
            let error = server.error(tool, arguments);
            assert!(error.contains("routines/broken/routine.toml") && error.contains(problem), "{tool}: {error}");
        }
        assert_eq!(definition_of(&home, &broken), damage, "nothing is written over");
        let listed = server.ok("list_routines", json!({}));
        assert_eq!((&listed["total"], &listed["routines"][0]["slug"]), (&json!(2), &json!("good")));
        assert!(text(&server.problems()[0]["path"]).ends_with("routines/broken/routine.toml"));
        server.run_to(&good, "succeeded");
    }
    server.ok("delete_routine", json!({ "routine": broken }));
    assert_eq!(server.ok("list_routines", json!({}))["total"], 1);
    assert!(server.problems().is_empty());
    let prompt = home.root().join(format!("routines/{}/prompt.md", server.create("No prompt", "x", json!({}))));
    std::fs::remove_file(&prompt).unwrap();
    let problems = server.problems();
    assert!(problems.len() == 1 && text(&problems[0]["problem"]).contains("prompt.md"), "{problems:?}");
}

#[test]
fn a_routine_with_a_live_run_is_deleted_only_with_its_run() {
    let (home, mut server) = Scene::new().start();
    let routine = server.create("Busy", "exec sleep 300", json!({}));
    let first = server.trigger(&routine);
    let more = json!({ "routine": routine, "overlap": "allow" });
    let second = text(&server.ok("trigger_routine", more)["run"]["id"]);
    let refused = server.error("delete_routine", json!({ "routine": routine }));
    assert_says(&refused, &[first.as_str(), second.as_str(), "confirm = true"]);
    assert_eq!(server.run(&first)["status"], "running");
    let deleted = server.ok("delete_routine", json!({ "routine": routine, "confirm": true }));
    assert_has(&deleted, json!({ "deleted": routine, "stopped": [first, second] }));
    for run in [&first, &second] {
        let run = server.run(run);
        assert_eq!(run["status"], "stopped", "{run}");
        assert!(text(&run["status_reason"]).contains("'busy' was deleted"), "{run}");
    }
    assert!(!home.root().join("routines/busy").exists());
    for tool in ["delete_routine", "get_routine", "update_routine", "trigger_routine"] {
        assert!(server.error(tool, json!({ "routine": routine })).contains("no routine 'busy'"));
    }
    // Its finished runs are orphans now: they fall back to the ceiling.
    assert!(server.clean_up()["removed"].as_array().unwrap().is_empty());
    assert_eq!(server.create("Busy", "true", json!({})), routine);
}

#[test]
fn a_deleted_routine_is_in_the_archive_whole() {
    let (home, mut server) = Scene::new().start();
    let mut kept = Vec::new();
    for round in 0..3 {
        let routine = server.create("Mine", &format!("echo {round}"), json!({ "schedule": "@yearly" }));
        home.write("routines/mine/notes.md", &format!("note {round}"));
        home.write("routines/mine/deeper/data", "as it was");
        if round == 1 {
            home.write("routines/mine/routine.toml", "damaged");
        }
        let deleted = server.ok("delete_routine", json!({ "routine": routine }));
        let archived = std::path::PathBuf::from(text(&deleted["archived_to"]));
        assert_eq!(archived.parent().unwrap(), home.root().join("archive/routines"));
        let name = archived.file_name().unwrap().to_str().unwrap();
        assert!(name.strip_prefix("mine-").unwrap().parse::<u64>().is_ok(), "{name}");
        assert!(!home.root().join("routines/mine").exists());
        kept.push((archived, round));
    }
    server.clean_up();
    for (archived, round) in &kept {
        let read = |file: &str| fs::read_to_string(archived.join(file)).unwrap();
        assert_eq!((read("prompt.md"), read("notes.md")), (format!("echo {round}"), format!("note {round}")));
        assert_eq!((read("deeper/data"), read("routine.toml").contains("title")), ("as it was".into(), *round != 1));
    }
    // What comes back by hand is a routine again.
    fs::rename(&kept[2].0, home.root().join("routines/mine")).unwrap();
    let run = server.run_to("mine", "succeeded");
    assert_eq!(server.log(&run), "2\n");
}

#[test]
fn a_routine_whose_run_is_unknown_is_not_deleted() {
    let (home, mut server) = Scene::new().start();
    let routine = server.create("Odd", "exec sleep 300", json!({}));
    let run = server.trigger(&routine);
    home.change_json(format!("running/{run}/run.json"), |manifest| manifest["machine"]["machine_id"] = json!("other"));
    home.noted(&run, "supervisor").kill();
    let refused = crate::harness::wait_for(crate::harness::PATIENCE, "the run to be unknown", || {
        let refused = server.error("delete_routine", json!({ "routine": routine }));
        refused.contains("unknown").then_some(refused)
    });
    assert!(refused.contains(&run) && refused.contains("another machine"), "{refused}");
    let forced = server.error("delete_routine", json!({ "routine": routine, "confirm": true }));
    assert!(forced.contains(&run) && forced.contains("its state is unknown"), "{forced}");
    assert!(home.root().join("routines/odd").exists());
    home.noted(&run, "agent").kill();
}

#[test]
fn no_run_of_a_deleted_routine_is_left_however_it_is_triggered_meanwhile() {
    let (home, mut server) = Scene::new().start();
    let routine = server.create("Raced", "exec sleep 300", json!({}));
    let deleted = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (home, deleted, routine) = (&home, &deleted, &routine);
        scope.spawn(move || {
            let mut other = Server::start(home);
            while !deleted.load(Ordering::Relaxed) {
                other.call_tool("trigger_routine", json!({ "routine": routine }));
            }
        });
        let _until_then = SetOnDrop(deleted);
        let mut server = Server::start(home);
        crate::harness::wait_for(crate::harness::PATIENCE, "the first run", || {
            server.ok("list_runs", json!({}))["runs"][0].as_object().cloned()
        });
        wait_until("the routine to be deleted", || {
            let arguments = json!({ "routine": routine, "confirm": true });
            !server.call_tool("delete_routine", arguments).is_error
        });
    });
    let runs = server.ok("list_runs", json!({}));
    assert!(runs["runs"].as_array().unwrap().iter().all(|run| run["finished_at"].is_string()), "{runs}");
    assert_eq!(fs::read_dir(home.root().join("running")).unwrap().count(), 0);
}

#[test]
fn a_folder_whose_name_is_no_slug_is_named_in_health_and_by_the_doctor() {
    let (home, mut server) = Scene::new().start();
    server.create("Good", "true", json!({}));
    let path = home.root().join("routines/My Routine");
    std::fs::create_dir(&path).unwrap();
    std::fs::create_dir(home.root().join("routines/.git")).unwrap();
    home.write("routines/My Routine/prompt.md", "true");
    home.write("routines/My Routine/routine.toml", "title = \"Mine\"\nagent = \"shell\"\n");
    let problems = server.problems();
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert_eq!(problems[0]["path"], path.to_str().unwrap());
    assert!(text(&problems[0]["problem"]).contains("not a slug"), "{problems:?}");
    assert!(text(&problems[0]["fix"]).contains("routines/my-routine'"), "{problems:?}");
    let doctor = home.moadim(&["doctor"]);
    assert!(doctor.code == Some(1) && doctor.stdout.contains("My Routine"), "{doctor:?}");
    std::fs::rename(&path, home.root().join("routines/my-routine")).unwrap();
    assert!(server.problems().is_empty());
    assert_eq!(server.ok("list_routines", json!({}))["total"], 2);
}
