//! What comes before an agent's start: clones of repositories, and the agent's setup.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{PATIENCE, Scene, Server, TestHome, text, wait_for};
use serde_json::{Value, json};

/// Runs git as nobody in particular, and returns what it prints.
#[track_caller]
fn git(directory: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "init.defaultBranch=main"])
        .args(arguments)
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .output()
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A repository with one file, `file`, on the branch `main`.
struct Source(PathBuf);

impl Source {
    fn new(home: &TestHome, name: &str) -> Self {
        let path = home.scratch().canonicalize().unwrap().join(name);
        fs::create_dir(&path).unwrap();
        git(&path, &["init", "--quiet"]);
        let source = Self(path);
        source.commit("one");
        source
    }

    fn commit(&self, content: &str) {
        fs::write(self.0.join("file"), content).unwrap();
        git(&self.0, &["add", "--all"]);
        git(&self.0, &["commit", "--quiet", "--message", content]);
    }

    fn url(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

/// How many mirrors and locks of mirrors there are.
fn cached(home: &TestHome) -> usize {
    let names = fs::read_dir(home.root().join("cache")).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name != "paths").count()
}

fn mirrors(home: &TestHome) -> Vec<PathBuf> {
    let files = fs::read_dir(home.root().join("cache")).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "git")).collect()
}

#[track_caller]
fn finished(server: &mut Server, routine: &str) -> String {
    server.run_to(routine, "succeeded").id
}

/// Triggers a routine whose agent must not start, and returns what is said of that, with the run. On a busy machine a
/// trigger's 5 s may be over before, and then the run alone tells.
#[track_caller]
fn not_started(server: &mut Server, routine: &str, status: &str) -> (String, Value) {
    let answer = server.call_tool("trigger_routine", json!({ "routine": routine }));
    assert!(answer.is_error || answer.structured["run"]["status"] == "preparing", "{}", answer.text);
    let run = text(&server.ok("list_runs", json!({ "routine": routine }))["runs"][0]["id"]);
    let run = server.wait_for_run(&run, status);
    (if answer.is_error { answer.text } else { text(&run["status_reason"]) }, run)
}

#[test]
fn a_clone_is_there_before_the_agent_with_its_real_origin_and_nothing_in_common_with_the_mirror() {
    let home = TestHome::detached("");
    let source = Source::new(&home, "tool");
    let mut server = Server::start(&home);
    let routine = server.create("Clones", "cat tool/file", json!({ "repositories": [{ "url": source.url() }] }));
    let run = finished(&mut server, &routine);
    assert_eq!(server.log(&run), "one");
    let clone = home.workbench(&run).join("tool");
    assert_eq!(git(&clone, &["remote", "get-url", "origin"]), source.url());
    assert_eq!(git(&clone, &["status", "--porcelain", "--branch"]), "## main...origin/main");
    assert!(!clone.join(".git/objects/info/alternates").exists() && !clone.join(".git/hooks").exists());
    let mut files = vec![clone.join(".git/objects")];
    while let Some(path) = files.pop() {
        if path.is_dir() {
            files.extend(fs::read_dir(&path).unwrap().map(|file| file.unwrap().path()));
        } else {
            assert_eq!(path.metadata().unwrap().nlink(), 1, "{} is shared", path.display());
        }
    }
    // The mirror follows its source: contents, and which branch is the default.
    source.commit("two");
    git(&source.0, &["branch", "--quiet", "-m", "main", "trunk"]);
    let again = finished(&mut server, &routine);
    assert_eq!(server.log(&again), "two");
    assert_eq!(git(&home.workbench(&again).join("tool"), &["branch", "--show-current"]), "trunk");
    assert_eq!(mirrors(&home).len(), 1);
    // And may be removed at any time.
    fs::remove_dir_all(home.root().join("cache")).unwrap();
    finished(&mut server, &routine);
}

#[test]
fn a_branch_a_tag_and_a_directory_are_those_asked_for() {
    let home = TestHome::detached("");
    let source = Source::new(&home, "source.git");
    git(&source.0, &["tag", "v1"]);
    source.commit("two");
    git(&source.0, &["branch", "side/way"]);
    source.commit("three");
    let mut server = Server::start(&home);
    let url = format!("file://{}", source.url());
    let repositories = json!([
        { "url": url, "branch": "v1", "directory": "libs/tag" },
        { "url": url, "branch": "side/way", "directory": "libs/branch" },
        { "url": url },
    ]);
    let prompt = "cat libs/tag/file libs/branch/file source/file; git -C libs/branch branch --show-current";
    let routine = server.create("Three", prompt, json!({ "repositories": repositories }));
    let run = finished(&mut server, &routine);
    assert_eq!(server.log(&run), "onetwothreeside/way\n");
    assert_eq!(mirrors(&home).len(), 1, "one for all three");
}

#[test]
fn runs_at_the_same_time_share_one_mirror() {
    const RUNS: usize = 4;
    let home = TestHome::detached("");
    let source = Source::new(&home, "shared");
    let mut first = Server::start(&home);
    let routine = first.create("Shares", "cat shared/file", json!({ "repositories": [{ "url": source.url() }] }));
    let runs: Vec<String> = std::thread::scope(|scope| {
        let (home, routine) = (&home, &routine);
        let threads: Vec<_> = (0..RUNS)
            .map(|_| {
                scope.spawn(move || {
                    let mut server = Server::start(home);
                    let arguments = json!({ "routine": routine, "overlap": "allow" });
                    text(&server.ok("trigger_routine", arguments)["run"]["id"])
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for run in &runs {
        first.wait_for_run(run, "succeeded");
        assert_eq!(first.log(run), "one");
    }
    assert_eq!(mirrors(&home).len(), 1);
    let names = cached(&home);
    assert_eq!(names, 2, "the mirror and its lock");
}

#[test]
fn a_clone_that_fails_fails_the_launch_with_the_words_of_git() {
    let home = TestHome::detached("");
    let source = Source::new(&home, "there");
    let empty = home.scratch().join("empty");
    git(home.scratch(), &["init", "--quiet", "--bare", "empty"]);
    let mut server = Server::start(&home);
    let gone = home.scratch().join("not-there");
    git(&source.0, &["branch", "nope/further"]);
    let cases = [
        (json!({ "url": gone }), ["cannot clone", "not-there' does not exist", "by hand"]),
        (
            json!({ "url": source.url(), "branch": "nope" }),
            ["cannot clone", "no branch or tag 'nope' (its newest branches: main, nope/further)", "correct `branch`"],
        ),
        // Nobody listens there.
        (
            json!({ "url": "https://me:hidden@127.0.0.1:1/x.git" }),
            ["cannot clone", "https://me:***@127.0.0.1:1/x.git", "exited with status 128"],
        ),
    ];
    for (n, (repository, parts)) in cases.into_iter().enumerate() {
        let routine = server.create(&format!("Fails {n}"), "echo never", json!({ "repositories": [repository] }));
        let (error, run) = not_started(&mut server, &routine, "launch_failed");
        for part in parts {
            assert!(
                error.contains(part) && text(&run["status_reason"]).contains(part),
                "{part} is missing in: {error}"
            );
        }
        assert!(!error.contains("hidden") && !error.contains("mirror"), "{error}");
        assert!(!server.ok("get_routine", json!({ "routine": routine })).to_string().contains("hidden"));
        assert!(server.log(&text(&run["id"])).contains("cannot clone"));
    }
    // A mirror from before is no substitute for a source that cannot be reached.
    let routine = server.create("Stale", "true", json!({ "repositories": [{ "url": source.url() }] }));
    finished(&mut server, &routine);
    fs::rename(&source.0, &gone).unwrap();
    let (error, _) = not_started(&mut server, &routine, "launch_failed");
    assert!(error.contains("does not exist"), "{error}");
    fs::rename(&gone, &source.0).unwrap();
    finished(&mut server, &routine);
    // Nothing to check out is no failure.
    let routine = server.create("Empty", "test -d empty/.git", json!({ "repositories": [{ "url": empty }] }));
    finished(&mut server, &routine);
}

#[test]
fn a_damaged_mirror_is_made_again_whatever_the_damage() {
    let home = TestHome::detached("");
    let source = Source::new(&home, "tool");
    let mut server = Server::start(&home);
    let prompt = "git -C tool fsck --no-progress >&2 && cat tool/file";
    let routine =
        server.create("Clones", prompt, json!({ "repositories": [{ "url": source.url(), "branch": "main" }] }));
    finished(&mut server, &routine);
    let mirror = mirrors(&home).remove(0);
    let write = |path: &str, text: &str| {
        let path = mirror.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let remove = |path: &str| fs::remove_dir_all(mirror.join(path)).unwrap();
    let pack = || {
        let packs = fs::read_dir(mirror.join("objects/pack")).unwrap().map(|file| file.unwrap().path());
        packs.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "pack"))
    };
    type Damage<'a> = (&'a str, &'a dyn Fn());
    let damages: [Damage<'_>; 8] = [
        ("a ref's lock", &|| write("refs/heads/main.lock", "")),
        ("the packed refs' lock", &|| write("packed-refs.lock", "")),
        ("a ref that is none", &|| write("refs/heads/main", "nonsense")),
        ("packed refs that are none", &|| write("packed-refs", "nonsense\n")),
        ("settings that are none", &|| write("config", "[core\nnonsense")),
        ("no objects", &|| remove("objects")),
        ("no repository", &|| {
            remove("");
            fs::create_dir(&mirror).unwrap();
        }),
        ("a file", &|| {
            remove("");
            fs::write(&mirror, "").unwrap();
        }),
    ];
    for (n, (what, damage)) in damages.into_iter().enumerate() {
        damage();
        // So that there is something to fetch.
        source.commit(&format!("after {n}"));
        let run = finished(&mut server, &routine);
        let log = server.log(&run);
        assert!(log.ends_with(&format!("after {n}")), "{what}: {log}");
        // Git gets over the rest by itself.
        let hurts = !["the packed refs' lock"].contains(&what);
        assert_eq!(log.contains("cannot clone") && log.contains("its mirror was made again"), hurts, "{what}: {log}");
        assert_eq!(mirrors(&home), std::slice::from_ref(&mirror), "{what}");
        assert_eq!(cached(&home), 2, "{what}: the mirror and its lock");
    }
    // A pack that ends early, with nothing to fetch.
    let damaged = pack().expect("a pack, or objects of their own");
    fs::set_permissions(&damaged, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::OpenOptions::new().write(true).open(&damaged).unwrap().set_len(30).unwrap();
    let run = finished(&mut server, &routine);
    assert!(server.log(&run).ends_with("after 7"), "{}", server.log(&run));
}

#[test]
fn without_git_the_launch_fails_and_says_so() {
    let home = TestHome::detached("");
    let shell = home.script("sh-only", "exec /bin/sh \"$@\"");
    home.add_agent("only", &format!("command = {shell:?}\nlogin_shell = false\n"));
    let mut server = Server::start_with_env(&home, &[("PATH", home.scripts())]);
    let more = json!({ "agent": "only", "repositories": [{ "url": "/anywhere" }] });
    let routine = server.create("No git", "true", more);
    let (error, _) = not_started(&mut server, &routine, "launch_failed");
    assert!(error.contains("git was not found") && error.contains("install it"), "{error}");
}

#[test]
fn what_git_could_mistake_is_refused_by_tool_and_by_hand() {
    let (home, mut server) = Scene::new().start();
    let routine = server.create("Fine", "true", json!({}));
    for (repository, part) in [
        (json!({ "url": "--upload-pack=touch /tmp/x" }), "dash"),
        (json!({ "url": "ext::sh -c id" }), "runs a command"),
        (json!({ "url": "http://example.com/x" }), "use https"),
        (json!({ "url": "/x", "branch": "--upload-pack=id" }), "repositories.branch"),
        (json!({ "url": "/x", "directory": "../out" }), "without `..`"),
        (json!({ "url": "/x", "directory": "outcome.json" }), "taken"),
        (json!({ "url": "/x", "depth": 1 }), "depth"),
    ] {
        let create = json!({ "title": "New", "agent": "shell", "prompt": "true", "repositories": [repository] });
        for (tool, arguments) in [
            ("create_routine", create),
            ("update_routine", json!({ "routine": routine, "repositories": [repository] })),
        ] {
            let error = server.error(tool, arguments);
            assert!(error.contains(part), "{tool}: {error}");
        }
    }
    let file = home.root().join("routines/fine/routine.toml");
    let written = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{written}\n[[repositories]]\nurl = \"ext::sh -c id\"\n")).unwrap();
    let error = server.error("trigger_routine", json!({ "routine": routine }));
    assert!(error.contains("routine.toml") && error.contains("runs a command"), "{error}");
    assert_eq!(server.ok("list_runs", json!({}))["total"], 0);
}

#[test]
fn no_hook_and_no_template_of_a_person_runs_while_cloning() {
    let home = TestHome::detached("");
    let source = Source::new(&home, "hooked");
    let hooks = home.scratch().join("hooks");
    fs::create_dir_all(hooks.join("template/hooks")).unwrap();
    let ran = home.scratch().join("ran");
    for name in ["post-checkout", "post-index-change", "reference-transaction"] {
        let hook = home.script(name, &format!("touch {}", ran.display()));
        fs::copy(&hook, hooks.join(name)).unwrap();
        fs::copy(&hook, hooks.join("template/hooks").join(name)).unwrap();
    }
    let settings = format!("[core]\nhooksPath = {0}\n[init]\ntemplateDir = {0}/template\n", hooks.display());
    fs::write(home.user().join(".gitconfig"), settings).unwrap();
    let mut server = Server::start(&home);
    let routine = server.create("Hooked", "cat hooked/file", json!({ "repositories": [{ "url": source.url() }] }));
    let run = finished(&mut server, &routine);
    assert!(!ran.exists() && !home.workbench(&run).join("hooked/.git/hooks").exists());
}

#[test]
fn a_clone_that_hangs_is_stopped_and_so_is_one_that_waits_for_it() {
    let home = TestHome::detached("");
    let source = Source::new(&home, "slow");
    let git = home.script("git", "for last; do :; done; mkdir -p \"$last\"; exec sleep 300");
    let command = || {
        let mut command = home.command();
        command.env("PATH", home.path_with_scripts());
        command
    };
    let mut server = Server::start_with(command());
    let mut other = Server::start(&home);
    let mut runs = Vec::new();
    let mut calls = Vec::new();
    for title in ["Hangs", "Waits"] {
        let routine = server.create(title, "cat slow/file", json!({ "repositories": [{ "url": source.url() }] }));
        calls.push(server.send_call("trigger_routine", json!({ "routine": routine })));
        runs.push(wait_for(PATIENCE, "the run to be prepared", || {
            let run = text(other.ok("list_runs", json!({ "routine": routine }))["runs"].get(0)?.get("id")?);
            (home.entry(&run).join("supervisor.json").exists() && !home.processes_named("sleep").is_empty())
                .then_some(run)
        }));
    }
    for run in runs.iter().rev() {
        let stopped = other.stop(run);
        assert_eq!(stopped["status"], "stopped", "{stopped}");
    }
    calls.into_iter().for_each(|call| assert_stopped_or_preparing(&mut server, call));
    assert!(home.processes_named("sleep").is_empty(), "{:?}", home.processes());
    // What the first has left is no hindrance.
    assert_eq!((mirrors(&home).len(), cached(&home)), (0, 2));
    fs::remove_file(git).unwrap();
    finished(&mut server, "hangs");
    assert_eq!((mirrors(&home).len(), cached(&home)), (1, 2));
}

/// Adds an agent whose setup waits for the file `go` beside the home, and then does `then`.
fn add_patient(home: &TestHome, then: &str) -> PathBuf {
    let go = home.scratch().join("go");
    let script =
        format!("cd {{workbench}}; echo setting up; until [ -e {} ]; do sleep 0.05; done; {then}", go.display());
    home.add_agent("patient", &format!("command = 'sh'\nsetup = ['sh', '-c', {script:?}]\n"));
    go
}

#[test]
fn a_setup_that_takes_long_is_answered_with_preparing() {
    let home = TestHome::detached("");
    let go = add_patient(&home, "echo made > made");
    let mut server = Server::start(&home);
    let routine = server.create("Slow", "cat made; echo $MOADIM_RUN", json!({ "agent": "patient" }));
    let began = Instant::now();
    let answer = server.ok("trigger_routine", json!({ "routine": routine }))["run"].clone();
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(answer["status"], "preparing", "{answer}");
    assert!(answer.get("started_at").is_none());
    let run = text(&answer["id"]);
    server.wait_for_log(&run, "setting up\n");
    assert_eq!(server.log(&run), "setting up\n");
    assert!(server.error("trigger_routine", json!({ "routine": routine })).contains("alive"));
    assert!(server.clean_up()["killed"].as_array().unwrap().is_empty());
    fs::write(&go, "").unwrap();
    server.wait_for_run(&run, "succeeded");
    assert_eq!(server.log(&run), format!("setting up\nmade\n{run}\n"));
}

/// Triggers a routine without waiting for the answer, until its setup is at work; returns the call and the run.
fn trigger_until_setup(server: &mut Server, other: &mut Server, routine: &str) -> (u64, String) {
    let call = server.send_call("trigger_routine", json!({ "routine": routine }));
    let run = wait_for(PATIENCE, "the setup", || {
        let run = text(other.ok("list_runs", json!({ "routine": routine }))["runs"].get(0)?.get("id")?);
        other.log(&run).contains("setting up").then_some(run)
    });
    (call, run)
}

/// Looks at the answer to a trigger whose run was stopped: on a busy machine its 5 s may have been over before that.
#[track_caller]
fn assert_stopped_or_preparing(server: &mut Server, call: u64) {
    let answer = server.tool_answer(call);
    if answer.is_error {
        assert!(answer.text.contains("stopped on request"), "{}", answer.text);
    } else {
        assert_eq!(answer.structured["run"]["status"], "preparing", "{}", answer.text);
    }
}

#[test]
fn a_run_is_stopped_while_it_is_prepared() {
    let home = TestHome::detached("");
    add_patient(&home, "true");
    let (mut server, mut other) = (Server::start(&home), Server::start(&home));
    let routine = server.create("Stopped", "echo never", json!({ "agent": "patient" }));
    let (call, run) = trigger_until_setup(&mut server, &mut other, &routine);
    let stopped = other.stop(&run);
    assert_eq!(stopped["status"], "stopped", "{stopped}");
    assert!(["started_at", "signal", "exit_code"].iter().all(|key| stopped.get(*key).is_none()), "{stopped}");
    assert_stopped_or_preparing(&mut server, call);
    assert!(home.processes_named("sh").is_empty(), "{:?}", home.processes());
}

#[test]
fn a_run_past_its_bound_is_ended_while_it_is_prepared() {
    let home = TestHome::detached("");
    add_patient(&home, "true");
    let mut server = Server::start(&home);
    let more = json!({ "agent": "patient", "max_runtime_secs": 1 });
    let routine = server.create("Bound", "echo never", more);
    let (error, run) = not_started(&mut server, &routine, "timed_out");
    assert!(error.contains("exceeded max runtime"), "{error}");
    assert!(text(&run["status_reason"]).contains("exceeded max runtime"), "{run}");
}

#[test]
fn a_run_whose_supervisor_dies_while_it_is_prepared_is_ended_at_its_bound() {
    let home = TestHome::detached("");
    add_patient(&home, "true");
    let (mut server, mut other) = (Server::start(&home), Server::start(&home));
    let routine = server.create("Orphaned", "echo never", json!({ "agent": "patient", "max_runtime_secs": 600 }));
    let (call, run) = trigger_until_setup(&mut server, &mut other, &routine);
    let supervisor = home.processes().into_iter().find(|process| process.command.contains("supervise")).unwrap();
    supervisor.kill();
    server.tool_answer(call);
    home.set_bound(&routine, 1);
    wait_for(PATIENCE, "the run to be ended", || {
        other.clean_up();
        let run = other.run(&run);
        (run["status"] != "preparing").then(|| assert_ne!(run["status"], "running", "{run}"))
    });
    assert!(home.processes_named("sh").is_empty(), "{:?}", home.processes());
}

#[test]
fn a_setup_that_fails_fails_the_launch_with_its_last_words() {
    let home = TestHome::detached("");
    home.add_agent("fails", "command = 'sh'\nsetup = ['sh', '-c', 'echo out; echo no licence >&2; exit 7']\n");
    home.add_agent("none", "command = 'sh'\nsetup = ['no-such-setup']\n");
    home.add_agent("leaves", "command = 'sh'\nsetup = ['sh', '-c', 'sleep 300 & echo left']\n");
    let mut server = Server::start(&home);
    for (agent, parts) in [
        ("fails", ["setup command sh exited with status 7", "out; no licence"]),
        ("none", ["its setup failed", "'no-such-setup' was not found"]),
    ] {
        let routine = server.create(agent, "echo never", json!({ "agent": agent }));
        let (error, run) = not_started(&mut server, &routine, "launch_failed");
        assert!(run.get("exit_code").is_none(), "{run}");
        for part in parts {
            assert!(
                error.contains(part) && text(&run["status_reason"]).contains(part),
                "{part} is missing in: {error}"
            );
        }
        assert!(!server.log(&text(&run["id"])).contains("never"));
    }
    // What a setup leaves running serves the agent, and ends with it.
    let routine = server.create("leaves", "echo agent", json!({ "agent": "leaves" }));
    let run = finished(&mut server, &routine);
    assert_eq!(server.log(&run), "left\nagent\n");
    assert!(home.processes_named("sleep").is_empty());
    let broken: Value = json!(server.problems());
    assert_eq!(broken, json!([]));
}
